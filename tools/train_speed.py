#!/usr/bin/env python3
"""Train the network that finds speech at a wrong speed (`sonant.voice.speed`), or measure the shipped one.

    python tools/train_speed.py measure --people DIR
    python tools/train_speed.py train --people DIR --people DIR [--examples FILE]

Each folder has one sub-folder or one recording per person, at 16 kHz. Every recording goes over random
telephone lines, played at its true speed and as samples of one rate under a header of another. Speech at the
true speed is varied as well: pitch and resonances up, as of children, or down, and a faster or slower pace.
Equal folders and seed give equal examples; --examples stores them, or reads them where the file exists.
The limit is chosen on people that the network was not trained with, so that at most 0.15 % of genuine
recordings are flagged. Measure with others still.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from sonant.evaluation.channels import parse
from sonant.voice import speed
from sonant.voice.models import Models, load_models
from sonant.voice.speech import analyze

Array = NDArray[np.float32]
RATE_HZ = 8000
LINES = (
    "clean", "g711", "narrow", "narrow+g711", "narrow+gsm", "gsm", "amr-band+g711", "pink:15+narrow+g711",
    "white:15+narrow", "pink:12+narrow+gsm", "white:20+g711", "white:12", "pink:10",
)  # fmt: skip
#: Rates of samples and of headers, in hertz. More than a factor of three holds no detectable speech.
WRONG = (
    (16000, 8000), (12000, 8000), (11025, 8000), (24000, 8000), (16000, 11025), (16000, 12000), (8000, 16000),
    (8000, 11025), (8000, 12000), (11025, 16000), (16000, 24000),
)  # fmt: skip
#: Pitch and pace of people at the true speed: share, ranges of both factors.
VARIETY = {
    "as recorded": (0.45, (1.0, 1.0), (1.0, 1.0)),
    "child": (0.15, (1.1, 1.35), (0.7, 1.1)),
    "fast": (0.15, (0.95, 1.05), (1.15, 1.5)),
    "low": (0.1, (0.82, 0.95), (0.85, 1.15)),
    "slow": (0.15, (0.95, 1.05), (0.65, 0.9)),
}
LENGTHS_S = (8.0, 12.0, 16.0)
MOST_FALSE_ALARMS = 0.0015
HIDDEN, NETWORKS, PENALTY, EPOCHS = 32, 4, 3.0, 25


@dataclass(frozen=True, kw_only=True)
class Example:
    """Features of one recording."""

    person: str
    kind: str
    """A key of VARIETY, or the rates of samples and header."""
    label: int
    """-1 too slow, 0 right, 1 too fast."""
    features: Array


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("task", choices=("measure", "train"))
    parser.add_argument("--people", type=Path, action="append", required=True)
    parser.add_argument("--right", type=int, default=8, help="examples of a person at the true speed")
    parser.add_argument("--wrong", type=int, default=6, help="and at wrong ones")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="processes [1]")
    parser.add_argument("--examples", type=Path, help="file of examples, .npz")
    parser.add_argument("--out", type=Path, default=Path(speed.__file__).with_name("speed.npz"))
    options = parser.parse_args()
    examples = read_examples(options.examples) if options.examples else []
    if not examples:
        work = people_of(options.people, options.right, options.wrong, options.seed)
        examples = make_examples(work, options.workers)
        if options.examples:
            store_examples(examples, options.examples)
    if options.task == "measure":
        limit = float(speed.load_weights()["limit"])
        report(examples, np.array([doubt_of(one.features) for one in examples]), limit)
    else:
        train(examples, options.seed, options.out)


@dataclass(frozen=True, kw_only=True)
class Person:
    """The recordings of one person, and how many examples to make of them."""

    name: str
    files: Sequence[Path]
    right: int
    wrong: int
    seed: tuple[int, int]


def people_of(folders: Sequence[Path], right: int, wrong: int, seed: int) -> list[Person]:
    found: list[Person] = []
    for folder in folders:
        for one in sorted(folder.iterdir()):
            files = sorted(one.rglob("*")) if one.is_dir() else [one]
            files = [file for file in files if file.suffix in (".flac", ".opus", ".wav")]
            if files:
                number = (seed, len(found))
                found.append(Person(name=str(one), files=files, right=right, wrong=wrong, seed=number))
    return found


def make_examples(people: Sequence[Person], workers: int) -> list[Example]:
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        found: list[Example] = []
        for done, examples in enumerate(pool.imap(examples_of, people), 1):
            found += examples
            print(f"\r{done} of {len(people)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def examples_of(person: Person) -> list[Example]:
    rng, models = np.random.default_rng(person.seed), opened_models()
    made = [
        make_example(person.name, person.files, number >= person.right, rng, models)
        for number in range(person.right + person.wrong)
    ]
    return [one for one in made if one is not None]


@cache
def opened_models() -> Models:
    return load_models()


def store_examples(examples: Sequence[Example], file: Path) -> None:
    columns: dict[str, Any] = {
        name: np.array([getattr(one, name) for one in examples])
        for name in ("person", "kind", "label", "features")
    }
    np.savez(file, **columns)


def read_examples(file: Path) -> list[Example]:
    if not file.exists():
        return []
    with np.load(file) as stored:
        rows = zip(stored["person"], stored["kind"], stored["label"], stored["features"], strict=True)
        return [
            Example(person=str(person), kind=str(kind), label=int(label), features=features)
            for person, kind, label, features in rows
        ]


def make_example(
    person: str, files: Sequence[Path], is_wrong: bool, rng: np.random.Generator, models: Models
) -> Example | None:
    length_s = float(rng.choice(LENGTHS_S))
    samples, header = WRONG[rng.integers(len(WRONG))] if is_wrong else (RATE_HZ, RATE_HZ)
    factor = header / samples
    recorded, rate_hz = read(files, 1.25 * length_s * factor, rng)
    if is_wrong:
        kind, played = f"{samples} under {header}", misplay(recorded, rate_hz, samples, header, rng)
    else:
        names, shares = list(VARIETY), [share for share, _, _ in VARIETY.values()]
        kind = names[rng.choice(len(names), p=shares)]
        _, pitch, pace = VARIETY[kind]
        varied = vary(recorded, rate_hz, rng.uniform(*pitch), rng.uniform(*pace))
        played = line(soxr.resample(varied, rate_hz, RATE_HZ), rng)
    speech = analyze(np.clip(played, -1, 1).astype(np.float32), models).speech
    if len(speech) < speed.MIN_SPEECH_S * RATE_HZ:
        return None
    measured = speed.features(speech[: round(speed.MAX_JUDGED_S * RATE_HZ)])
    return Example(person=person, kind=kind, label=int(np.sign(factor - 1)), features=measured)


def read(files: Sequence[Path], seconds: float, rng: np.random.Generator) -> tuple[Array, int]:
    """Join files from a random one on."""
    first, parts, rate_hz = int(rng.integers(len(files))), [], 0
    for number in range(len(files)):
        file = files[(first + number) % len(files)]
        samples, rate_hz = soundfile.read(file, dtype="float32", always_2d=True)
        parts.append(samples[:, 0])
        if sum(map(len, parts)) >= seconds * rate_hz:
            break
    return np.concatenate(parts)[: int(seconds * rate_hz)], rate_hz


def misplay(recorded: Array, rate_hz: int, samples: int, header: int, rng: np.random.Generator) -> Array:
    """Bring a recording to a rate and play it as one of another; half were telephone speech before."""
    telephone = samples == RATE_HZ or rng.random() < 0.5
    if telephone:
        recorded, rate_hz = line(soxr.resample(recorded, rate_hz, RATE_HZ), rng), RATE_HZ
    played = soxr.resample(soxr.resample(recorded, rate_hz, samples), header, RATE_HZ)
    return np.asarray(played if telephone else line(played, rng), np.float32)


def vary(recorded: Array, rate_hz: int, pitch: float, pace: float) -> Array:
    """Multiply pitch and resonances by one factor and the pace by another (WSOLA)."""
    shifted = soxr.resample(recorded, rate_hz * pitch, rate_hz)
    graph = av.filter.Graph()
    source = graph.add_abuffer(
        sample_rate=rate_hz, format="fltp", layout="mono", time_base=Fraction(1, rate_hz)
    )
    stretch, sink = graph.add("atempo", f"{pace / pitch:.5f}"), graph.add("abuffersink")
    source.link_to(stretch)
    stretch.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(shifted[None]), format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
    source.push(frame)
    source.push(None)
    parts: list[Array] = []
    while True:
        try:
            pulled = sink.pull()
        except (av.error.EOFError, av.error.BlockingIOError):
            return np.concatenate(parts).astype(np.float32)
        assert isinstance(pulled, av.AudioFrame)
        parts.append(pulled.to_ndarray()[0])


def line(samples: Array, rng: np.random.Generator) -> Array:
    name = LINES[rng.integers(len(LINES))]
    return parse(name).apply(np.asarray(samples, np.float32), seed=(int(rng.integers(1 << 30)),))


def doubt_of(values: Array) -> float:
    """The greater of the shipped network's two log odds."""
    return max(speed.log_odds_of(values).values())


