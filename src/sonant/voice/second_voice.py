"""Does a second person speak on the channel? Pieces of speech are split in two groups; two people's groups
lie further apart than one person's.

Measured with 7 telephone voices and 5 LibriSpeech speakers in the telephone band, pieces of two people put
together; found is given for telephone voices, other people's 97 to 100 %:

    speech    one person, flagged    two people, found (share of the second)
    14 s      4.0 %                  93 % (17 %), 97 % (50 %)
    29 s      1.7 %                  96 % (17 %), 98 % (42 %)
    60 s      0.5 %                  98 % (16 %), 99 % (40 %)

Below a share of 12 % nothing is found, on purpose: one odd piece is no person. In these figures two people
have two lines and never talk at once; on one line they are found less often.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonant.voice.audio import RATE_HZ
from sonant.voice.embedding import WINDOW_S, embed
from sonant.voice.models import Models

PIECE_S = 2.4
"""Speech in a piece: shorter ones tell voices apart worse, longer ones more often hold both."""
MIN_PIECES = 6
"""14.4 s of speech; with less, one person is flagged too often."""
COMPARABLE_PIECES = 4
"""Of a recording that is compared with another one: 9.6 s of speech."""
CONTRAST, LEAST_SHARE = 0.13, 0.12
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


def window_vectors(speech: NDArray[np.float32], models: Models) -> Vectors:
    """One embedding each 2.4 s of speech at 8 kHz (float32, [n]), pauses removed; [windows, 256].

    Shorter speech, from 1.6 s on, gives one window; less gives none.
    """
    size = int(PIECE_S * RATE_HZ)
    pieces = [speech[start : start + size] for start in range(0, len(speech) - size + 1, size)]
    if not pieces and len(speech) >= WINDOW_S * RATE_HZ:
        pieces = [speech]
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
    Of two recordings of one of 12 people with 10 s of speech, 1 % lie above CONTRAST (with 29 s, 0.2 %); of
    different people's 99 %, as of 16,653 pairs of other people with 10 s.
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
