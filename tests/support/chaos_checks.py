"""What must hold whatever was done to a world."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from chaos_load import MARKER, Load
from chaos_world import World, wait_for
from numpy.typing import NDArray
from sqlalchemy import func, select

from sonant.storage.crypto.vault import open_vault
from sonant.storage.database.schema import (
    fraudster_voiceprints,
    fraudsters,
    job_entries,
    jobs,
    speaker_counts,
    speaker_keys,
    voiceprints,
)
from sonant.storage.database.schema import speakers as speaker_rows
from sonant.storage.repositories import domains, speakers


def patiently(look: Callable[[], Any]) -> Any:
    """What a look into the store finds; the connection may have been cut a moment ago."""
    found: list[Any] = []

    def looked() -> bool:
        try:
            found.append(look())
            return True
        except AssertionError:
            raise
        except Exception:  # noqa: BLE001 - the database was away; anything lasting runs out of patience
            return False

    wait_for("the store can be read", looked)
    return found[0]


def check_rows(world: World) -> None:
    """Every enrolled speaker has a voiceprint and a key, nobody else has one; what is counted is right."""

    def look() -> None:
        with world.store.database.read() as connection:
            enrolled = set(
                connection.execute(
                    select(speaker_rows.c.speaker_id).where(speaker_rows.c.status == "ENROLLED")
                ).scalars()
            )
            printed = set(connection.execute(select(voiceprints.c.speaker_id)).scalars())
            assert enrolled == printed, (
                "a voiceprint without its outcome, or an outcome without its voiceprint"
            )
            there = set(connection.execute(select(speaker_rows.c.speaker_id)).scalars())
            assert there == set(connection.execute(select(speaker_keys.c.speaker_id)).scalars())
            known = set(connection.execute(select(fraudsters.c.fraudster_id)).scalars())
            assert known == set(connection.execute(select(fraudster_voiceprints.c.fraudster_id)).scalars())
            counts = select(speaker_counts.c.domain_id, speaker_counts.c.present)
            counted = dict(connection.execute(counts).all())
            rows: dict[str, int] = dict(
                connection.execute(
                    select(speaker_rows.c.domain_id, func.count()).group_by(speaker_rows.c.domain_id)
                ).all()
            )
            assert {key: count for key, count in counted.items() if count} == rows, "a quota is miscounted"
            for job in connection.execute(select(jobs)).mappings():
                waiting = connection.execute(
                    select(func.count()).where(
                        job_entries.c.job_id == job["job_id"], job_entries.c.outcome_sealed.is_(None)
                    )
                ).scalar_one()
                if job["entries_total"] is not None and job["status"] == "IN_PROGRESS":
                    assert waiting + job["entries_done"] == job["entries_total"], "an entry lost or doubled"

    patiently(look)


def check_changes(world: World, load: Load) -> None:
    """What was answered is in effect."""
    opted_out, deleted = set(load.opted_out), set(load.deleted)

    def look() -> dict[str, str]:
        with world.store.database.read() as connection:
            domain = domains.find_by_id(connection, load.domain_id)
            assert domain is not None
            keys = world.store.backends.keys(domain.account_id)
            vault = open_vault(keys, load.domain_id, domain.arn, domain.data_key_wrapped)
            return {
                speaker.customer_id(vault): speaker.status
                for speaker in speakers.page(connection, load.domain_id, None, 100_000)
            }

    there = patiently(look)
    assert all(there.get(name) == "OPTED_OUT" for name in opted_out), "an opt-out was lost"
    assert not deleted & there.keys(), "somebody who was deleted is there"


def check_audit(world: World, load: Load) -> None:
    """Each process's chain is whole, and every change that was answered stands in one."""
    changes = load.changes  # before the look: more may be made meanwhile
    _audit(world, "verify")
    told = [json.loads(line) for line in _audit(world, "show", "--json", "--operation", "OptOutSpeaker")]
    done = sum("errorCode" not in record for record in told)
    assert done >= changes, f"{changes} changes were answered, {done} are in the audit trail"


def _audit(world: World, *command: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "sonant", "audit", *command],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=world.folder,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("SONANT_")},
            "SONANT_DATA": str(world.data),
            "SONANT_DATABASE": world.settings.database,
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def check_disks(world: World, load: Load) -> None:
    """No customer's id, no voiceprint and no speech lies open anywhere."""
    needles = [MARKER.encode(), MARKER.encode("utf-16-le")]
    for speech in load.samples.values():
        needles += of_speech(np.frombuffer(speech, "<i2"))
    for vector in load.vectors:
        needles += of_vector(np.frombuffer(vector, "<f4"))
    search(world.places(), skipped=(world.data / "buckets", world.folder / "objects"), needles=needles)


def search(roots: Iterable[Path], *, skipped: Iterable[Path], needles: Iterable[bytes]) -> None:
    """Fails if a file below a root holds one of them. Files are read by another process (see chaos_scan)."""
    asked = {
        "roots": [str(root) for root in roots],
        "skipped": [str(folder) for folder in skipped],
        "needles": [needle.hex() for needle in needles],
    }
    done = subprocess.run(
        [sys.executable, Path(__file__).parent / "chaos_scan.py"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0, "nothing was looked at"


def of_speech(samples: NDArray[np.int16]) -> list[bytes]:
    """The loudest 32 samples, as they come and as the engine hears them."""
    middle = int(np.abs(samples.astype(np.int32)).argmax())
    loudest = samples[max(0, middle - 16) :][:32]
    return [loudest.tobytes(), (loudest / np.float32(2**15)).astype("<f4").tobytes()]


def of_vector(vector: NDArray[np.float32]) -> list[bytes]:
    """Eight numbers from its beginning and from its middle, in full and in half precision."""
    parts = (vector[:8], vector[len(vector) // 2 :][:8])
    return [part.astype(kind).tobytes() for part in parts for kind in ("<f4", "<f2")]


def check_progress(load: Load, calls: int, since_s: float) -> None:
    """Live calls are decided again."""
    wait_for("a live call is decided", lambda: load.calls > calls or load.faults, 90.0)
    assert time.monotonic() - since_s < 300
