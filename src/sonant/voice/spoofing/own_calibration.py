"""Calibrate all detectors of synthetic speech together on an operator's own genuine recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonant.errors import SetupError
from sonant.voice.spoofing.countermeasure import Countermeasure
from sonant.voice.spoofing.merging import fit_factor, merged_share
from sonant.voice.spoofing.models import CalibratedCountermeasure, SpoofingModels, parse_tail
from sonant.voice.spoofing.synthetic_speech import SyntheticSpeechResult
from sonant.voice.spoofing.tail import GenuineTail, fit_tail, share_of

MIN_PEOPLE, MIN_RECORDINGS = 50, 100
"""The upper tenth, from which the tail is extended, is then that of five people at least."""
_RESAMPLES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnSpoofingCalibration:
    """Scores of all detectors on genuine speech of one operator."""

    alone: GenuineTail
    """Logits of the small shipped network."""
    together: GenuineTail
    """Logits of both shipped networks."""
    added: Mapping[str, GenuineTail]
    """Logits of each added countermeasure, by model id."""
    factor: float
    """See `merging`."""

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> OwnSpoofingCalibration:
        """Parse a calibration's document. Raises ValueError, KeyError or TypeError."""
        factor = float(value["factor"])
        if not factor >= 1:
            raise ValueError("factor")
        return cls(
            alone=parse_tail(value["alone"]),
            together=parse_tail(value["together"]),
            added={str(name): parse_tail(tail) for name, tail in dict(value["added"]).items()},
            factor=factor,
        )

    def document(self) -> dict[str, Any]:
        """Give the calibration in the form that `parse` reads."""
        return asdict(self)

    def applied(self, shipped: SpoofingModels, added: Mapping[str, Countermeasure]) -> SpoofingModels:
        """Give the shipped networks and the added ones this calibration. `added` has all of its ids."""
        return replace(
            shipped,
            calibration=replace(shipped.calibration, alone=self.alone, together=self.together),
            added=tuple(
                CalibratedCountermeasure(countermeasure=added[name], tail=tail)
                for name, tail in self.added.items()
            ),
            factor=self.factor,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GenuineScores:
    """Scores of genuine recordings, one a row."""

    people: NDArray[np.intp]
    """Number of the speaker, [n]."""
    alone: NDArray[np.float64]
    together: NDArray[np.float64]
    added: Mapping[str, NDArray[np.float64]]

    @classmethod
    def of(cls, people: Sequence[int], results: Sequence[SyntheticSpeechResult]) -> GenuineScores:
        """Collect results, each of the person in the same place. All have the same countermeasures."""
        names = list(results[0].added) if results else []
        return cls(
            people=np.asarray(people, np.intp),
            alone=np.array([one.light_logit for one in results]),
            together=np.array([one.logit for one in results]),
            added={name: np.array([one.added[name] for one in results]) for name in names},
        )

    def select(self, rows: NDArray[Any]) -> GenuineScores:
        """Take some of the recordings."""
        return GenuineScores(
            people=self.people[rows],
            alone=self.alone[rows],
            together=self.together[rows],
            added={name: scores[rows] for name, scores in self.added.items()},
        )

    def shares(self, calibration: OwnSpoofingCalibration) -> NDArray[np.float64]:
        """Compute the share that each detector's score stands for, [n, detectors]."""
        columns = [(calibration.together, self.together)]
        columns += [(tail, self.added[name]) for name, tail in calibration.added.items()]
        return np.array([[tail.share(score) for score in scores] for tail, scores in columns]).T

    def flagged(self, calibration: OwnSpoofingCalibration, risk: int) -> NDArray[np.bool_]:
        """Find the recordings whose risk is at least this, [n]."""
        limit = share_of(risk)
        merged = [merged_share(row.tolist(), calibration.factor) for row in self.shares(calibration)]
        return np.asarray(merged) <= limit


def fit_own(scores: GenuineScores) -> OwnSpoofingCalibration:
    """Fit the calibration; every person counts the same. Raises SetupError for too few recordings."""
    people, counts = np.unique(scores.people, return_counts=True)
    if len(people) < MIN_PEOPLE or len(scores.people) < MIN_RECORDINGS:
        raise SetupError(
            f"{len(scores.people)} recordings of {len(people)} people are too few, must be "
            f"{MIN_RECORDINGS} of {MIN_PEOPLE} people at least: one false alarm in a hundred recordings "
            "could not be told from none"
        )
    weights = 1.0 / counts[np.searchsorted(people, scores.people)]
    try:
        made = OwnSpoofingCalibration(
            alone=fit_tail(scores.alone, weights),
            together=fit_tail(scores.together, weights),
            added={name: fit_tail(one, weights) for name, one in scores.added.items()},
            factor=1.0,
        )
    except ValueError as fault:
        raise SetupError(f"a detector cannot be calibrated on these recordings: {fault}") from None
    return replace(made, factor=fit_factor(scores.shares(made)))


def false_alarm_interval(scores: GenuineScores, risk: int) -> tuple[float, float]:
    """Estimate how far the share of genuine recordings at this risk may be from what the risk states.

    Calibrations are fitted to people drawn with replacement; each is tried on the people that were not
    drawn. Returns the middle 95 % of the shares found.
    """
    rng, people = np.random.default_rng(1), np.unique(scores.people)
    found = []
    for _ in range(_RESAMPLES):
        drawn = rng.choice(people, len(people))
        rows = np.concatenate([np.flatnonzero(scores.people == person) for person in drawn])
        left = scores.select(~np.isin(scores.people, drawn))
        try:
            made = fit_own(replace(scores.select(rows), people=_renumbered(scores, drawn)))
        except SetupError:
            continue
        if len(left.people):
            found.append(float(left.flagged(made, risk).mean()))
    return (float(np.quantile(found, 0.025)), float(np.quantile(found, 0.975))) if found else (0.0, 1.0)


def _renumbered(scores: GenuineScores, drawn: NDArray[Any]) -> NDArray[np.intp]:
    """Number people that were drawn several times apart, in the order of their recordings."""
    sizes = [int(np.count_nonzero(scores.people == person)) for person in drawn]
    return np.repeat(np.arange(len(drawn)), sizes)
