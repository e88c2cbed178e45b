"""The demo's second chapter: enrollment with fraud detection.

Two of the speakers are registered as fraudsters before all speakers are enrolled; a synthesised voice and
copied recordings of another speaker are enrolled, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sonant.assembly.installation import role_arn
from sonant.cli.context import CliContext, table
from sonant.cli.job import follow
from sonant.cli.service_client import client
from sonant.demo.attacks import copied_call
from sonant.demo.recordings import ManifestEntry, call_recording, write_manifest, write_registration_manifest
from sonant.errors import SetupError
from sonant.settings import Settings

FOLDER = "fraud"
#: Fraudsters' calls that were recorded: more than the 30 s of net speech that a registration needs.
SPEECH_S = 38.0
FRAUDSTERS = 2

#: By caller: clips that are in no enrollment call, and the enrollment calls.
Voices = Mapping[str, tuple[Sequence[Path], Sequence[str]]]


def run_chapter(
    cli: CliContext,
    settings: Settings,
    bucket: Path,
    voices: Voices,
    similarities: Mapping[str, Mapping[str, float]],
    *,
    seed: int,
    fetch: Callable[[str], Any],
    synthetic_call: bytes | None,
) -> tuple[str, list[str], dict[str, dict[str, str]]]:
    """Run the chapter; `synthetic_call` is a call with a synthesised voice, left out when there is none.

    `similarities` are those of each caller's fresh recording to every enrolled speaker; `fetch` reads a
    result file. Returns the domain, in which all callers are enrolled at the end, the fraudsters, and the
    outcomes of each job by request. Raises SetupError when a request is refused or enrolled that must not be.
    """
    service, root = client(settings), f"s3://{bucket.name}/{FOLDER}"
    fraudsters = _least_similar(similarities)
    cli.report(f"registering {' and '.join(fraudsters)} as fraudsters")
    _record(bucket / FOLDER, root, voices, fraudsters, seed)
    domain = service.create_domain(
        Name="demo-fraud", ServerSideEncryptionConfiguration={"KmsKeyId": "alias/sonant"}
    )["Domain"]
    start = {
        "DomainId": domain["DomainId"],
        "DataAccessRoleArn": role_arn(settings),
        "OutputDataConfig": {"S3Uri": f"{root}/results"},
    }

    def run(kind: str, manifest: str, **config: Any) -> dict[str, Any]:
        """Run a job to its end; returns its result file."""
        start_job, describe = (getattr(service, f"{verb}_{kind}_job") for verb in ("start", "describe"))
        job_id = start_job(**start, InputDataConfig={"S3Uri": f"{root}/{manifest}"}, **config)["Job"]["JobId"]
        job = follow(cli, describe, domain["DomainId"], job_id, label=kind.split("_")[1])
        if job["JobStatus"] == "FAILED":
            raise SetupError(f"the job failed: {job['FailureDetails']['Message']}")
        return dict(fetch(f"{root}/results/{job_id}/{manifest}.out"))

    registered = run("fraudster_registration", "fraudsters.json")
    statuses = [line["RegistrationStatus"] for line in registered["SuccessfulRegistrations"]]
    if statuses != ["NEW_REGISTRATION"] * FRAUDSTERS:
        raise SetupError(f"the fraudsters were not registered: {json.dumps(registered)}")

    def enroll(action: str, manifest: str = "callers.json") -> dict[str, str]:
        fraud = {"FraudDetectionConfig": {"FraudDetectionAction": action}}
        result = run("speaker_enrollment", manifest, EnrollmentConfig=fraud)
        errors = {line["RequestId"]: line["ErrorMessage"] for line in result["Errors"]}
        return errors | {
            line["RequestId"]: line["EnrollmentStatus"] for line in result["SuccessfulEnrollments"]
        }

    cli.report("enrolling all callers with FraudDetectionAction FAIL")
    failing = enroll("FAIL")
    honest = next(caller for caller in voices if failing[caller] == "NEW_ENROLLMENT")
    synthesised = "a synthesised voice, and " if synthetic_call else ""
    cli.report(f"enrolling {synthesised}a copy of {honest}'s calls under another id")
    attacks = _attacks(bucket, root, voices[honest][1], synthetic_call, seed)
    attacked = enroll("FAIL", "attacks.json")
    cli.report("enrolling all callers with FraudDetectionAction IGNORE")
    ignoring = enroll("IGNORE")
    cli.print_text("\nTwo speakers are registered as fraudsters, from other calls; then all are enrolled:\n")
    rows = [(caller, failing[caller], ignoring[caller]) for caller in voices]
    cli.print_text(table(rows, ("speaker", "with FAIL", "then with IGNORE")))
    for caller in voices:
        known = caller in fraudsters
        if ("KnownFraudsterRisk" in failing[caller]) != known:
            raise SetupError(f"{caller} was {'not ' if known else ''}taken for a known fraudster")
        if ignoring[caller] != ("NEW_ENROLLMENT" if known else "DUPLICATE_SKIPPED"):
            raise SetupError(f"{caller}: {ignoring[caller]}")
    cli.print_text("\nThe two fraudsters were refused with FAIL and enrolled with IGNORE.\n")
    cli.print_text("New callers, with FAIL, whose recordings are not what they seem:\n")
    cli.print_text(
        table(
            [(description, attacked[name]) for name, description in attacks.items()], ("recording", "outcome")
        )
    )
    if not all("VoiceSpoofingRisk" in attacked[name] for name in attacks):
        raise SetupError("a recording that is not its caller's own voice was not detected")
    cli.print_text("\nNone of them was enrolled.\n")
    outcomes = {"FAIL": failing, "attacks": attacked, "IGNORE": ignoring}
    return domain["DomainId"], fraudsters, outcomes


def _least_similar(similarities: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Choose the callers least similar to others: among so few speakers a similarity is by chance."""
    closest = {
        caller: max(
            max(found[other], similarities[other][caller]) for other in similarities if other != caller
        )
        for caller, found in similarities.items()
    }
    return sorted(sorted(closest, key=lambda caller: closest[caller])[:FRAUDSTERS])


