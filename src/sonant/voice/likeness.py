"""Many voices against each other: one person under several ids, several people under one.

Exact: every pair is compared, in blocks. Memory is the vectors and one block of similarities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DIFFERENT_VOICES = 0.80
"""Voiceprints of one person are hardly ever less alike than this.

With 29 s of speech, 0.1 % of 1298 pairs of one of 7 telephone voices lie under it, and 93 % of different
voices' pairs. One person on two different telephones is less alike than that.
"""

SAME_RECORDING = 0.9995
"""Only the same speech is so alike."""

#: One voice or two, by 30 s of speech: at 0.90, 98.6 % of 1254 pairs of one telephone voice are found.
#: By chance, 1 in 10,000 pairs of 204 LibriSpeech speakers in the telephone band reaches it (about 12 s of
#: speech; of 8899 pairs of different telephone voices with 30 s none), and from 0.86 on ten times fewer with
#: every further 0.029. What lies above 0.91 is that line drawn on: more pairs than 20,706 were not measured.
_LEAST, _MOST = 0.90, 0.95
_CHANCE_AT_LEAST, _DECADES = 1e-4, 34.0
#: Chance may find one pair for so many voices.
_VOICES_A_CHANCE = 100

Vectors = NDArray[np.float32]

_BLOCK = 1024
_NOBODY = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """What comparing n voices found; every array has shape [n]."""

    twin: NDArray[np.int64]
    """The voice of another id that is most like this one, if at least `same_voice`; else -1."""
    twin_similarity: NDArray[np.float32]
    twins: NDArray[np.int64]
    """How many voices of other ids are so like."""
    stranger: NDArray[np.int64]
    """The voice of the same id that is least like this one, if under DIFFERENT_VOICES; else -1."""
    stranger_similarity: NDArray[np.float32]
    pairs: int
    """Pairs of different ids that were compared."""
    same_voice: float
    """The similarity from which voices of two ids count as one."""

    @property
    def chance_pairs(self) -> float:
        """How many pairs of different people are expected to be so alike."""
        return self.pairs * float(_CHANCE_AT_LEAST * 10 ** (-_DECADES * (self.same_voice - _LEAST)))


def same_voice_threshold(voices: int) -> float:
    """The similarity from which two of so many voices count as one person's: the more, the stricter."""
    pairs_a_voice = max(voices, 1) / 2
    wanted = 1 / (_VOICES_A_CHANCE * pairs_a_voice)
    return float(np.clip(_LEAST + np.log10(_CHANCE_AT_LEAST / wanted) / _DECADES, _LEAST, _MOST))


def similarities(one: Vectors, other: Vectors) -> Vectors:
    """`scoring.similarity` of all pairs: [n, d] and [m, d] to [n, m]. All of one maker."""
    found: Vectors = one @ other.T
    return found


def compare_all(vectors: Vectors, ids: NDArray[np.int64]) -> Likeness:
    """Compare n voices ([n, d], one maker) whose ids are numbers, [n]."""
    count = len(vectors)
    same_voice = same_voice_threshold(count)
    best, worst = np.full(count, -np.inf, np.float32), np.full(count, np.inf, np.float32)
    twin, stranger = np.full(count, _NOBODY, np.int64), np.full(count, _NOBODY, np.int64)
    twins = np.zeros(count, np.int64)
    for start in range(0, count, _BLOCK):
        rows = slice(start, start + _BLOCK)
        for first in range(0, count, _BLOCK):
            columns = slice(first, first + _BLOCK)
            found = similarities(vectors[rows], vectors[columns])
            same = ids[rows, None] == ids[None, columns]
            _improve(best, twin, rows, first, np.where(same, -np.inf, found), 1)
            _improve(worst, stranger, rows, first, np.where(same, found, np.inf), -1)
            twins[rows] += np.sum(~same & (found >= same_voice), axis=1)
    twin[best < same_voice] = _NOBODY
    stranger[worst >= DIFFERENT_VOICES] = _NOBODY
    _, sizes = np.unique(ids, return_counts=True)
    pairs = (count * (count - 1) - int(np.sum(sizes * (sizes - 1)))) // 2
    return Likeness(
        twin=twin,
        twin_similarity=best,
        twins=twins,
        stranger=stranger,
        stranger_similarity=worst,
        pairs=pairs,
        same_voice=same_voice,
    )


def _improve(
    record: Vectors,
    holder: NDArray[np.int64],
    rows: slice,
    first: int,
    found: NDArray[np.floating],
    sign: int,
) -> None:
    """Let the greatest (sign 1) or least (-1) of each row's values take the row's record, if it beats it."""
    place = np.argmax(sign * found, axis=1)
    value = found[np.arange(len(found)), place]
    better = sign * value > sign * record[rows]
    record[rows] = np.where(better, value, record[rows])
    holder[rows] = np.where(better, first + place, holder[rows])
