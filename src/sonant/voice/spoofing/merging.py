"""Merge what several detectors of synthetic speech found in one recording, on one calibrated scale.

Each detector's score becomes the share of genuine recordings that reach it. The smallest share decides: a
detector that does not recognize a synthesizer takes nothing away from one that does. Several detectors have
several chances of a false alarm, so the smallest share is multiplied by a factor between 1, for detectors
that are alarmed by the same recordings, and their number, for independent ones (Bonferroni's bound). The
factor is measured on genuine recordings that all of them have scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FACTOR_SHARE = 0.1
"""Share of genuine recordings at which the factor is measured: smaller ones have too few recordings."""


def merged_share(shares: Sequence[float], factor: float) -> float:
    """Compute the share of genuine recordings in which the detectors together find as much; at most 1.

    `shares` are those of the detectors, at least one; `factor` comes from `fit_factor`.
    """
    return min(1.0, factor * min(shares))


def fit_factor(shares: NDArray[Any]) -> float:
    """Fit the factor to the shares of genuine recordings, [recordings, detectors]."""
    smallest = np.min(shares, axis=1)
    reached = float(np.quantile(smallest, FACTOR_SHARE))
    return float(np.clip(FACTOR_SHARE / max(reached, 1e-12), 1.0, shares.shape[1]))
