"""Part `duplicates`: `sonant speaker duplicates` over 100,000 enrolled speakers, on all cores.

The command itself is run, so with opening every voiceprint under its speaker's key, comparing all with all,
and writing what was found. Voices are made: spread in 24 dimensions, which gives strangers who are about as
alike as the speaker encoder's; 500 people are there twice, and must all be found.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import insert

import processes
from report import Outcome, Ratio, Size
from service import data_folder, serving
from sonant.cli.folder_domains import opened_domain
from sonant.ids import new_generated_id
from sonant.settings import Settings
from sonant.storage.database.schema import speaker_keys, speakers, voiceprints
from sonant.storage.times import to_us
from sonant.voice.models import shipped_encoder_id

DIMENSIONS, SPREAD = 256, 24
LIMIT_S, LIMIT_MB = 180.0, 1000.0
BATCH = 5000


def measure(size: Size, _peers: bool) -> Outcome:
    count, twice = size.pick((100_000, 500), (20_000, 500), (500, 10))
    with data_folder() as data:
        with serving(data) as service:
            domain_id = service.create_domain()
        _enroll(data, domain_id, _voices(count, twice))
        found, seconds, cpu_s, peak_mb = _run(data, domain_id)
    pairs = _pairs(found)
    missed = [one for one in range(twice) if frozenset((one, count - 1 - one)) not in pairs]
    if missed:
        raise RuntimeError(f"{len(missed)} of {twice} people who are there twice were not found")
    return Outcome(
        ratios=[
            Ratio(
                part="duplicates",
                name=f"all pairs of {count:,} speakers / 3 minutes",
                ours=seconds,
                theirs=LIMIT_S,
                unit="s",
                target=1.0,
                at_least=False,
                note=f"{cpu_s:.0f} s of processor time; all {twice} people who are there twice found, "
                f"and {len(pairs) - twice} pairs by chance",
            ),
            Ratio(
                part="duplicates",
                name="its peak memory / 1 GB",
                ours=peak_mb,
                theirs=LIMIT_MB,
                unit="MB",
                target=1.0,
                at_least=False,
            ),
        ],
        details={
            "speakers": count,
            "seconds": seconds,
            "cpu_s": cpu_s,
            "peak_mb": peak_mb,
            "pairs": len(pairs),
        },
    )


def _voices(count: int, twice: int) -> Any:
    """Unit vectors [count, 256]; the last `twice` are the first ones again, heard a little differently."""
    rng = np.random.default_rng(1)
    directions = np.linalg.qr(rng.standard_normal((DIMENSIONS, SPREAD)))[0].T.astype(np.float32)
    rows = rng.standard_normal((count, SPREAD), dtype=np.float32) @ directions
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[count - twice :] = rows[:twice][::-1]
    rows[count - twice :] += rng.normal(0, 0.2 / np.sqrt(DIMENSIONS), (twice, DIMENSIONS)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def _enroll(data: Path, domain_id: str, rows: Any) -> None:
    """Speakers with these voiceprints, each sealed under a key of its own as enrollment does it."""
    now, model_id = to_us(datetime.now(UTC)), shipped_encoder_id()
    for start in range(0, len(rows), BATCH):
        people, keys, prints = [], [], []
        with opened_domain(Settings(data=data), domain_id, write=True) as (connection, _, vault):
            for number in range(start, min(start + BATCH, len(rows))):
                speaker_id, customer_id = new_generated_id(), str(number)
                seal, wrapped = vault.new_speaker(speaker_id)
                people.append(
                    {
                        "speaker_id": speaker_id,
                        "domain_id": domain_id,
                        "customer_id_hash": vault.lookup(customer_id),
                        "customer_id_sealed": seal.seal("customer id", customer_id.encode()),
                        "status": "ENROLLED",
                        "created_at": now,
                        "updated_at": now,
                    }
                )
                keys.append({"speaker_id": speaker_id, "wrapped": wrapped})
                prints.append(
                    {
                        "speaker_id": speaker_id,
                        "model_id": model_id,
                        "vector_sealed": seal.seal(
                            f"voiceprint {model_id}", rows[number].astype("<f4").tobytes()
                        ),
                        "net_speech_s": 30.0,
                        "snr_db": 30.0,
                        "created_at": now,
                    }
                )
            for table, values in ((speakers, people), (speaker_keys, keys), (voiceprints, prints)):
                connection.execute(insert(table), values)


def _run(data: Path, domain_id: str) -> tuple[dict[str, Any], float, float, float]:
    """What the command wrote, how long it took, its processor time, and the most memory it had.

    The last two are looked at ten times a second.
    """
    written = data / "found.json"
    begun, peak, cpu_s = time.perf_counter(), 0, 0.0
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "sonant", "speaker", "duplicates", domain_id),
            *("--json", str(written), "--data", str(data)),
        ],
        stdout=subprocess.DEVNULL,
    ) as process:
        while process.poll() is None:
            try:
                peak = max(peak, processes.peak_rss_bytes(process.pid))
                cpu_s = processes.cpu_s(process.pid)
            except (OSError, RuntimeError):  # it ended meanwhile
                break
            time.sleep(0.1)
    seconds = time.perf_counter() - begun
    if process.returncode != 1:  # 1 says that there are duplicates
        raise RuntimeError(f"the search for duplicates ended with {process.returncode}")
    return dict(json.loads(written.read_text("utf-8"))), seconds, cpu_s, peak / 1e6


def _pairs(found: dict[str, Any]) -> set[frozenset[int]]:
    """Who is like whom; customer ids are the places of the voices."""
    number = {
        one["generatedSpeakerId"]: int(one["customerSpeakerId"]) for group in found["groups"] for one in group
    }
    return {frozenset((number[pair["first"]], number[pair["second"]])) for pair in found["pairs"]}
