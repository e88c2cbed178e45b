"""What a similarity to the nearest of n fraudsters is worth, 0 to 100.

The score means how often honest callers would reach it against the *whole* list, whatever its length:
0 is always, 50 is one call in a hundred, 100 one in 100,000, and straight lines in log10 of that share
between. With p the share of comparisons of two strangers that reach a similarity, an honest call reaches it
against n fraudsters in the share 1 - (1 - p)^n.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import pairwise
from statistics import NormalDist

from sonant.errors import SetupError

#: Score and log10 of the share of honest calls that reach it.
ANCHORS = ((0, 0.0), (50, -2.0), (100, -5.0))
_DATA = "impostors.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImpostorTail:
    """Similarities of strangers at their upper end.

    Fisher's z, artanh of the cosine, is taken as normal ("Frequency distribution of the values of the
    correlation coefficient", 1915): it straightens the tail, and identical voices lie at infinity.
    """

    mean: float
    """Of z."""
    deviation: float
    """Of z."""

    def false_match_rate(self, similarity: float) -> float:
        """The share of comparisons of two strangers that are at least so similar, 0..1."""
        if abs(similarity) >= 1:
            return 0.0 if similarity > 0 else 1.0
        return 0.5 * math.erfc((math.atanh(similarity) - self.mean) / (self.deviation * math.sqrt(2)))

    def similarity_at(self, false_match_rate: float) -> float:
        """The inverse of `false_match_rate`, for 0 < rate < 1."""
        return math.tanh(self.mean - self.deviation * NormalDist().inv_cdf(false_match_rate))


def known_fraudster_risk(best_similarity: float, list_size: int, tail: ImpostorTail) -> int:
    """The score of the greatest similarity to `list_size` fraudsters; 0 for an empty list."""
    if list_size <= 0:
        return 0
    # log1p and expm1: 1 - (1 - p)^n loses all digits where it matters.
    rate = min(tail.false_match_rate(best_similarity), 1 - 1e-16)
    share = -math.expm1(list_size * math.log1p(-rate))
    level = math.log10(max(share, 10 ** ANCHORS[-1][1]))
    for (low, low_level), (high, high_level) in pairwise(ANCHORS):
        if level >= high_level:
            return math.floor(low + (high - low) * (level - low_level) / (high_level - low_level) + 0.5)
    return ANCHORS[-1][0]


def fraudster_similarity(best_similarity: float, known: int, tail: ImpostorTail) -> int:
    """FraudsterSimilarityScore of a new fraudster against all `known` ones: the same scale, so that at 50 one
    new fraudster in a hundred would be taken for one who is there already."""
    return known_fraudster_risk(best_similarity, known, tail)


@cache
def impostor_tail(model_id: str) -> ImpostorTail:
    """The fitted tail of a voice model's similarities. Raises SetupError for a model without one."""
    try:
        entry = json.loads(resources.files("sonant.voice.models").joinpath(_DATA).read_bytes())[model_id]
        return ImpostorTail(mean=entry["mean"], deviation=entry["deviation"])
    except (OSError, ValueError, KeyError, TypeError):
        raise SetupError(
            f"there is no calibration for the voice model {model_id}; reinstall sonant"
        ) from None
