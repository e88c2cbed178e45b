"""`sonant demo`: enrollment, fraud detection and live calls with real telephone speakers.

Everything goes through the signed API. The first chapter enrolls in batch jobs, the second (`demo.fraud`) is
about fraud, the third (`demo.live`) about live calls.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from sonant.assembly.installation import role_arn
from sonant.cli.context import CliContext, Command, pass_cli, table
from sonant.cli.job import follow
from sonant.cli.service_client import client
from sonant.demo import fraud, live
from sonant.demo.attacks import SyntheticCalls, synthetic_calls
from sonant.demo.recordings import ManifestEntry, call_recording, split_clips, write_manifest
from sonant.demo.speech import DEFAULT, MIN_SPEAKERS, fetch_voices, voices_from_folder
from sonant.errors import SetupError
from sonant.settings import Settings

BUCKET = "calls"
SEED = 20
#: Net speech put into a fresh recording; a comparison needs ten seconds.
FRESH_SPEECH_S = 14.0
START_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """One speaker of the demo, as a customer of a contact centre."""

    voice: str
    customer_id: str
    fresh: tuple[Path, ...]
    """Clips that are in no enrollment call."""


@click.command(cls=Command)
@click.option(
    "--audio", type=click.Path(path_type=Path), help="Folder of recordings, one sub-folder a speaker."
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default=Path(".cache/speech"),
    show_default=True,
    help="Where fetched speech is kept.",
)
@click.option(
    "--keep", type=click.Path(path_type=Path), help="Keep the demo's data folder here; the same as --data."
)
@click.option(
    "--allow-missing", is_flag=True, help="End with success when this system cannot show all of it."
)
@pass_cli
def demo(cli: CliContext, audio: Path | None, cache: Path, keep: Path | None, allow_missing: bool) -> None:
    """Enroll real telephone speakers in a batch job and verify them, through the signed API.

    Fraud detection and live calls follow. A result that is not as expected ends it with an error, and so does
    a part that this system cannot show, unless --allow-missing.
    """
    keep = keep or cli.data
    clips = voices_from_folder(audio) if audio else fetch_voices(cache.absolute(), progress=cli.report)
    absent = [] if audio else [name for name in DEFAULT if name not in clips]
    missing = [f"the voice {name}, which this system's package sources do not carry" for name in absent]
    if len(clips) < MIN_SPEAKERS:
        raise SetupError(f"the demo needs {MIN_SPEAKERS} speakers, there are {len(clips)}")
    with tempfile.TemporaryDirectory(prefix="sonant-demo-") as folder:
        data = (keep or Path(folder) / "data").absolute()
        if data.exists() and any(data.iterdir()):
            raise SetupError(f"{data} is not empty; name another folder with --keep")
        cli.report(f"building call recordings of {len(clips)} speakers")
        callers = record_calls(data / "buckets" / BUCKET, clips)
        synthetic: SyntheticCalls | None = None
        try:
            synthetic = synthetic_calls(cache.absolute().parent / "synthesizers", SEED, cli.report)
        except SetupError as fault:
            missing.append(f"a synthesised voice that enrolls and calls, because {fault}")
            cli.report(f"left out: {missing[-1]}")
        document = _chapters(cli, Settings(data=data), callers, synthetic)
        if keep:
            cli.report(f"data folder kept: sonant serve --data {data}")
    if missing:
        cli.print_text("\n".join(["\nNot shown:", *missing]))
    cli.show(document | {"NotShown": missing}, ())
    if missing and not allow_missing:
        raise SetupError("the demo is not complete; with --allow-missing that is no error")


def _chapters(
    cli: CliContext, settings: Settings, callers: list[Caller], synthetic: SyntheticCalls | None
) -> dict[str, Any]:
    """Run the three chapters on a service of their own; returns the results. Raises SetupError."""
    bucket = settings.data / "buckets" / BUCKET
    with _service(settings.data):
        job, similarities = _enrollment_chapter(cli, settings, callers)
        domain_id, fraudsters, enrollments = fraud.run_chapter(
            cli,
            settings,
            bucket,
            {caller.customer_id: (caller.fresh, _calls(caller)) for caller in callers},
            similarities,
            seed=SEED,
            fetch=lambda uri: json.loads(_sonant(settings, "object", "get", uri)),
            synthetic_call=synthetic.enrollment if synthetic else None,
        )
        calls = live.run_chapter(
            cli,
            settings,
            bucket / fraud.FOLDER,
            domain_id,
            {caller.customer_id: bucket / "fresh" / f"{caller.customer_id}.wav" for caller in callers},
            fraudsters,
            synthetic_call=synthetic.live if synthetic else None,
        )
        cli.print_text("The first job, as `sonant voice-id describe-speaker-enrollment-job` shows it:\n")
        arguments = ("--domain-id", job["DomainId"], "--job-id", job["JobId"])
        shown = _sonant(settings, "voice-id", "describe-speaker-enrollment-job", *arguments)
        cli.print_text(shown)
    return {
        "Job": job,
        "Similarities": similarities,
        "Fraudsters": fraudsters,
        "EnrollmentOutcomes": enrollments,
        "LiveCalls": calls,
    }


def record_calls(bucket: Path, clips: dict[str, list[Path]]) -> list[Caller]:
    """Write two enrollment calls and a fresh one for each speaker, and a manifest with some bad requests."""
    for name in ("enrollment", "fresh"):
        (bucket / name).mkdir(parents=True, mode=0o700)
    callers, entries = [], []
    for number, (voice, own) in enumerate(clips.items(), 1):
        rng = np.random.default_rng([SEED, number])
        enrollment, fresh = split_clips(own, rng)
        others = [clip for name, theirs in clips.items() if name != voice for clip in theirs[:20]]
        customer_id = re.sub(r"[^A-Za-z0-9_-]", "-", f"caller-{number}-{voice}")
        caller = Caller(voice=voice, customer_id=customer_id, fresh=tuple(fresh))
        for call in (1, 2):
            recording = call_recording(enrollment, rng, net_speech_s=22, agent_clips=others)
            (bucket / "enrollment" / f"{caller.customer_id}-{call}.wav").write_bytes(recording)
        recording = call_recording(fresh, rng, net_speech_s=FRESH_SPEECH_S, agent_clips=others)
        (bucket / "fresh" / f"{caller.customer_id}.wav").write_bytes(recording)
        entries.append(_entry(f"request-{number}", caller.customer_id, *_calls(caller)))
        callers.append(caller)
    first = callers[0]
    short = call_recording(
        clips[first.voice], np.random.default_rng(SEED), net_speech_s=6, duration_s=15, channels=1
    )
    (bucket / "enrollment" / "too-short.wav").write_bytes(short)
    entries += [
        _entry("request-short", "caller-short", f"s3://{BUCKET}/enrollment/too-short.wav"),
        _entry("request-missing", "caller-missing", f"s3://{BUCKET}/enrollment/never-recorded.wav"),
        _entry("request-opted-out", "caller-opted-out", *_calls(first)),
        _entry("request-again", first.customer_id, *_calls(first)),
        _entry("request-generated-id", "id#AbCdEfGhIjKlMnOpQrStUv", *_calls(first)),
    ]
    (bucket / "manifest.json").write_bytes(write_manifest(entries))
    return callers


def _calls(caller: Caller) -> list[str]:
    return [f"s3://{BUCKET}/enrollment/{caller.customer_id}-{call}.wav" for call in (1, 2)]


def _entry(request_id: str, speaker_id: str, *uris: str) -> ManifestEntry:
    return ManifestEntry(request_id=request_id, speaker_id=speaker_id, audio=tuple((uri, 0) for uri in uris))


@contextmanager
def _service(data: Path) -> Iterator[None]:
    """Run `sonant serve` on a free port, in a process of its own, as a user would start it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SONANT_")}
    log = data.parent / f"{data.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sonant", "serve", "--port", "0", "--data", str(data)],
            stdout=output,
            stderr=output,
            env=environment,
            cwd=data,
        )
    try:
        deadline = time.monotonic() + START_S
        while not (data / "endpoint").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SetupError(f"the service did not start: {log.read_text('utf-8')[-2000:].strip()}")
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.unlink(missing_ok=True)


