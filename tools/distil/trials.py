"""Measure the separation of scores of one person from those of two people."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]


def equal_error_rate(genuine: Scores, impostor: Scores) -> float:
    """Compute the rate at which the shares of rejected genuine and accepted impostor scores are equal."""
    order = np.argsort(np.concatenate([genuine, impostor]), kind="stable")
    is_genuine = order < len(genuine)
    rejected = np.cumsum(is_genuine) / len(genuine)
    accepted = 1 - np.cumsum(~is_genuine) / len(impostor)
    crossing = int(np.argmin(np.abs(rejected - accepted)))
    return float((rejected[crossing] + accepted[crossing]) / 2)


def separation(genuine: Scores, impostor: Scores) -> float:
    """Compute d', the distance of the two means in pooled standard deviations."""
    return float((genuine.mean() - impostor.mean()) / np.sqrt((genuine.var() + impostor.var()) / 2))
