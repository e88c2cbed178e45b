"""Which of many voices are the same: every pair is compared, exactly, in blocks. Pure.

All pairs of 100,000 voices are 5 thousand million comparisons, 2.6 TFLOP of matrix products: half a minute or
so on a core, in memory for the voices and one block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BLOCK = 4096
"""Voices a side; a block of similarities has 64 MiB."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Pairs of voices that are alike; all arrays have shape [n]."""

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    similarity: NDArray[np.float32]


def alike(vectors: Vectors, *, at_least: float, rows: range | None = None) -> Iterator[Pairs]:
    """All pairs (i, j), i < j, of unit vectors [n, d] whose cosine is `at_least` or more.

    With `rows` only those whose i lies in it. Pairs come block by block: i ascends from one block of rows to
    the next, not within it.
    """
    rows = range(len(vectors)) if rows is None else rows
    for top in range(rows.start, min(rows.stop, len(vectors)), _BLOCK):
        bottom = min(top + _BLOCK, rows.stop, len(vectors))
        for left in range(top, len(vectors), _BLOCK):
            right = min(left + _BLOCK, len(vectors))
            similarity = vectors[top:bottom] @ vectors[left:right].T
            # Flat indices of the few that count: far cheaper than a two-dimensional search of all.
            found = np.flatnonzero(similarity.reshape(-1) >= at_least)
            i, j = np.divmod(found, right - left)
            i, j = i + top, j + left
            upper = i < j
            if upper.any():
                yield Pairs(first=i[upper], second=j[upper], similarity=similarity.reshape(-1)[found[upper]])


def groups(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Voices that hang together by pairs, also by way of others; each group ascending, largest first."""
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