def _record(folder: Path, root: str, voices: Voices, fraudsters: Sequence[str], seed: int) -> None:
    """Write the fraudsters' own calls, and a manifest for each type of job."""
    folder.mkdir(mode=0o700)
    calls = []
    for number, caller in enumerate(fraudsters):
        clips, _ = voices[caller]
        recording = call_recording(clips, np.random.default_rng([seed, number]), net_speech_s=SPEECH_S)
        (folder / f"{caller}.wav").write_bytes(recording)
        calls.append((f"fraudster-{number + 1}", [(f"{root}/{caller}.wav", 0)]))
    (folder / "fraudsters.json").write_bytes(write_registration_manifest(calls))
    entries = [
        ManifestEntry(request_id=caller, speaker_id=caller, audio=[(uri, 0) for uri in uris])
        for caller, (_, uris) in voices.items()
    ]
    (folder / "callers.json").write_bytes(write_manifest(entries))


def _attacks(
    bucket: Path, root: str, copied_calls: Sequence[str], synthetic_call: bytes | None, seed: int
) -> dict[str, str]:
    """Write recordings that must not be enrolled, and their manifest; returns descriptions by request id."""
    attacks = {"copy": "another speaker's calls, played again over another line"}
    originals = [bucket / uri.partition(f"{bucket.name}/")[2] for uri in copied_calls]
    calls = {"copy": [copied_call(file.read_bytes(), seed + n) for n, file in enumerate(originals)]}
    if synthetic_call is not None:
        attacks["machine"], calls["machine"] = "a synthesised voice (espeak-ng)", [synthetic_call]
    entries = []
    for name, recordings in calls.items():
        audio = []
        for number, recording in enumerate(recordings, 1):
            (bucket / FOLDER / f"{name}-{number}.wav").write_bytes(recording)
            audio.append((f"{root}/{name}-{number}.wav", 0))
        entries.append(ManifestEntry(request_id=name, speaker_id=f"new-caller-{name}", audio=audio))
    (bucket / FOLDER / "attacks.json").write_bytes(write_manifest(entries))
    return attacks