def _enrollment_chapter(
    cli: CliContext, settings: Settings, callers: list[Caller]
) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """Run the first chapter: (the job, each fresh recording's similarity to every enrolled speaker)."""
    service = client(settings)
    role = role_arn(settings)
    domain = service.create_domain(
        Name="demo", ServerSideEncryptionConfiguration={"KmsKeyId": "alias/sonant"}
    )["Domain"]
    domain_id = domain["DomainId"]
    service.opt_out_speaker(DomainId=domain_id, SpeakerId="caller-opted-out")
    job_id = service.start_speaker_enrollment_job(
        DomainId=domain_id,
        JobName="demo",
        DataAccessRoleArn=role,
        InputDataConfig={"S3Uri": f"s3://{BUCKET}/manifest.json"},
        OutputDataConfig={"S3Uri": f"s3://{BUCKET}/results", "KmsKeyId": "alias/sonant"},
    )["Job"]["JobId"]
    cli.report(f"enrollment job {job_id} runs")
    job = follow(cli, service.describe_speaker_enrollment_job, domain_id, job_id, label="enrolling")

    ids = [caller.customer_id for caller in callers]
    uri = f"s3://{BUCKET}/results/{job_id}/manifest.json.out"
    if job["JobStatus"] == "FAILED":
        raise SetupError(f"the job failed: {job['FailureDetails']['Message']}")
    result = json.loads(_sonant(settings, "object", "get", uri))
    cli.print_text(f"\nThe result file, {uri} (sealed; opened by `sonant object get`):\n")
    cli.print_text(_compact(result))

    _check_outcome(result, ids)
    cli.report("comparing fresh recordings with every enrolled speaker")
    similarities = _compare(cli, settings, domain_id, role, ids)
    _check_comparisons(cli, similarities)
    return job, similarities


