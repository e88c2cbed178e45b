"""Faults by chance over jobs, live calls and changes, and what holds after each of them.

`SONANT_CHAOS_FAULTS` says how many (200), `SONANT_CHAOS_SEED` which; the seed is printed. `SONANT_CHAOS_ONLY`
names those to choose from, separated by commas; `SONANT_CHAOS_PATIENCE_S` is how long all may be away.
"""

from __future__ import annotations

import io
import os
import random
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from chaos_checks import check_audit, check_changes, check_disks, check_progress, check_rows
from chaos_faults import Faults
from chaos_load import Front, Load
from chaos_world import world
from postgres_server import NoServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

FAULTS = int(os.environ.get("SONANT_CHAOS_FAULTS", "200"))
SEED = int(os.environ.get("SONANT_CHAOS_SEED", str(time.time_ns() % 1_000_000)))
ONLY = {name for name in os.environ.get("SONANT_CHAOS_ONLY", "").split(",") if name}
SCAN_EVERY = 20
VOICES = ("english", "french", "italian", "russian")


@pytest.fixture(scope="module")
def recordings(make_call) -> dict[str, bytes]:
    found = {}
    for voice in VOICES:
        found[f"{voice}.wav"] = make_call(voice, 1, net_speech_s=9)
        found[f"{voice}-again.wav"] = make_call(voice, 2, net_speech_s=9, fresh=True)
        found[f"{voice}-short.wav"] = make_call(voice, 3, net_speech_s=3, duration_s=8)
    return found


def customer(recording: bytes) -> bytes:
    samples, _ = soundfile.read(io.BytesIO(recording), dtype="int16", always_2d=True)
    return np.ascontiguousarray(samples[:, 0]).tobytes()


@pytest.mark.parametrize(("shape", "share"), [("cluster", 0.75), ("embedded", 0.25)])
def test_whatever_happens_nothing_is_lost_doubled_or_open(
    shape: str, share: float, recordings: dict[str, bytes], tmp_path: Path
) -> None:
    rng, done = random.Random(SEED), Counter[str]()
    print(f"\n{shape}: seed {SEED}, {round(FAULTS * share)} faults")
    try:
        hurt = world(shape, tmp_path)
        with hurt as place:
            front = Front(place)
            faults = Faults(place, rng, front)
            names = sorted(name for name in faults.all if not ONLY or name in ONLY)
            assert names, f"{shape} knows none of {sorted(ONLY)}"
            load = Load(
                world=place,
                front=front,
                recordings=recordings,
                samples={name: customer(recording) for name, recording in recordings.items()},
                key_was_off=faults.key_was_off,
            )
            load.start()
            begun = time.monotonic()
            try:
                for number in range(round(FAULTS * share)):
                    time.sleep(rng.uniform(0, 1.5))
                    name = rng.choice(names)
                    calls, since_s = load.calls, time.monotonic()
                    faults.all[name]()
                    faults.settle()
                    done[name] += 1
                    check_rows(place)
                    check_changes(place, load)
                    assert not load.faults, f"after {name}: {load.faults}"
                    if number % SCAN_EVERY == SCAN_EVERY - 1:
                        check_progress(load, calls, since_s)
                        check_audit(place, load)
                        check_disks(place, load)
                check_progress(load, calls, since_s)
            finally:
                load.stop()
            took_s = time.monotonic() - begun
            assert not load.faults, load.faults
            check_rows(place)
            check_changes(place, load)
            check_audit(place, load)
            check_disks(place, load)
            assert load.jobs > load.failed_for_the_key
            assert load.calls
            print(
                f"{done.total()} faults in {took_s:.0f} s: {dict(sorted(done.items()))}\n"
                f"{load.jobs} jobs ({load.failed_for_the_key} failed for the key), {load.calls} calls "
                f"({load.cut_calls} cut), {load.changes} changes"
            )
    except NoServer as why:
        pytest.skip(f"no PostgreSQL: {why}")
