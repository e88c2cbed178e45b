"""Measure how often honest callers are flagged against lists of fraudsters that they are not on.

There are never as many real voices as a long list holds. The missing ones are synthetic: a real voice moved
by a part (`MOVE`) of the difference between two other real ones, in a direction in which people differ. Such
voices are no evidence of how similar people are; the result states how they compare with real ones
(`Alerts.real_share`, `Alerts.made_share`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonant.errors import SetupError
from sonant.evaluation.bootstrap import CONFIDENCE, Interval
from sonant.voice.calibration.model import Calibration, Tail
from sonant.voice.sample import VoiceSample
from sonant.voice.scoring import known_fraudster_risk

THRESHOLD = 50
LISTS = 20
"""Random lists per call."""
REPLICATES = 200
MOVE = 0.2
"""Distance of synthetic voices from a real one, as a part of the difference. Chosen on the 100 people of
the shipped calibration so that they reach high similarities as often as real ones do: those of one in a
hundred 0.77 % of them (real ones 0.82 %), of one in a thousand 0.09 % (0.10 %); with half of the difference
0.48 % and 0.03 %."""
_FEWEST = 3

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonVoice:
    """The embedding of a call, or of a fraudster's recording."""

    person: int
    group: int
    """People of one group are not compared: they may be one person."""
    sample: VoiceSample


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerts:
    """The result for one size of list."""

    size: int
    people: int
    calls: int
    lists: int
    """Comparisons of a call with a list: calls times lists."""
    real_on_list: float
    """Real voices on a list, on average."""
    flagged: int
    """The comparisons that raised an alert."""
    interval: Interval | None
    """Interval of the share, people resampled; None with fewer than three."""
    real_share: float
    """Share of comparisons with a real voice that reach the similarity of one stranger in a hundred."""
    made_share: float
    """The same share with synthetic voices."""

    @property
    def share(self) -> float:
        """The share of comparisons that raised an alert."""
        return self.flagged / self.lists


def false_alerts(
    calls: Sequence[PersonVoice],
    fraudsters: Sequence[PersonVoice],
    calibration: Calibration,
    sizes: Sequence[int],
    *,
    seed: int,
    replicates: int = REPLICATES,
) -> list[Alerts]:
    """Compare every call with lists of other people, one voiceprint each, completed with synthetic voices.

    Raises SetupError when a call has fewer than three other people to compare with.
    """
    table = _Table(calls, fraudsters, calibration, sizes)
    all_people = np.unique([voice.person for voice in (*calls, *fraudsters)])
    rng = np.random.default_rng(seed)
    flagged, lists, real = table.count(all_people, rng)
    shares = []
    for _ in range(replicates if len(all_people) >= _FEWEST else 0):
        drawn = rng.choice(all_people, len(all_people))
        some, of, _ = table.count(drawn, rng)
        if of:
            shares.append(some / of)
    tail = 100 * (1 - CONFIDENCE) / 2
    spread = np.percentile(shares, [tail, 100 - tail], axis=0) if shares else None
    one_real, one_synthetic = table.one_in_a_hundred(rng)
    return [
        Alerts(
            size=size,
            people=len({voice.person for voice in calls}),
            calls=len(calls),
            lists=lists,
            real_on_list=float(real[place]),
            flagged=int(flagged[place]),
            interval=None
            if spread is None
            else Interval(low=float(spread[0, place]), high=float(spread[1, place])),
            real_share=one_real,
            made_share=one_synthetic,
        )
        for place, size in enumerate(sizes)
    ]