def _compare(
    cli: CliContext, settings: Settings, domain_id: str, role: str, ids: list[str]
) -> dict[str, dict[str, float]]:
    """Compare each fresh recording with every speaker, and print the similarities."""
    service = client(settings, "sonant")
    similarities: dict[str, dict[str, float]] = {}
    with cli.progress_bar(ids, label="comparing") as speakers:
        for speaker in speakers:
            response = service.compare_recording(
                DomainId=domain_id,
                DataAccessRoleArn=role,
                AudioSpecification={"S3Uri": f"s3://{BUCKET}/fresh/{speaker}.wav", "ChannelId": 0},
                SpeakerIds=ids,
            )
            similarities[speaker] = {
                item["CustomerSpeakerId"]: item["Similarity"] for item in response["Comparisons"]
            }
    rows = []
    for speaker, found in similarities.items():
        best = _best(found)
        cells = [f"{found[name]:.2f}{'*' if name == best else ' '}" for name in ids]
        rows.append((speaker, *cells, "right" if best == speaker else "WRONG"))
    cli.print_text(
        "\nFresh recordings (rows) against enrolled speakers (columns), cosine similarity, * is the best:\n"
    )
    headers = ("fresh recording of", *[str(number) for number in range(1, len(ids) + 1)], "")
    cli.print_text(table(rows, headers))
    return similarities


def _best(found: dict[str, float]) -> str:
    return max(found, key=lambda name: found[name])


def _check_outcome(result: dict[str, Any], ids: list[str]) -> None:
    """Raise SetupError when the job's outcome is not the expected one."""
    codes = {line["RequestId"]: line["ErrorCode"] for line in result["Errors"]}
    expected = {
        "request-short": 400,
        "request-missing": 404,
        "request-opted-out": 409,
        "request-generated-id": 400,
    }
    enrolled = {
        line["CustomerSpeakerId"]
        for line in result["SuccessfulEnrollments"]
        if line["EnrollmentStatus"] == "NEW_ENROLLMENT"
    }
    if codes != expected or enrolled != set(ids):
        raise SetupError(f"the job's outcome is not the expected one: errors {codes}")


def _check_comparisons(cli: CliContext, similarities: dict[str, dict[str, float]]) -> None:
    """Raise SetupError when a fresh recording is most similar to another speaker."""
    right = sum(_best(found) == speaker for speaker, found in similarities.items())
    if right != len(similarities):
        raise SetupError(f"only {right} of {len(similarities)} fresh recordings match their own speaker best")
    cli.print_text(f"All {right} fresh recordings match their own speaker best.")


def _compact(result: dict[str, Any]) -> str:
    """Write a result file as JSON, one request a line."""
    lines = [f'  "Version": {json.dumps(result["Version"])}']
    for name in ("Errors", "SuccessfulEnrollments"):
        items = ",\n".join(f"    {json.dumps(line)}" for line in result[name])
        lines.append(f'  "{name}": [\n{items}\n  ]' if items else f'  "{name}": []')
    return "{\n" + ",\n".join(lines) + "\n}"


def _sonant(settings: Settings, *arguments: str) -> str:
    """Run a `sonant` command on the demo's data folder, as a user would; returns its output."""
    done = subprocess.run(
        [sys.executable, "-m", "sonant", *arguments],
        env={**os.environ, "SONANT_DATA": str(settings.data)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise SetupError(f"sonant {arguments[0]} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout.rstrip()
