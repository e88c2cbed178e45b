"""`sonant demo`: real telephone speakers and batch jobs, everything through the signed API.

The first chapter enrolls, the second (`demo_fraud`) is about fraud, the third (`demo_live`) about live calls.
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
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from sonant.assembly.installation import role_arn
from sonant.cli.common import client, show_progress, table
from sonant.cli.jobs import follow
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
    """One speaker of the demo, as a contact centre knows him."""

    voice: str
    customer_id: str
    fresh: tuple[Path, ...]
    """Clips that no enrollment call is made of."""


def demo(*, audio: Path | None, cache: Path, keep: Path | None, allow_missing: bool, quiet: bool) -> None:
    """Run the whole story. Raises SetupError when something of it does not come out as it must.

    What this system cannot show is left out, and said at the end: an error without `allow_missing`.
    """
    say: Callable[[str], None] = (lambda _text: None) if quiet else (lambda text: click.echo(text, err=True))
    clips = voices_from_folder(audio) if audio else fetch_voices(cache.absolute(), progress=say)
    lacking = [] if audio else [name for name in DEFAULT if name not in clips]
    missing = [f"the voice {name}, which this system's package sources do not carry" for name in lacking]
    if len(clips) < MIN_SPEAKERS:
        raise SetupError(f"the demo needs {MIN_SPEAKERS} speakers, there are {len(clips)}")
    with tempfile.TemporaryDirectory(prefix="sonant-demo-") as folder:
        data = (keep or Path(folder) / "data").absolute()
        if data.exists() and any(data.iterdir()):
            raise SetupError(f"{data} is not empty; name another folder with --keep")
        settings = Settings(data=data)
        say(f"building call recordings of {len(clips)} speakers")
        callers = _record(data / "buckets" / BUCKET, clips)
        machine: SyntheticCalls | None = None
        try:
            machine = synthetic_calls(cache.absolute().parent / "synthesizers", SEED, say)
        except SetupError as fault:
            missing.append(f"a synthesised voice that enrolls and calls, because {fault}")
            say(f"left out: {missing[-1]}")
        with _service(data):
            job, alike = _tell(settings, callers, quiet=quiet, say=say)
            domain_id, fraudsters = fraud.tell(
                settings,
                data / "buckets" / BUCKET,
                {caller.customer_id: (caller.fresh, _calls(caller)) for caller in callers},
                alike,
                seed=SEED,
                quiet=quiet,
                say=say,
                fetch=lambda uri: json.loads(_sonant(settings, "object", "get", uri)),
                machine=machine.enrollment if machine else None,
            )
            live.tell(
                settings,
                data / "buckets" / BUCKET / fraud.FOLDER,
                domain_id,
                {
                    caller.customer_id: data / "buckets" / BUCKET / "fresh" / f"{caller.customer_id}.wav"
                    for caller in callers
                },
                fraudsters,
                machine=machine.live if machine else None,
                say=say,
            )
            click.echo("The first job, as `sonant voice-id describe-speaker-enrollment-job` shows it:\n")
            where = ("--domain-id", job["DomainId"], "--job-id", job["JobId"])
            click.echo(_sonant(settings, "voice-id", "describe-speaker-enrollment-job", *where))
        if keep:
            say(f"data folder kept: sonant serve --data {data}")
    if missing:
        click.echo("\n".join(["\nNot shown:", *missing]))
        if not allow_missing:
            raise SetupError("the demo is not complete; with --allow-missing that is no error")


def _record(bucket: Path, clips: dict[str, list[Path]]) -> list[Caller]:
    """Two enrollment calls and a fresh one for each speaker, and the manifest with its bad requests."""
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
def _service(data: Path) -> Any:
    """`sonant serve` on a free port, in a process of its own, as a user would start it."""
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


def _tell(
    settings: Settings, callers: list[Caller], *, quiet: bool, say: Callable[[str], None]
) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """The first chapter: the job, and how similar each fresh recording is to every enrolled speaker."""
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
    say(f"enrollment job {job_id} runs")
    job = follow(service.describe_speaker_enrollment_job, domain_id, job_id, label="enrolling", quiet=quiet)

    ids = [caller.customer_id for caller in callers]
    uri = f"s3://{BUCKET}/results/{job_id}/manifest.json.out"
    if job["JobStatus"] == "FAILED":
        raise SetupError(f"the job failed: {job['FailureDetails']['Message']}")
    result = json.loads(_sonant(settings, "object", "get", uri))
    click.echo(f"\nThe result file, {uri} (sealed; opened by `sonant object get`):\n")
    click.echo(_compact(result))

    _check_outcome(result, ids)
    say("comparing fresh recordings with every enrolled speaker")
    alike = _compare(settings, domain_id, role, ids, quiet=quiet)
    _check_comparisons(alike)
    return job, alike


def _compare(
    settings: Settings, domain_id: str, role: str, ids: list[str], *, quiet: bool
) -> dict[str, dict[str, float]]:
    """Print who sounds like whom; the similarity of each fresh recording to every speaker."""
    ours = client(settings, "sonant")
    alike: dict[str, dict[str, float]] = {}
    bar = click.progressbar(ids, label="comparing", hidden=not show_progress(quiet), file=sys.stderr)
    with bar as speakers:
        for speaker in speakers:
            answer = ours.compare_recording(
                DomainId=domain_id,
                DataAccessRoleArn=role,
                AudioSpecification={"S3Uri": f"s3://{BUCKET}/fresh/{speaker}.wav", "ChannelId": 0},
                SpeakerIds=ids,
            )
            alike[speaker] = {item["CustomerSpeakerId"]: item["Similarity"] for item in answer["Comparisons"]}
    rows = []
    for speaker, found in alike.items():
        best = _best(found)
        cells = [f"{found[name]:.2f}{'*' if name == best else ' '}" for name in ids]
        rows.append((speaker, *cells, "right" if best == speaker else "WRONG"))
    click.echo(
        "\nFresh recordings (rows) against enrolled speakers (columns), cosine similarity, * is the best:\n"
    )
    click.echo(table(rows, ("fresh recording of", *[str(number) for number in range(1, len(ids) + 1)], "")))
    return alike


def _best(found: dict[str, float]) -> str:
    return max(found, key=lambda name: found[name])


def _check_outcome(result: dict[str, Any], ids: list[str]) -> None:
    """The demo's own verdict: a wrong outcome is an error, not a picture."""
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


def _check_comparisons(alike: dict[str, dict[str, float]]) -> None:
    right = sum(_best(found) == speaker for speaker, found in alike.items())
    if right != len(alike):
        raise SetupError(f"only {right} of {len(alike)} fresh recordings match their own speaker best")
    click.echo(f"All {right} fresh recordings match their own speaker best.")


def _compact(result: dict[str, Any]) -> str:
    lines = [f'  "Version": {json.dumps(result["Version"])}']
    for name in ("Errors", "SuccessfulEnrollments"):
        items = ",\n".join(f"    {json.dumps(line)}" for line in result[name])
        lines.append(f'  "{name}": [\n{items}\n  ]' if items else f'  "{name}": []')
    return "{\n" + ",\n".join(lines) + "\n}"


def _sonant(settings: Settings, *arguments: str) -> str:
    """Run a `sonant` command on the demo's data folder, as a user would; its output."""
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
