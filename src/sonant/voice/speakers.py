"""Compare the speakers of two recordings by embeddings of pieces of their speech."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.models import Models
from sonant.voice.models.embedding import WINDOW_S, embed
from sonant.voice.turns import Span, take

PIECE_S = 2.4
"""Approximate speech in a piece: shorter ones distinguish voices worse."""
COMPARABLE_PIECES = 4
"""Pieces of a recording needed to compare it with another one: 9.6 s of speech."""
MIN_SEPARATION = 0.20
"""What two recordings need to count as two people; see `separation`."""

Vectors = NDArray[np.float32]


def embed_pieces(
    samples: NDArray[np.float32], spans: Iterable[Span], models: Models, *, most: int
) -> Vectors:
    """Embed the speech of one person, in `spans` of samples at 8 kHz, in pieces of about 2.4 s.

    Only the first `most` pieces are embedded; [pieces, d].
    """
    speech = take(samples, spans)[: round(most * PIECE_S * RATE_HZ)]
    if len(speech) < WINDOW_S * RATE_HZ:
        return np.empty((0, 0), np.float32)
    pieces = np.array_split(speech, max(1, round(len(speech) / (PIECE_S * RATE_HZ))))
    return np.stack([embed(piece, models).vector for piece in pieces])


def separation(one: Vectors, other: Vectors) -> float:
    """Subtract the mean similarity across two groups from that within them; at most 2.

    Unlike plain similarity it does not depend on how well this voice can be recognized on this line at all.
    Of two recordings of one of 7 telephone voices with 10 s of speech none of 1,500 pairs lies above
    MIN_SEPARATION; of two people's 99.6 %.
    """
    within = [_mean_of_pairs(group @ group.T) for group in (one, other) if len(group) > 1]
    return float(np.mean(within) - (one @ other.T).mean()) if within else 0.0


def _mean_of_pairs(found: Vectors) -> float:
    """Average a square of similarities without its diagonal."""
    count = len(found)
    return float((found.sum() - np.trace(found)) / (count * (count - 1)))
