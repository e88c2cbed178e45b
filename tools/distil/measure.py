#!/usr/bin/env python3
"""Compare encoders on the same trials of people outside their training data.

    python tools/distil/measure.py --people DIR --prepared PREPARED --models old.onnx new.onnx

DIR has one folder of recordings per person. Each person's speech is joined without pauses and cut several
times; enrollment and test never share a recording. Prints the equal error rate and the separation d' of the
cosine, raw and after subtracting the cohort's mean (of the validation speech, at the same channel).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile
import soxr
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))
from degrade import RATE_HZ, at_level, coded, line, noisy
from trials import equal_error_rate, separation

from sonant.voice.models import load_models
from sonant.voice.models.embedding import mel_power
from sonant.voice.speech import analyze

Array = NDArray[np.float32]

CHANNELS = ("clean", "ulaw", "gsm", "noisy")
WINDOW = 160


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--people", type=Path, required=True)
    parser.add_argument("--prepared", type=Path, required=True)
    parser.add_argument("--models", type=Path, nargs="+", required=True)
    parser.add_argument("--channels", nargs="+", default=["clean"], choices=CHANNELS)
    parser.add_argument(
        "--cuts", type=int, default=4, help="times each person's recordings are shuffled anew"
    )
    parser.add_argument("--step", type=int, default=160, help="frames of 10 ms from window to window")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    voices = {folder.name: clips(folder) for folder in sorted(options.people.iterdir()) if folder.is_dir()}
    voices = {name: found for name, found in voices.items() if found}
    validation = np.load(options.prepared / "validation.npz")
    cohort = [validation[n].astype(np.float32) / 32768 for n in validation.files if n.endswith("/narrow")]
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = 1
    networks = {p.stem: onnxruntime.InferenceSession(p, session_options) for p in options.models}
    for channel in options.channels:
        rng = np.random.default_rng(options.seed)
        received = [through(samples, channel, rng) for samples in cohort]
        means = {
            name: np.mean([embed(samples, network) for samples in received], axis=0)
            for name, network in networks.items()
        }
        for enroll_s, test_s in ((30, 10), (30, 5), (30, 3), (10, 10)):
            cuts = [
                trials(voices, channel, enroll_s, test_s, np.random.default_rng([options.seed, cut]))
                for cut in range(options.cuts)
            ]
            for name, network in networks.items():
                shown = figures(cuts, network, means[name], options.step)
                print(channel, f"{enroll_s} s : {test_s} s", name, shown, flush=True)


def clips(folder: Path) -> list[Array]:
    """Read the recordings of a person at 8 kHz without pauses."""
    models, found = load_models(), []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in {".wav", ".flac"}):
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        telephone = soxr.resample(samples[:, 0], rate_hz, RATE_HZ)
        speech = analyze(telephone, models).speech
        if len(speech):
            found.append(speech)
    return found


def trials(
    voices: Mapping[str, Sequence[Array]],
    channel: str,
    enroll_s: float,
    test_s: float,
    rng: np.random.Generator,
) -> tuple[list[tuple[str, Array]], list[tuple[str, Array]]]:
    """Cut enrollments and tests with their person's name from recordings in a random order."""
    enrollments: list[tuple[str, Array]] = []
    tests: list[tuple[str, Array]] = []
    for name, recordings in voices.items():
        queue = [recordings[i] for i in rng.permutation(len(recordings))]
        for target, seconds, most in (
            (enrollments, enroll_s, 2 if enroll_s < 30 else 1),
            (tests, test_s, 12),
        ):
            count = 0
            while count < most:
                parts, length = [], 0
                while queue and length < seconds * RATE_HZ:
                    parts.append(queue.pop())
                    length += len(parts[-1])
                if length < seconds * RATE_HZ:
                    break
                joined = np.concatenate(parts)[: int(seconds * RATE_HZ)]
                target.append((name, through(joined, channel, rng)))
                count += 1
    return enrollments, tests


def through(samples: Array, channel: str, rng: np.random.Generator) -> Array:
    """Apply a line and a codec; `noisy` is GSM with white or pink noise at 10 dB before it."""
    if channel == "noisy":
        samples = noisy(samples, 10, (), rng)
    if channel in ("ulaw", "gsm", "noisy"):
        return coded(at_level(line(samples, rng), -26), "ulaw" if channel == "ulaw" else "gsm", rng)
    return samples


def figures(
    cuts: Sequence[tuple[list[tuple[str, Array]], list[tuple[str, Array]]]],
    network: onnxruntime.InferenceSession,
    mean: NDArray[np.float64],
    step: int,
) -> str:
    shown = []
    vectors = [[[(n, embed(s, network, step)) for n, s in side] for side in cut] for cut in cuts]
    for centre in (0, mean):
        genuine: list[float] = []
        impostor: list[float] = []
        for enrollments, tests in vectors:
            for name, enrolled in enrollments:
                for other, tested in tests:
                    score = cosine(enrolled - centre, tested - centre)
                    (genuine if name == other else impostor).append(score)
        g, i = np.array(genuine), np.array(impostor)
        shown.append(f"EER {100 * equal_error_rate(g, i):.2f} % d' {separation(g, i):.2f}")
    return f"{' | centred '.join(shown)}  ({len(genuine)}/{len(impostor)} trials)"


def cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def embed(samples: Array, network: onnxruntime.InferenceSession, step: int = WINDOW) -> NDArray[np.float64]:
    """Embed like the product: level, features, windows from end to end, mean."""
    mels = mel_power(at_level(samples, -30))
    last = len(mels) - WINDOW
    starts = np.round(np.linspace(0, last, 1 + -(-last // step))).astype(int)
    batch = np.stack([mels[start : start + WINDOW] for start in starts])
    total = network.run(None, {"mels": batch})[0].sum(axis=0, dtype=np.float64)
    unit: NDArray[np.float64] = total / np.sqrt(np.sum(total**2))
    return unit


if __name__ == "__main__":
    main()
