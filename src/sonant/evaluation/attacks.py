"""Error rates of attack detection in the terms of ISO/IEC 30107-3. High scores stand for attacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackRates:
    """Rates of one kind of attack against all genuine recordings."""

    eer: float
    """The rate at which as many genuine recordings are flagged as attacks are missed."""
    apcer_at_bpcer_1: float
    """Share of attacks missed by the threshold that flags 1 % of genuine recordings."""
    apcer_at_bpcer_5: float


def attack_rates(genuine: NDArray[Any], attacks: NDArray[Any]) -> AttackRates:
    """Compute the rates; both [n], at least one score each."""
    return AttackRates(
        eer=equal_error_rate(genuine, attacks),
        apcer_at_bpcer_1=apcer_at(genuine, attacks, bpcer=0.01),
        apcer_at_bpcer_5=apcer_at(genuine, attacks, bpcer=0.05),
    )


def equal_error_rate(genuine: NDArray[Any], attacks: NDArray[Any]) -> float:
    """Compute the rate at which as many genuine recordings are flagged as attacks are missed."""
    at = np.sort(np.concatenate([genuine, attacks]))
    flagged = 1 - np.searchsorted(np.sort(genuine), at) / len(genuine)
    missed = np.searchsorted(np.sort(attacks), at) / len(attacks)
    nearest = int(np.argmin(np.abs(flagged - missed)))
    return float((flagged[nearest] + missed[nearest]) / 2)


def apcer_at(genuine: NDArray[Any], attacks: NDArray[Any], *, bpcer: float) -> float:
    """Compute the share of attacks missed by the lowest threshold that flags at most `bpcer` of genuine ones.

    A recording is flagged when its score is above the threshold.
    """
    allowed = int(bpcer * len(genuine) + 1e-9)
    threshold = np.sort(genuine)[len(genuine) - allowed - 1]
    return float(np.mean(attacks <= threshold))
