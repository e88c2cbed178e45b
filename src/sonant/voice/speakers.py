"""Does a second person speak on the channel? Pieces of speech are split in two groups; two people's groups
lie further apart than one person's.

Measured with 7 telephone voices, 600 draws of pieces of one and of two people, about 2.4 s each:

    speech    one person, flagged    two people, found (share of the second)
    14 s      4.3 %                  99 % (33 %)
    29 s      1.2 %                  98 % (17 %), 99.8 % (50 %)
    58 s      0.2 %                  99.8 % (17 %)

(The threshold was chosen on these voices.) Calls of them, 40 s of one and the other's answers, all pairs:
with both on one channel 42 of 42 are found, with one alone none of 42 is flagged.

Below a share of 12 % nothing is found, on purpose: one odd piece is no person. In all of this two people have
two lines and never talk at once; otherwise they are found less often.
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
"""Speech in a piece, about: shorter ones tell voices apart worse, longer ones more often hold both."""
TURN_GAP_S = 0.3
"""A piece does not reach over a longer pause: whoever speaks behind it may be another."""
MIN_PIECES = 6
"""14.4 s of speech; with less, one person is flagged too often."""
COMPARABLE_PIECES = 4
"""Of a recording that is compared with another one: 9.6 s of speech."""
CONTRAST, LEAST_SHARE = 0.20, 0.12
"""What two groups of pieces need to count as two people; see the figures above."""

Vectors = NDArray[np.float32]

_ROUNDS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondVoice:
    """How the speech falls apart in two."""

    possible: bool
    contrast: float
    """How much less alike pieces of different groups are than pieces of one: 0..2, one person's is small."""
    share: float
    """Of the smaller group in all pieces, 0..0.5."""


def pieces_of(samples: NDArray[np.float32], spans: Iterable[tuple[int, int]]) -> list[NDArray[np.float32]]:
    """Pieces of 1.6 to 3.6 s of the speech in `spans` (sample numbers, in order) of samples at 8 kHz.

    What is said between two pauses is cut evenly; what is too short for a piece is left out.
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


def window_vectors(pieces: Sequence[NDArray[np.float32]], models: Models) -> Vectors:
    """One embedding a piece; [pieces, 256]."""
    return np.stack([embed(piece, models).vector for piece in pieces]) if pieces else _NONE


def second_voice(windows: Vectors) -> SecondVoice | None:
    """Two-means over the windows' directions. None when there are fewer than MIN_PIECES."""
    if len(windows) < MIN_PIECES:
        return None
    group = _split(windows)
    share = float(min(group.mean(), 1 - group.mean()))
    if share == 0:
        return SecondVoice(possible=False, contrast=0.0, share=0.0)
    contrast = contrast_between(windows[group], windows[~group])
    possible = contrast > CONTRAST and share >= LEAST_SHARE
    return SecondVoice(possible=possible, contrast=contrast, share=share)


def contrast_between(one: Vectors, other: Vectors) -> float:
    """How much less alike pieces of different groups are than pieces of one group, at most 2.

    Unlike plain similarity it does not depend on how well this voice, on this line, is told apart at all.
    Of two recordings of one of 7 telephone voices with 10 s of speech none of 1,500 pairs lies above it;
    of two people's 99.6 %.
    """
    within = [_mean_of_pairs(group @ group.T) for group in (one, other) if len(group) > 1]
    return float(np.mean(within) - (one @ other.T).mean()) if within else 0.0


def _mean_of_pairs(found: Vectors) -> float:
    """Mean of what lies beside the diagonal of a square of similarities."""
    count = len(found)
    return float((found.sum() - np.trace(found)) / (count * (count - 1)))


def _split(windows: Vectors) -> NDArray[np.bool_]:
    """Two groups, begun with the two windows least alike."""
    found = windows @ windows.T
    one, other = np.unravel_index(np.argmin(found), found.shape)
    group: NDArray[np.bool_] = found[one] >= found[other]
    for _ in range(_ROUNDS):
        if group.all() or not group.any():
            break
        nearer = windows @ (_unit(windows[group].sum(axis=0)) - _unit(windows[~group].sum(axis=0)))
        again = nearer >= 0
        if np.array_equal(again, group):
            break
        group = again
    return group


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vector / np.sqrt(np.sum(vector**2)), np.float32)


_NONE = np.empty((0, 256), np.float32)
