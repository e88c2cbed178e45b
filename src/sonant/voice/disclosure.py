"""Coarsen scores, so that answers do not give a stored voice away.

The encoder is public: an exact similarity or score of a probe is one equation about the stored embedding, and
some hundred of them give it. A band says what a decision needs and little more.
"""

from __future__ import annotations

from bisect import bisect_right

#: Lower ends of the bands of authentication scores: one stranger in 100 reaches 80, in 1,000 90, in 100,000
#: 100 (`calibration.model.SCORE_ANCHORS`). Nearly all voices of other people are in the first band, so that
#: its answers contain little: a band at 50 would be worth five times as much to an attacker.
SCORE_BANDS = (0, 80, 90, 100)
#: Lower ends of the bands of risks and similarities of known fraudsters (`scoring.RISK_ANCHORS`): one honest
#: call in 100 reaches 50, in 3,000 75, in 100,000 100.
RISK_BANDS = (0, 50, 75, 100)


def coarse_score(
    score: int, bands: tuple[int, ...], *, threshold: int | None = None, exact_within: int = 0
) -> int:
    """Return the lower end of a score's band, 0..100.

    With a threshold the result is on the same side of it as the score, so that it fits the decision, and the
    score itself if it is at most `exact_within` away.
    """
    floor = bands[bisect_right(bands, score) - 1]
    if threshold is None:
        return floor
    if abs(score - threshold) <= exact_within:
        return score
    return max(floor, threshold) if score >= threshold else floor
