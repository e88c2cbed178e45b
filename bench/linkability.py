#!/usr/bin/env python3
"""What templates of two domains tell of each other: `python bench/linkability.py [--speech FOLDER]`.

Protects embeddings of real telephone voices by the template spaces of many domains, as Sonant does before it
stores them, and compares them across domains: does whoever has the opened templates of two domains see that
one person is in both? Prints the cosines, the equal error rate of linking and the measure D_sys of
unlinkability (0: unlinkable, 1: fully linkable; Gomez-Barrero et al.: "General Framework to Evaluate
Unlinkability in Biometric Template Protection Systems", IEEE TIFS 13(6), 2018), what an attacker gets who
knows some people of both domains, how much scores change, and what the protection costs.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leakage_voices import Population, load_population
from report import SPEECH, Size, add_size
from sonant.demo.speech import fetch_voices
from sonant.storage.crypto.template_spaces import TemplateSpaces, temporary_spaces
from sonant.voice import VoiceSample, load_voice_model
from sonant.voice.quality import Quality
from sonant.voice.templates import orthogonal_matrix

Floats = NDArray[np.float64]

#: Pairs of domains, each with keys of its own.
DOMAIN_PAIRS = 200
#: Numbers of recordings that the attacker of `known_pairs` has in both domains.
KNOWN = (8, 16, 32, 64, 128, 256)
RENEWALS = 100
_BINS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosines:
    """Cosines of templates of the same people, and of different people."""

    mated: Floats
    others: Floats

    @property
    def equal_error_rate(self) -> float:
        """The error rate at which both kinds are told apart; 0.5 is guessing."""
        lines = np.sort(np.concatenate([self.mated, self.others]))
        missed = np.searchsorted(np.sort(self.mated), lines) / len(self.mated)
        linked = 1 - np.searchsorted(np.sort(self.others), lines) / len(self.others)
        at = int(np.argmin(np.abs(missed - linked)))
        return float((missed[at] + linked[at]) / 2)

    @property
    def linkability(self) -> float:
        """The measure D_sys, with equal priors: 0 for unlinkable templates, 1 for fully linkable ones.

        From histograms of 40 bins, so that chance adds some hundredths.
        """
        edges = np.histogram_bin_edges(np.concatenate([self.mated, self.others]), _BINS)
        of_mated = np.histogram(self.mated, edges)[0] / len(self.mated)
        of_others = np.histogram(self.others, edges)[0] / len(self.others)
        total = of_mated + of_others
        local = np.divide(of_mated - of_others, total, out=np.zeros_like(total), where=total > 0)
        return float((np.maximum(local, 0.0) * of_mated).sum())


def main() -> int:
    parser = argparse.ArgumentParser(description="What templates of two domains tell of each other.")
    add_size(parser)
    parser.add_argument(
        "--speech",
        type=Path,
        help="recordings of more people: a folder with sub-folders or files of one each",
    )
    arguments = parser.parse_args()
    size: Size = arguments.size
    model = load_voice_model()
    voices = fetch_voices(SPEECH, progress=print)
    people = samples_of(load_population(model, voices, arguments.speech, size))
    count = size.pick(DOMAIN_PAIRS, 40, 4)
    print(f"{len(people)} people, two recordings of each, {count} pairs of domains")
    print(f"{'compared':44} {'same person':>16} {'two people':>16} {'EER':>6} {'D_sys':>6}")
    show("one domain, or two without protection", within(people))
    show("two domains", across(people, count))
    show("two domains, the same recording in both", across(people, count, same=True))
    show("one domain before and after a renewal", renewed(people, count))
    for known in KNOWN:
        found = known_pairs(people, known, size.pick(40, 10, 1))
        if found is not None:
            show(f"two domains, {known} recordings known in both", found)
    change, many = score_changes(people)
    print(f"greatest change of a cosine: {change:.1e} by protection, {many:.1e} by {RENEWALS} renewals")
    dimensions = len(people[0][0].vector)
    made_ms = 1e3 * seconds(lambda: orthogonal_matrix(bytes(32), "m", dimensions), size.pick(50, 10, 2))
    spaces, sample = temporary_spaces(), people[0][0]
    protected_us = 1e6 * seconds(lambda: spaces.protect(sample), size.pick(2000, 200, 10))
    print(f"cost: {made_ms:.1f} ms to make a domain's matrix, {protected_us:.0f} µs to protect an embedding")
    return 0


People = Sequence[Sequence[VoiceSample]]
"""By person: samples of recordings, two at least."""


def samples_of(population: Population) -> People:
    """Return the people of whom there are two recordings."""
    found: dict[str, list[VoiceSample]] = defaultdict(list)
    quality = Quality(net_speech_s=10.0)
    for piece in population.pieces:
        vector = piece.vector.astype(np.float32)
        sample = VoiceSample(model_id=population.model.model_id, vector=vector, quality=quality)
        found[piece.speaker].append(sample)
    return [samples for samples in found.values() if len(samples) > 1]


def within(people: People) -> Cosines:
    """Compare first and last recordings in one space."""
    return _compare(_vectors(people, 0), _vectors(people, -1))


def across(people: People, count: int, *, same: bool = False) -> Cosines:
    """Compare templates of two domains; with `same`, of one recording that was enrolled in both."""
    found = []
    for _ in range(count):
        one, other = temporary_spaces(), temporary_spaces()
        found.append(_compare(_vectors(people, 0, one), _vectors(people, 0 if same else -1, other)))
    return _joined(found)


def renewed(people: People, count: int) -> Cosines:
    """Compare templates of one domain from before a renewal with those after it."""
    found = []
    for _ in range(count):
        keys = {version: np.random.default_rng().bytes(32) for version in (1, 2)}
        before = [TemplateSpaces("d", 1, keys).protect(samples[0]) for samples in people]
        after = [TemplateSpaces("d", 2, keys).protect(sample) for sample in before]
        found.append(_compare(_stacked(before), _stacked(after)))
    return _joined(found)


def known_pairs(people: People, known: int, rounds: int) -> Cosines | None:
    """Link people after the map between two domains was fitted to known recordings (orthogonal Procrustes).

    The attacker knows recordings that are in both domains, and links people of whom it knows none. None when
    there are not enough recordings of others.
    """
    random, found = np.random.default_rng(3), []
    for _ in range(rounds):
        order = random.permutation(len(people))
        strange, familiar = order[: max(2, len(people) // 4)], order[max(2, len(people) // 4) :]
        recordings = [sample for number in familiar for sample in people[number]]
        if len(recordings) < known:
            return None
        one, other = temporary_spaces(), temporary_spaces()
        chosen = random.choice(len(recordings), known, replace=False)
        left = np.stack([one.protect(recordings[at]).vector for at in chosen])
        right = np.stack([other.protect(recordings[at]).vector for at in chosen])
        u, _, v = np.linalg.svd(left.T @ right)
        targets = [people[number] for number in strange]
        mapped = _vectors(targets, 0, one) @ (u @ v)
        found.append(_compare(mapped, _vectors(targets, -1, other)))
    return _joined(found)


def score_changes(people: People) -> tuple[float, float]:
    """Return the greatest changes of cosines: by protection, and by many renewals one after the other."""
    exact = _vectors(people, 0) @ _vectors(people, -1).T
    spaces = temporary_spaces()
    once = _vectors(people, 0, spaces) @ _vectors(people, -1, spaces).T
    moved = [samples[0] for samples in people]
    keys = [np.random.default_rng().bytes(32) for _ in range(RENEWALS + 1)]
    for version, key in enumerate(keys, 1):
        present = TemplateSpaces("d", version, {version: key, version - 1: keys[version - 2]})
        moved = [present.protect(sample) for sample in moved]
    many = np.stack([sample.vector for sample in moved]) @ _vectors(people, -1, present).T
    return float(np.abs(once - exact).max()), float(np.abs(many - exact).max())


def seconds(work: Callable[[], object], count: int) -> float:
    """Measure how long a piece of work takes: the shortest of five rounds, which others disturbed least."""
    work()
    rounds = []
    for _ in range(5):
        begun = time.perf_counter()
        for _ in range(count):
            work()
        rounds.append((time.perf_counter() - begun) / count)
    return min(rounds)


def show(name: str, found: Cosines) -> None:
    columns = [f"{one.mean():6.3f} +- {one.std():5.3f}" for one in (found.mated, found.others)]
    print(
        f"{name:44} {columns[0]:>16} {columns[1]:>16} {found.equal_error_rate:6.2f} {found.linkability:6.2f}",
        flush=True,
    )


def _vectors(people: People, at: int, spaces: TemplateSpaces | None = None) -> Floats:
    samples = [samples[at] for samples in people]
    if spaces is not None:
        samples = [spaces.protect(sample) for sample in samples]
    return _stacked(samples)


def _stacked(samples: Sequence[VoiceSample]) -> Floats:
    return np.stack([sample.vector for sample in samples]).astype(np.float64)


def _compare(left: Floats, right: Floats) -> Cosines:
    """Compare people in order with people in the same order."""
    cosines = left @ right.T / np.outer(np.linalg.norm(left, axis=1), np.linalg.norm(right, axis=1))
    same = np.eye(len(cosines), dtype=bool)
    return Cosines(mated=cosines[same], others=cosines[~same])


def _joined(found: Sequence[Cosines]) -> Cosines:
    return Cosines(
        mated=np.concatenate([one.mated for one in found]),
        others=np.concatenate([one.others for one in found]),
    )


if __name__ == "__main__":
    raise SystemExit(main())
