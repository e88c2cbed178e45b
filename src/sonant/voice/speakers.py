"""Detect a second speaker on a channel: split pieces of speech in two groups and measure their separation.

Groups of two people lie further apart than those of one person. Measured with 7 telephone voices, 600 draws
of pieces of one and of two people, about 2.4 s each:

    speech    one person, flagged    two people, found (share of the second)
    14 s      4.3 %                  99 % (33 %)
    29 s      1.2 %                  98 % (17 %), 99.8 % (50 %)
    58 s      0.2 %                  99.8 % (17 %)

(The threshold was chosen on these voices.) Calls of them, 40 s of one and the other's answers, all pairs:
with both on one channel 42 of 42 are found, with one alone none of 42 is flagged.

Below a share of 12 % nothing is reported, on purpose: one odd piece is no person. In all of this two people
have two lines and never talk at once; otherwise they are found less often.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.models import Models
from sonant.voice.models.embedding import WINDOW_S, embed

PIECE_S = 2.4
"""Approximate speech in a piece: shorter ones distinguish voices worse, longer ones more often hold both."""
TURN_GAP_S = 0.3
"""A piece does not span a longer pause: the speaker behind it may be another."""
MIN_PIECES = 6
"""14.4 s of speech; with less, one person is flagged too often."""
COMPARABLE_PIECES = 4
"""Pieces of a recording needed to compare it with another one: 9.6 s of speech."""
MIN_SEPARATION, MIN_SHARE = 0.20, 0.12
"""What two groups of pieces need to count as two people; see the figures above."""

Vectors = NDArray[np.float32]

_ROUNDS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondVoice:
    """The result of splitting the speech into two groups."""

    possible: bool
    """Whether a second person probably speaks."""
    separation: float
    """See `separation`: 0..2, small for one person."""
    share: float
    """Share of the smaller group in all pieces, 0..0.5."""


def split_into_pieces(
    samples: NDArray[np.float32], spans: Iterable[tuple[int, int]]
) -> list[NDArray[np.float32]]:
    """Cut the speech in `spans` (sample numbers, in order) of samples at 8 kHz into pieces of 1.6 to 3.6 s.

    Speech between two pauses is cut evenly; speech too short for a piece is left out.
    """
    turns: list[list[NDArray[np.float32]]] = []
    last = -math.inf
    for start, end in spans:
        if start - last >= TURN_GAP_S * RATE_HZ:
            turns.append([])
        turns[-1].append(samples[start:end])
        last = end
    pieces: list[NDArray[np.float32]] = []
    for turn in map(np.concatenate, turns):
        if len(turn) >= WINDOW_S * RATE_HZ:
            pieces += np.array_split(turn, max(1, round(len(turn) / (PIECE_S * RATE_HZ))))
    return pieces


def embed_pieces(pieces: Sequence[NDArray[np.float32]], models: Models) -> Vectors:
    """Embed each piece; [pieces, 256]."""
    return np.stack([embed(piece, models).vector for piece in pieces]) if pieces else _NO_VECTORS


def find_second_voice(vectors: Vectors) -> SecondVoice | None:
    """Split the pieces' embeddings by two-means on directions. None for fewer than MIN_PIECES."""
    if len(vectors) < MIN_PIECES:
        return None
    group = _split(vectors)
    share = float(min(group.mean(), 1 - group.mean()))
    if share == 0:
        return SecondVoice(possible=False, separation=0.0, share=0.0)
    measured = separation(vectors[group], vectors[~group])
    possible = measured > MIN_SEPARATION and share >= MIN_SHARE
    return SecondVoice(possible=possible, separation=measured, share=share)


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


def _split(vectors: Vectors) -> NDArray[np.bool_]:
    """Split into two groups, starting from the two least similar embeddings."""
    found = vectors @ vectors.T
    one, other = np.unravel_index(np.argmin(found), found.shape)
    group: NDArray[np.bool_] = found[one] >= found[other]
    for _ in range(_ROUNDS):
        if group.all() or not group.any():
            break
        nearer = vectors @ (_unit(vectors[group].sum(axis=0)) - _unit(vectors[~group].sum(axis=0)))
        again = nearer >= 0
        if np.array_equal(again, group):
            break
        group = again
    return group


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vector / np.sqrt(np.sum(vector**2)), np.float32)


_NO_VECTORS = np.empty((0, 256), np.float32)
