"""Fit a whole calibration: strangers' tails for each amount of speech and each level of noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sonant.errors import SetupError
from sonant.voice.calibration.fit import Floats, Support, deviations, fit_upper, measure_support
from sonant.voice.calibration.model import MAX_SIMILARITY, Calibration, Node, Tail

NOISE_EDGES_DB = (12.0, 20.0, 30.0)
"""Limits of the noise levels: the signal-to-noise ratio of a comparison's noisier side."""
MIN_COMPARISONS = 2000
"""Comparisons needed for one amount of speech at one level of noise."""
MAX_FOR_SUPPORT = 300_000
"""Comparisons drawn for the bootstrap, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonTable:
    """Comparisons in columns; every field has shape [n]."""

    similarity: Floats
    first: NDArray[np.intp]
    second: NDArray[np.intp]
    """The two speakers, as numbers."""
    speech_s: Floats
    """Net speech of the probe."""
    snr_db: Floats
    """Signal-to-noise ratio of the noisier side."""

    def __len__(self) -> int:
        return len(self.similarity)

    @property
    def genuine(self) -> NDArray[np.bool_]:
        """Which comparisons are of one speaker; [n]."""
        same: NDArray[np.bool_] = self.first == self.second
        return same

    def select(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> ComparisonTable:
        """Select rows by a mask [n] or by indices."""
        return ComparisonTable(
            similarity=self.similarity[which],
            first=self.first[which],
            second=self.second[which],
            speech_s=self.speech_s[which],
            snr_db=self.snr_db[which],
        )

    def deviations(self, calibration: Calibration) -> Floats:
        """Compute the deviations of each above strangers, on a calibration's scale."""
        return deviations(calibration, self.similarity, self.speech_s, self.snr_db)


def concatenate(parts: Sequence[ComparisonTable]) -> ComparisonTable:
    """Join several tables."""
    return ComparisonTable(
        similarity=np.concatenate([part.similarity for part in parts]),
        first=np.concatenate([part.first for part in parts]),
        second=np.concatenate([part.second for part in parts]),
        speech_s=np.concatenate([part.speech_s for part in parts]),
        snr_db=np.concatenate([part.snr_db for part in parts]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GridFit:
    """A calibration without its likelihood ratio, and its evidence."""

    calibration: Calibration
    counts: tuple[int, ...]
    """Comparisons behind each node."""
    support: Support
    """The support, in deviations."""
    strangers: Floats
    """All comparisons in deviations, shape [n]."""


def fit_grid(model_id: str, strangers: ComparisonTable, *, least: int = MIN_COMPARISONS) -> GridFit:
    """Fit strangers' tails on a full grid of the amounts of speech, `speech_s`, and levels of noise.

    A level lies at the median of its comparisons; it is left out if some amount of speech has fewer than
    `least` of them. Raises SetupError when no level is left.
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
            z = np.arctanh(np.clip(strangers.similarity[of_level[place]], -MAX_SIMILARITY, MAX_SIMILARITY))
            snr_db = round(float(np.median(strangers.snr_db[parts == level])), 1)
            nodes.append(Node(speech_s=float(speech_s), snr_db=snr_db, tail=Tail(z=fit_upper(z))))
            counts.append(len(z))
    calibration = Calibration(model_id=model_id, nodes=tuple(nodes))
    found = strangers.deviations(calibration)
    some = np.random.default_rng(1).permutation(len(found))[:MAX_FOR_SUPPORT]
    support = measure_support(found[some], strangers.first[some], strangers.second[some])
    return GridFit(
        calibration=replace(calibration, supported_log10_far=support.supported_log10_far()),
        counts=tuple(counts),
        support=support,
        strangers=found,
    )
