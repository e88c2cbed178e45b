"""Compare many voices with each other: duplicates under several ids, different people under one id.

Exact: every pair is compared, in blocks. Memory holds the vectors and one block of similarities. All pairs of
100,000 voices are 5 thousand million comparisons, 2.6 TFLOP of matrix products: about half a minute per core.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonant.voice.calibration.model import Tail

DIFFERENT_VOICES_LOG10_FAR = -1.0
"""Two voiceprints of one person are hardly ever less similar than the most similar tenth of strangers."""

SAME_RECORDING = 0.9995
"""Only the same speech is this similar."""

#: Two voices count as one only if fewer pairs of strangers than this are as similar,
_MAX_CHANCE = 1e-4
#: and if chance produces no more than one pair in this many voices.
_VOICES_PER_CHANCE = 100

Vectors = NDArray[np.float32]

BLOCK, LARGE_BLOCK = 1024, 4096
"""Voices per side of a block; a large one has 64 MiB of similarities."""
_NONE = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class PairwiseComparison:
    """The result of comparing n voices; every array has shape [n]."""

    closest: NDArray[np.int64]
    """Index of the most similar voice of another id, if at least `same_voice_threshold`; else -1."""
    closest_similarity: NDArray[np.float32]
    close_count: NDArray[np.int64]
    """Number of voices of other ids that are at least so similar."""
    farthest: NDArray[np.int64]
    """Index of the least similar voice of the same id, if under `different_voices_threshold`; else -1."""
    farthest_similarity: NDArray[np.float32]
    pairs: int
    """Number of pairs of different ids that were compared."""
    same_voice_threshold: float
    """Similarity from which voices of two ids count as one person."""
    different_voices_threshold: float
    """Similarity below which voices of one id count as two people."""
    chance_pairs: float
    """Number of pairs of different people expected to reach `same_voice_threshold`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarPairs:
    """Pairs of similar voices; all arrays have shape [n]."""

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    similarity: NDArray[np.float32]


def same_voice_threshold(voices: int, tail: Tail) -> float:
    """Choose the similarity from which two of this many voices count as one: stricter the more there are."""
    pairs_per_voice = max(voices, 1) / 2
    return tail.similarity_at(math.log10(min(_MAX_CHANCE, 1 / (_VOICES_PER_CHANCE * pairs_per_voice))))


def similarities(one: Vectors, other: Vectors) -> Vectors:
    """Compute `scoring.similarity` of all pairs: [n, d] and [m, d] to [n, m]. All of one model."""
    found: Vectors = one @ other.T
    return found


def compare_all(
    vectors: Vectors, ids: NDArray[np.int64], tail: Tail, *, strict: Tail | None = None, block: int = BLOCK
) -> PairwiseComparison:
    """Compare n voices ([n, d], one model) whose ids are numbers, [n]; `tail` is that of strangers.

    `strict`, if given, decides which voices count as one: on some lines strangers are more similar.
    """
    strict = strict or tail
    count = len(vectors)
    same_voice = same_voice_threshold(count, strict)
    different_voices = tail.similarity_at(DIFFERENT_VOICES_LOG10_FAR)
    best, worst = np.full(count, -np.inf, np.float32), np.full(count, np.inf, np.float32)
    closest, farthest = np.full(count, _NONE, np.int64), np.full(count, _NONE, np.int64)
    close_count = np.zeros(count, np.int64)
    for start in range(0, count, block):
        rows = slice(start, start + block)
        for first in range(0, count, block):
            columns = slice(first, first + block)
            found = similarities(vectors[rows], vectors[columns])
            same = ids[rows, None] == ids[None, columns]
            _improve(best, closest, rows, first, np.where(same, -np.inf, found), 1)
            _improve(worst, farthest, rows, first, np.where(same, found, np.inf), -1)
            close_count[rows] += np.sum(~same & (found >= same_voice), axis=1)
    closest[best < same_voice] = _NONE
    farthest[worst >= different_voices] = _NONE
    _, sizes = np.unique(ids, return_counts=True)
    pairs = (count * (count - 1) - int(np.sum(sizes * (sizes - 1)))) // 2
    return PairwiseComparison(
        closest=closest,
        closest_similarity=best,
        close_count=close_count,
        farthest=farthest,
        farthest_similarity=worst,
        pairs=pairs,
        same_voice_threshold=same_voice,
        different_voices_threshold=different_voices,
        chance_pairs=pairs * 10 ** strict.log10_far(same_voice),
    )


def similar_pairs(
    vectors: Vectors, *, at_least: float, rows: range | None = None, block: int = LARGE_BLOCK
) -> Iterator[SimilarPairs]:
    """Find all pairs (i, j), i < j, of unit vectors [n, d] whose cosine is `at_least` or more.

    With `rows` only those whose i lies in it. Pairs come block by block: i ascends from one block of rows to
    the next, not within it.
    """
    rows = range(len(vectors)) if rows is None else rows
    for top in range(rows.start, min(rows.stop, len(vectors)), block):
        bottom = min(top + block, rows.stop, len(vectors))
        for left in range(top, len(vectors), block):
            right = min(left + block, len(vectors))
            similarity = vectors[top:bottom] @ vectors[left:right].T
            # Flat indices of the few that count: far cheaper than a two-dimensional search of all.
            found = np.flatnonzero(similarity.reshape(-1) >= at_least)
            i, j = np.divmod(found, right - left)
            i, j = i + top, j + left
            upper = i < j
            if upper.any():
                yield SimilarPairs(
                    first=i[upper], second=j[upper], similarity=similarity.reshape(-1)[found[upper]]
                )


def connected_groups(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Group voices that are connected by pairs, directly or through others.

    Each group ascends; the largest group comes first.
    """
    parent: dict[int, int] = {}

    def root(one: int) -> int:
        while parent.setdefault(one, one) != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        return one

    for first, second in pairs:
        parent[max(root(first), root(second))] = min(root(first), root(second))
    found: dict[int, list[int]] = {}
    for one in sorted(parent):
        found.setdefault(root(one), []).append(one)
    return sorted(found.values(), key=lambda group: (-len(group), group[0]))


def _improve(
    record: Vectors,
    holder: NDArray[np.int64],
    rows: slice,
    first: int,
    found: NDArray[np.floating],
    sign: int,
) -> None:
    """Update each row's record and its holder with the greatest (sign 1) or least (-1) of its values."""
    place = np.argmax(sign * found, axis=1)
    value = found[np.arange(len(found)), place]
    better = sign * value > sign * record[rows]
    record[rows] = np.where(better, value, record[rows])
    holder[rows] = np.where(better, first + place, holder[rows])
