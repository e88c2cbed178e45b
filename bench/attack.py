#!/usr/bin/env python3
"""Measure honest calls of one account while others attack: `python bench/attack.py [--size SIZE]`.

The attack holds 5,000 connections, which send nothing or a part of a request and are opened again when they
are closed, and has ten hostile recordings compared at once: silence in eight channels of 96 kHz, as FLAC, as
long as is just accepted. Meanwhile another account creates, describes, lists and deletes watchlists, one call
after the other. Prints the times of these calls before the attack and under it, and exits with 1 if one of
them failed or their 95th percentile under attack is a second or more.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import soundfile
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from report import add_size
from service import BUCKET, Running, data_folder, serving
from sonant.cli.folder_domains import opened_domain
from sonant.ids import new_generated_id
from sonant.settings import Settings
from sonant.storage.repositories import speakers
from sonant.voice.models import shipped_encoder_id
from sonant.voice.quality import Quality
from sonant.voice.sample import VoiceSample

TARGET_MS = 1000.0
HONEST, ALIAS, SPEAKER = "222222222222", "alias/honest", "enrolled"
RATE_HZ, CHANNELS = 96_000, 8
#: Connections that are opened a second for those that were closed.
AGAIN = 500
#: What one connection after the other sends, and then no more.
BEGINNINGS = (
    b"",
    b"POST /sign-in HT",
    b"POST / HTTP/1.1\r\nHost: x\r\n",
    b"POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\naccess",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_size(parser)
    parser.add_argument("--json", type=Path, help="write the figures here")
    asked = parser.parse_args()
    figures = measure(
        connections=_allowed(asked.size.pick(5000, 1000, 50)),
        recordings=asked.size.pick(10, 10, 2),
        seconds=asked.size.pick(650.0, 300.0, 12.0),
        calls=asked.size.pick(400, 200, 8),
    )
    print(json.dumps(figures, indent=2))
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=2) + "\n")
    attacked = figures["under_attack"]
    return int(bool(attacked["failed"]) or attacked["p95_ms"] >= TARGET_MS)


def measure(*, connections: int, recordings: int, seconds: float, calls: int) -> dict[str, Any]:
    """Measure `calls` honest calls without an attack, and as many or more while it lasts."""
    with data_folder() as data:
        (data / "buckets" / BUCKET / "hostile.flac").write_bytes(silent_flac(seconds))
        with serving(data) as service:
            attacked_domain = service.create_domain()
            _enroll(data, attacked_domain)
            honest, domain_id = _honest_account(service)
            call = _honest_calls(honest, domain_id)
            quiet = _times([call() for _ in range(calls)])
            attacker = service.client("sonant")
            asked = {
                "DomainId": attacked_domain,
                "DataAccessRoleArn": f"arn:aws:iam::{service.settings.account}:role/sonant",
                "AudioSpecification": {"S3Uri": f"s3://{BUCKET}/hostile.flac", "ChannelId": 0},
                "SpeakerIds": [SPEAKER],
            }
            with _held(service.url, connections), ThreadPoolExecutor(recordings) as threads:
                attack = [threads.submit(_ended_s, attacker, asked) for _ in range(recordings)]
                made = [call() for _ in range(calls)]
                while not all(one.done() for one in attack):
                    made.append(call())
                work_s = [one.result() for one in attack]
    return {
        "connections": connections,
        "recordings": recordings,
        "recording_s": seconds,
        "without_attack": quiet,
        "under_attack": _times(made),
        "attack_s": {"first": min(work_s), "last": max(work_s)},
    }


def silent_flac(seconds: float) -> bytes:
    """Make a FLAC file of silence, 96 kHz, eight channels."""
    out = io.BytesIO()
    block = np.zeros((RATE_HZ, CHANNELS), np.int16)
    with soundfile.SoundFile(out, "w", RATE_HZ, CHANNELS, format="FLAC", subtype="PCM_16") as file:
        for _ in range(round(seconds)):
            file.write(block)
    return out.getvalue()


def _ended_s(client: Any, asked: dict[str, Any]) -> float:
    """Make a hostile call, and return how long it took; it is refused in the end."""
    begun = time.perf_counter()
    with suppress(ClientError, BotoCoreError):
        client.compare_recording(**asked)
    return time.perf_counter() - begun


def _times(made: list[float | None]) -> dict[str, Any]:
    """Sum up calls, each its time in milliseconds or None for one that failed."""
    times = [one for one in made if one is not None]
    p50, p95 = (float(np.percentile(times, one)) if times else float("inf") for one in (50, 95))
    return {
        "calls": len(made),
        "failed": len(made) - len(times),
        "p50_ms": round(p50, 2),
        "p95_ms": round(p95, 2),
        "longest_ms": round(max(times, default=float("inf")), 2),
    }


def _honest_calls(client: Any, domain_id: str) -> Callable[[], float | None]:
    """Return a function that makes the next honest call, once, and returns its milliseconds."""

    def calls() -> Iterator[float | None]:
        while True:
            created: dict[str, Any] = {}

            def create(created: dict[str, Any] = created) -> None:
                created.update(client.create_watchlist(DomainId=domain_id, Name="honest")["Watchlist"])

            yield _timed(create)
            yield _timed(lambda: client.describe_domain(DomainId=domain_id))
            yield _timed(lambda: client.list_watchlists(DomainId=domain_id))
            if created:
                delete = partial(client.delete_watchlist, DomainId=domain_id)
                yield _timed(partial(delete, WatchlistId=created["WatchlistId"]))

    return calls().__next__


def _timed(call: Callable[[], object]) -> float | None:
    begun = time.perf_counter()
    try:
        call()
    except (ClientError, BotoCoreError) as fault:
        print(f"an honest call failed: {fault}", file=sys.stderr)
        return None
    return 1000 * (time.perf_counter() - begun)


def _honest_account(service: Running) -> tuple[Any, str]:
    """Make another account with a user who may do all, a key and a domain; its client and the domain's id."""
    policy = service.settings.data / "all.json"
    statement = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    policy.write_text(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    account = ("--account", HONEST)
    _sonant(service, "access", "user", "put", "honest", *account, "--policy", str(policy))
    _sonant(service, "key", "create", *account, "--alias", ALIAS)
    shown = _sonant(service, "access", "create", "--user", "honest", *account)
    key = dict(line.split() for line in shown.splitlines())
    client = boto3.client(
        "voice-id",
        endpoint_url=service.url,
        region_name=service.settings.region,
        aws_access_key_id=key["aws_access_key_id"],
        aws_secret_access_key=key["aws_secret_access_key"],
        config=Config(retries={"total_max_attempts": 1}),
    )
    answer = client.create_domain(Name="honest", ServerSideEncryptionConfiguration={"KmsKeyId": ALIAS})
    return client, str(answer["Domain"]["DomainId"])


def _sonant(service: Running, *arguments: str) -> str:
    command = [sys.executable, "-m", "sonant", *arguments, "--data", str(service.settings.data)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _enroll(data: Path, domain_id: str) -> None:
    """Store a speaker with a made voiceprint, whom hostile recordings are compared with."""
    vector = np.full(256, 1 / 16, np.float32)
    sample = VoiceSample(
        model_id=shipped_encoder_id(), vector=vector, quality=Quality(net_speech_s=30.0, snr_db=30.0)
    )
    now = datetime.now(UTC)
    with opened_domain(Settings(data=data), domain_id, write=True) as (connection, _, vault):
        speaker_id = new_generated_id()
        seal = speakers.add(
            connection,
            vault,
            domain_id=domain_id,
            speaker_id=speaker_id,
            customer_id=SPEAKER,
            status="PENDING",
            now=now,
        )
        speakers.enroll(connection, seal, speaker_id, sample, now)


def _allowed(wanted: int) -> int:
    """Raise this process's limit of descriptors for so many connections; how many it allows."""
    own = 500
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted + own if hard == resource.RLIM_INFINITY else min(hard, wanted + own)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return min(wanted, most - own)


@contextmanager
def _held(url: str, count: int) -> Iterator[None]:
    """Hold so many connections, and open others for those that are closed: AGAIN a second."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    held: list[socket.socket] = []
    leaving, there = threading.Event(), Future[None]()

    def open_some(most: int) -> None:
        for number in range(most):
            with suppress(OSError):
                one = socket.create_connection((host, int(port)), timeout=10)
                one.setblocking(False)
                held.append(one)
                one.send(BEGINNINGS[number % len(BEGINNINGS)])

    def attack() -> None:
        open_some(count)
        there.set_result(None)
        while not leaving.wait(1.0):
            held[:] = [one for one in held if not _closed(one)]
            open_some(min(AGAIN, count - len(held)))

    attacker = threading.Thread(target=attack, daemon=True)
    attacker.start()
    try:
        there.result(120)
        yield
    finally:
        leaving.set()
        attacker.join()
        for one in held:
            one.close()


def _closed(one: socket.socket) -> bool:
    """Whether the service has closed a connection; if so, it is closed here, too."""
    try:
        ended = not one.recv(65536)
    except BlockingIOError:
        return False
    except OSError:
        ended = True
    if ended:
        one.close()
    return ended


if __name__ == "__main__":
    sys.exit(main())
