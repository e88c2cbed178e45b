"""Many voices against each other: one person under several ids, several people under one.

Exact: every pair is compared, in blocks. Memory is the vectors and one block of similarities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonant.voice.calibration.model import Tail

DIFFERENT_VOICES_LOG10_FAR = -1.0
"""Two voiceprints of one person are hardly ever less alike than the most similar tenth of strangers."""

SAME_RECORDING = 0.9995
"""Only the same speech is so alike."""

#: Two voices count as one only if fewer pairs of strangers than this are so alike,
_MOST_CHANCE = 1e-4
#: and if chance finds no more than one pair for so many voices.
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
    """The voice of the same id that is least like this one, if under `different_voices`; else -1."""
    stranger_similarity: NDArray[np.float32]
    pairs: int
    """Pairs of different ids that were compared."""
    same_voice: float
    """The similarity from which voices of two ids count as one."""
    different_voices: float
    """The similarity below which voices of one id count as two."""
    chance_pairs: float
    """How many pairs of different people are expected to be as alike as `same_voice`."""


def same_voice_threshold(voices: int, tail: Tail) -> float:
    """The similarity from which two of so many voices count as one person's: the more, the stricter."""
    pairs_a_voice = max(voices, 1) / 2
    return tail.similarity_at(math.log10(min(_MOST_CHANCE, 1 / (_VOICES_A_CHANCE * pairs_a_voice))))


def similarities(one: Vectors, other: Vectors) -> Vectors:
    """`scoring.similarity` of all pairs: [n, d] and [m, d] to [n, m]. All of one maker."""
    found: Vectors = one @ other.T
    return found


def compare_all(
    vectors: Vectors, ids: NDArray[np.int64], tail: Tail, *, strict: Tail | None = None
) -> Likeness:
    """Compare n voices ([n, d], one maker) whose ids are numbers, [n]; `tail` is that of strangers.

    `strict`, if given, says who counts as one: on some lines strangers are more alike than usual.
    """
    strict = strict or tail
    count = len(vectors)
    same_voice = same_voice_threshold(count, strict)
    different_voices = tail.similarity_at(DIFFERENT_VOICES_LOG10_FAR)
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
    stranger[worst >= different_voices] = _NOBODY
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
        different_voices=different_voices,
        chance_pairs=pairs * 10 ** strict.log10_far(same_voice),
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