class _Table:
    """Holds the similarities of real voices, from which those of synthetic ones follow."""

    def __init__(
        self,
        calls: Sequence[PersonVoice],
        fraudsters: Sequence[PersonVoice],
        calibration: Calibration,
        sizes: Sequence[int],
    ) -> None:
        ordered = sorted(fraudsters, key=lambda voice: voice.person)
        queries = np.stack([voice.sample.vector for voice in calls]).astype(np.float64)
        known = np.stack([voice.sample.vector for voice in ordered]).astype(np.float64)
        self._similar, self._between = queries @ known.T, known @ known.T
        self._caller = np.array([voice.person for voice in calls])
        self._group = {voice.person: voice.group for voice in (*calls, *ordered)}
        persons = np.array([voice.person for voice in ordered])
        #: By person: the index of the first voiceprint, and their number.
        self._prints = {
            person: (int(np.searchsorted(persons, person)), int(np.count_nonzero(persons == person)))
            for person in set(persons.tolist())
        }
        self._sizes = tuple(sizes)
        tails = [calibration.tail_for(voice.sample.quality) for voice in calls]
        #: The least similarity that flags a call, by size of list; [sizes, calls].
        self._alarm = np.array([[_least_flagged(size, tail) for tail in tails] for size in sizes])
        self._rare = np.array([tail.similarity_at(-2.0) for tail in tails])
        for person in set(self._caller.tolist()):
            others = sum(self._compared(person, one) for one in self._prints)
            if others < _FEWEST:
                raise SetupError(f"lists need {_FEWEST} people besides the caller, there are {others}")

    def count(self, people: Indices, rng: np.random.Generator) -> tuple[Indices, int, Floats]:
        """Count calls flagged by size of list, calls times lists, and real voices on a list by size.

        `people` may repeat (in a bootstrap): their calls then count twice, and they can be on a list twice.
        """
        flagged, lists = np.zeros(len(self._sizes), np.intp), 0
        real = np.zeros(len(self._sizes))
        for person in people.tolist():
            others = [one for one in people.tolist() if self._compared(person, one)]
            if len(set(others)) < _FEWEST:
                continue
            first, many = np.array([self._prints[one] for one in others]).T
            for call in np.flatnonzero(self._caller == person).tolist():
                prints = first + (rng.random((LISTS, len(others))) * many).astype(np.intp)
                prints = rng.permuted(prints, axis=1)
                near = self._similar[call, prints]
                lists += LISTS
                for place, size in enumerate(self._sizes):
                    best = near[:, :size].max(axis=1)
                    if size > len(others):
                        synthetic = self._synthetic(call, prints[0], (LISTS, size - len(others)), rng)
                        best = np.maximum(best, synthetic.max(axis=1))
                    real[place] += LISTS * min(size, len(others))
                    flagged[place] += np.count_nonzero(best >= self._alarm[place, call])
        return flagged, lists, real / max(lists, 1)

    def one_in_a_hundred(self, rng: np.random.Generator) -> tuple[float, float]:
        """Compute the shares of comparisons at 1 % of strangers or rarer: with real and synthetic voices."""
        real, synthetic = [], []
        for call, person in enumerate(self._caller.tolist()):
            spans = [span for one, span in self._prints.items() if self._compared(person, one)]
            prints = np.concatenate([np.arange(first, first + many) for first, many in spans])
            real.append(np.mean(self._similar[call, prints] >= self._rare[call]))
            synthetic.append(np.mean(self._synthetic(call, prints, (2000,), rng) >= self._rare[call]))
        return float(np.mean(real)), float(np.mean(synthetic))

    def _compared(self, person: int, one: int) -> bool:
        return one in self._prints and self._group[one] != self._group[person]

    def _synthetic(
        self, call: int, prints: Indices, shape: tuple[int, ...], rng: np.random.Generator
    ) -> Floats:
        """Compute a call's similarities to synthetic voices: a + MOVE * (b - c) of three voiceprints.

        All are of unit length. The vectors are not needed: everything is a sum of products of real ones.
        """
        one, two, three = prints[rng.integers(len(prints), size=(3, *shape))]
        near, between = self._similar[call], self._between
        distance, offset = 1 - between[two, three], between[one, two] - between[one, three]
        length = np.sqrt(np.maximum(1 + 2 * MOVE * (MOVE * distance + offset), 1e-9))
        return np.asarray((near[one] + MOVE * (near[two] - near[three])) / length)


def _least_flagged(size: int, tail: Tail) -> float:
    """Find the least similarity whose risk on a list of `size` reaches the threshold, by bisection."""
    low, high = -1.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        if known_fraudster_risk(middle, size, tail) >= THRESHOLD:
            high = middle
        else:
            low = middle
    return high
