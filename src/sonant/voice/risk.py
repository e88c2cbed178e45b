"""What a similarity to the nearest of n fraudsters is worth, 0 to 100.

The score means how often honest callers would reach it against the *whole* list, whatever its length:
0 is always, 50 is one call in a hundred, 100 one in 100,000, and straight lines in log10 of that share
between. With p the share of comparisons of two strangers that reach a similarity, an honest call reaches it
against n fraudsters in the share 1 - (1 - p)^n.
"""

from __future__ import annotations

import math

from sonant.voice.calibration.model import Tail, place_between

#: Score and log10 of the share of honest calls that reach it.
ANCHORS = ((0, 0.0), (50, -2.0), (100, -5.0))


def known_fraudster_risk(best_similarity: float, list_size: int, tail: Tail) -> int:
    """The score of the greatest similarity to `list_size` fraudsters; 0 for an empty list."""
    if list_size <= 0:
        return 0
    # log1p and expm1: 1 - (1 - p)^n loses all digits where it matters.
    rate = min(10 ** tail.log10_far(best_similarity), 1 - 1e-16)
    share = -math.expm1(list_size * math.log1p(-rate))
    level = math.log10(max(share, 10 ** ANCHORS[-1][1]))
    return math.floor(place_between(ANCHORS, level) + 0.5)


def fraudster_similarity(best_similarity: float, known: int, tail: Tail) -> int:
    """FraudsterSimilarityScore of a new fraudster against all `known` ones: the same scale, so that at 50 one
    new fraudster in a hundred would be taken for one who is there already."""
    return known_fraudster_risk(best_similarity, known, tail)