def train(examples: Sequence[Example], seed: int, target: Path) -> None:
    """Choose the limit by cross-validation over people, train with all of them, and store the networks."""
    features = np.array([one.features for one in examples], np.float64)
    labels = np.array([one.label for one in examples])
    people = np.array([one.person for one in examples])
    names = np.random.default_rng(seed).permutation(np.unique(people))
    log_odds = np.zeros(len(examples))
    for fold in np.array_split(names, 4):
        tested = np.isin(people, fold)
        weights = fit(features[~tested], labels[~tested])
        log_odds[tested] = [max(speed.log_odds_of(one, weights).values()) for one in features[tested]]
    limit = float(np.quantile(log_odds[labels == 0], 1 - MOST_FALSE_ALARMS))
    report(examples, log_odds, limit)
    stored = fit(features, labels) | {"limit": np.array(limit)}
    arrays: dict[str, Any] = {name: np.asarray(value, np.float32) for name, value in stored.items()}
    np.savez(target, **arrays)
    print(f"{target} written")


def fit(features: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, Any]:
    from sklearn.neural_network import MLPClassifier

    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-9
    networks = [
        MLPClassifier((HIDDEN,), alpha=PENALTY, batch_size=128, max_iter=EPOCHS, random_state=number).fit(
            (features - mean) / scale, labels
        )
        for number in range(NETWORKS)
    ]
    return {
        "mean": mean,
        "scale": scale,
        "first": np.stack([one.coefs_[0] for one in networks]),
        "first_bias": np.stack([one.intercepts_[0] for one in networks]),
        "second": np.stack([one.coefs_[1] for one in networks]),
        "second_bias": np.stack([one.intercepts_[1] for one in networks]),
    }


def report(examples: Sequence[Example], log_odds: NDArray[np.float64], limit: float) -> None:
    kinds = {one.kind: one.label for one in examples}
    for kind, _ in sorted(kinds.items(), key=lambda item: (item[1] != 0, item[0])):
        chosen = np.array([one.kind == kind for one in examples])
        flagged = int(np.sum(log_odds[chosen] > limit))
        print(f"{kind:16} {chosen.sum():6} recordings, {flagged:5} flagged ({flagged / chosen.sum():.1%})")
    right = np.array([one.label == 0 for one in examples])
    flagged = int(np.sum(log_odds[right] > limit))
    print(f"all at the true speed: {right.sum()} recordings, {flagged} flagged ({flagged / right.sum():.2%})")


if __name__ == "__main__":
    main()
