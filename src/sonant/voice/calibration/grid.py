"""Fitting a whole calibration: the tail of strangers for each amount of speech and each level of noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sonant.errors import SetupError
from sonant.voice.calibration.fit import Floats, Support, deviations, fit_upper, measure_support
from sonant.voice.calibration.model import MOST_ALIKE, Calibration, Node, Tail

NOISE_EDGES_DB = (12.0, 20.0, 30.0)
"""Comparisons are parted by the signal-to-noise ratio of their noisier side."""
LEAST_COMPARISONS = 2000
"""Fewer say too little about one amount of speech at one level of noise."""
MOST_FOR_SUPPORT = 300_000
"""Of more comparisons so many are drawn for the bootstrap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Comparisons; every field has shape [n]."""

    similarity: Floats
    first: NDArray[np.intp]
    second: NDArray[np.intp]
    """Who they are, as numbers of people."""
    speech_s: Floats
    """Net speech of the probe."""
    snr_db: Floats
    """Of the noisier side."""

    def __len__(self) -> int:
        return len(self.similarity)

    @property
    def genuine(self) -> NDArray[np.bool_]:
        same: NDArray[np.bool_] = self.first == self.second
        return same

    def only(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> Compared:
        """Some of them, by a mask [n] or by places."""
        return Compared(
            similarity=self.similarity[which],
            first=self.first[which],
            second=self.second[which],
            speech_s=self.speech_s[which],
            snr_db=self.snr_db[which],
        )

    def deviations(self, calibration: Calibration) -> Floats:
        """How far each lies above strangers, on a calibration's scale."""
        return deviations(calibration, self.similarity, self.speech_s, self.snr_db)


def joined(parts: Sequence[Compared]) -> Compared:
    """All comparisons of several."""
    return Compared(
        similarity=np.concatenate([part.similarity for part in parts]),
        first=np.concatenate([part.first for part in parts]),
        second=np.concatenate([part.second for part in parts]),
        speech_s=np.concatenate([part.speech_s for part in parts]),
        snr_db=np.concatenate([part.snr_db for part in parts]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GridFit:
    """A calibration without its likelihood ratio, and what it rests on."""

    calibration: Calibration
    counts: tuple[int, ...]
    """Comparisons behind each of its nodes."""
    support: Support
    """In deviations."""
    strangers: Floats
    """All comparisons in deviations, shape [n]."""


def fit_grid(model_id: str, strangers: Compared, *, least: int = LEAST_COMPARISONS) -> GridFit:
    """Fit strangers' tails on a full grid of their amounts of speech, `speech_s`, and of levels of noise.

    A level lies at the median of its comparisons, and is left out where an amount of speech has fewer than
    `least` of it. Raises SetupError when no level is left.
    """
    seconds = np.unique(strangers.speech_s)
    parts = np.digitize(strangers.snr_db, NOISE_EDGES_DB)
    cells = {
        level: [(parts == level) & (strangers.speech_s == one) for one in seconds]
        for level in range(len(NOISE_EDGES_DB) + 1)
    }
    used = {
        level: of_level
        for level, of_level in cells.items()
        if of_level and min(np.count_nonzero(cell) for cell in of_level) >= least
    }
    if not used:
        raise SetupError(
            f"{len(strangers):,} comparisons of strangers are too few: each amount of speech takes at least "
            f"{least:,} at one level of noise"
        )
    nodes, counts = [], []
    for place, speech_s in enumerate(seconds):
        for level, of_level in used.items():
            z = np.arctanh(np.clip(strangers.similarity[of_level[place]], -MOST_ALIKE, MOST_ALIKE))
            snr_db = round(float(np.median(strangers.snr_db[parts == level])), 1)
            nodes.append(Node(speech_s=float(speech_s), snr_db=snr_db, tail=Tail(z=fit_upper(z))))
            counts.append(len(z))
    calibration = Calibration(model_id=model_id, nodes=tuple(nodes))
    found = strangers.deviations(calibration)
    some = np.random.default_rng(1).permutation(len(found))[:MOST_FOR_SUPPORT]
    support = measure_support(found[some], strangers.first[some], strangers.second[some])
    return GridFit(
        calibration=replace(calibration, supported_log10_far=support.supported_log10_far()),
        counts=tuple(counts),
        support=support,
        strangers=found,
    )
