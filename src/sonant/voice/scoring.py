"""Compare two embeddings, and turn similarities to fraudsters into risk scores.

A risk of known fraudsters, 0 to 100, means how often honest callers reach it against the *whole* list,
whatever its length: 0 is always, 50 is one call in a hundred, 100 one in 100,000, and straight lines in log10
of that share between. With p the share of comparisons of two strangers that reach a similarity, an honest
call reaches it against n fraudsters in the share 1 - (1 - p)^n.
"""

from __future__ import annotations

import math

import numpy as np

from sonant.errors import ModelMismatch
from sonant.voice.calibration.model import Tail, interpolate_score
from sonant.voice.models.embedding import Embedding

#: Score and log10 of the share of honest calls that reach it.
RISK_ANCHORS = ((0, 0.0), (50, -2.0), (100, -5.0))


def similarity(a: Embedding, b: Embedding) -> float:
    """Compute the cosine of two embeddings, -1..1; higher is more alike.

    Raises ModelMismatch if they come from different models.
    """
    if a.model_id != b.model_id:
        raise ModelMismatch(a.model_id, b.model_id)
    return float(np.dot(a.vector, b.vector))


def known_fraudster_risk(best_similarity: float, list_size: int, tail: Tail) -> int:
    """Score the greatest similarity to `list_size` fraudsters, 0..100; 0 for an empty list."""
    if list_size <= 0:
        return 0
    # log1p and expm1: 1 - (1 - p)^n loses all digits where it matters.
    rate = min(10 ** tail.log10_far(best_similarity), 1 - 1e-16)
    share = -math.expm1(list_size * math.log1p(-rate))
    level = math.log10(max(share, 10 ** RISK_ANCHORS[-1][1]))
    return math.floor(interpolate_score(RISK_ANCHORS, level) + 0.5)


def fraudster_similarity(best_similarity: float, known: int, tail: Tail) -> int:
    """Score a new fraudster against all `known` ones (FraudsterSimilarityScore), 0..100.

    The scale is that of the risk: at 50, one new fraudster in a hundred would be taken for a known one.
    """
    return known_fraudster_risk(best_similarity, known, tail)
