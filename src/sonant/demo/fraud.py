"""The demo's second chapter: two of the speakers are known fraudsters, and then everybody wants to enroll;
so do a machine's voice, and a thief with somebody's recording."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from sonant.assembly.installation import role_arn
from sonant.cli.common import client, table
from sonant.cli.jobs import follow
from sonant.demo.attacks import copied_call
from sonant.demo.recordings import ManifestEntry, call_recording, write_manifest, write_registration_manifest
from sonant.errors import SetupError
from sonant.settings import Settings

FOLDER = "fraud"
#: Fraudsters' calls that were recorded: more than the 30 s of net speech that a registration needs.
SPEECH_S = 38.0
FRAUDSTERS = 2

#: Caller, his voice's clips that no enrollment call is made of, his enrollment calls.
Voices = Mapping[str, tuple[Sequence[Path], Sequence[str]]]


def tell(
    settings: Settings,
    bucket: Path,
    voices: Voices,
    alike: Mapping[str, Mapping[str, float]],
    *,
    seed: int,
    quiet: bool,
    say: Callable[[str], None],
    fetch: Callable[[str], Any],
    machine: bytes | None,
) -> tuple[str, list[str]]:
    """Run the chapter; `machine` is a call with a synthesised voice, left out when there is none.

    `alike` is how similar each caller's fresh recording is to every enrolled speaker.
    Gives the domain, in which everybody is enrolled at the end, and who the fraudsters are. Raises SetupError
    when somebody is refused or enrolled who must not be.
    """
    service, root = client(settings), f"s3://{bucket.name}/{FOLDER}"
    fraudsters = _unlike_the_others(alike)
    say(f"registering {' and '.join(fraudsters)} as fraudsters")
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
        """Carry a job to its end; its result file."""
        begin, describe = (getattr(service, f"{verb}_{kind}_job") for verb in ("start", "describe"))
        job_id = begin(**start, InputDataConfig={"S3Uri": f"{root}/{manifest}"}, **config)["Job"]["JobId"]
        job = follow(describe, domain["DomainId"], job_id, label=kind.split("_")[1], quiet=quiet)
        if job["JobStatus"] == "FAILED":
            raise SetupError(f"the job failed: {job['FailureDetails']['Message']}")
        return dict(fetch(f"{root}/results/{job_id}/{manifest}.out"))

    registered = run("fraudster_registration", "fraudsters.json")
    statuses = [line["RegistrationStatus"] for line in registered["SuccessfulRegistrations"]]
    if statuses != ["NEW_REGISTRATION"] * FRAUDSTERS:
        raise SetupError(f"the fraudsters were not registered: {json.dumps(registered)}")

    def enroll(action: str, manifest: str = "everybody.json") -> dict[str, str]:
        fraud = {"FraudDetectionConfig": {"FraudDetectionAction": action}}
        result = run("speaker_enrollment", manifest, EnrollmentConfig=fraud)
        told = {line["RequestId"]: line["ErrorMessage"] for line in result["Errors"]}
        return told | {
            line["RequestId"]: line["EnrollmentStatus"] for line in result["SuccessfulEnrollments"]
        }

    say("enrolling everybody with FraudDetectionAction FAIL")
    failing = enroll("FAIL")
    honest = next(caller for caller in voices if failing[caller] == "NEW_ENROLLMENT")
    synthesised = "a machine's voice, and " if machine else ""
    say(f"enrolling {synthesised}a copy of {honest}'s calls under another id")
    attacks = _attacks(bucket, root, voices[honest][1], machine, seed)
    attacked = enroll("FAIL", "attacks.json")
    say("enrolling everybody with FraudDetectionAction IGNORE")
    ignoring = enroll("IGNORE")
    click.echo("\nTwo speakers are registered as fraudsters, from other calls; then everybody is enrolled:\n")
    rows = [(caller, failing[caller], ignoring[caller]) for caller in voices]
    click.echo(table(rows, ("speaker", "with FAIL", "then with IGNORE")))
    for caller in voices:
        known = caller in fraudsters
        if ("KnownFraudsterRisk" in failing[caller]) != known:
            raise SetupError(f"{caller} was {'not ' if known else ''}taken for a known fraudster")
        if ignoring[caller] != ("NEW_ENROLLMENT" if known else "DUPLICATE_SKIPPED"):
            raise SetupError(f"{caller}: {ignoring[caller]}")
    click.echo("\nThe two fraudsters were refused with FAIL and enrolled with IGNORE.\n")
    click.echo("New callers, with FAIL, whose recordings are not what they seem:\n")
    click.echo(table([(told, attacked[name]) for name, told in attacks.items()], ("recording", "outcome")))
    if not all("VoiceSpoofingRisk" in attacked[name] for name in attacks):
        raise SetupError("a recording that is not its caller's own voice was not found out")
    click.echo("\nNone of them was enrolled.\n")
    return domain["DomainId"], fraudsters


def _unlike_the_others(alike: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Those who resemble nobody else much: with so few speakers a resemblance would be chance."""
    closest = {
        caller: max(max(found[other], alike[other][caller]) for other in alike if other != caller)
        for caller, found in alike.items()
    }
    return sorted(sorted(closest, key=lambda caller: closest[caller])[:FRAUDSTERS])


def _record(folder: Path, root: str, voices: Voices, fraudsters: Sequence[str], seed: int) -> None:
    """The fraudsters' own calls, and a manifest for each kind of job."""
    folder.mkdir(mode=0o700)
    calls = []
    for number, caller in enumerate(fraudsters):
        clips, _ = voices[caller]
        recording = call_recording(clips, np.random.default_rng([seed, number]), net_speech_s=SPEECH_S)
        (folder / f"{caller}.wav").write_bytes(recording)
        calls.append((f"fraudster-{number + 1}", [(f"{root}/{caller}.wav", 0)]))
    (folder / "fraudsters.json").write_bytes(write_registration_manifest(calls))
    everybody = [
        ManifestEntry(request_id=caller, speaker_id=caller, audio=[(uri, 0) for uri in uris])
        for caller, (_, uris) in voices.items()
    ]
    (folder / "everybody.json").write_bytes(write_manifest(everybody))


def _attacks(
    bucket: Path, root: str, victims_calls: Sequence[str], machine: bytes | None, seed: int
) -> dict[str, str]:
    """Recordings that must not be enrolled, and a manifest of them; what each is, by request id."""
    attacks = {"copy": "somebody else's calls, played again over another line"}
    stolen = [bucket / uri.partition(f"{bucket.name}/")[2] for uri in victims_calls]
    calls = {"copy": [copied_call(file.read_bytes(), seed + n) for n, file in enumerate(stolen)]}
    if machine is not None:
        attacks["machine"], calls["machine"] = "a synthesised voice (espeak-ng)", [machine]
    entries = []
    for name, recordings in calls.items():
        audio = []
        for number, recording in enumerate(recordings, 1):
            (bucket / FOLDER / f"{name}-{number}.wav").write_bytes(recording)
            audio.append((f"{root}/{name}-{number}.wav", 0))
        entries.append(ManifestEntry(request_id=name, speaker_id=f"new-caller-{name}", audio=audio))
    (bucket / FOLDER / "attacks.json").write_bytes(write_manifest(entries))
    return attacks
