"""Search many voices exactly for the one most similar to a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Products held at once: 16 MiB of float32.
_PRODUCTS = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The most similar voice."""

    key: str
    similarity: float
    """Cosine, -1..1."""


class Gallery:
    """Holds the voices to search: unit vectors of one model, float32, each under a key. Not thread-safe.

    Of voices that are exactly equally similar any may be found.
    """

    def __init__(self, keys: Sequence[str] = (), vectors: NDArray[np.float32] | None = None) -> None:
        """Take `vectors`, [len(keys), dimensions]; not copied if float32 and contiguous.

        Raises ValueError for a repeated key or another number of vectors.
        """
        self._keys = list(keys)
        self._index = {key: row for row, key in enumerate(self._keys)}
        if len(self._index) != len(self._keys):
            raise ValueError("a key is given twice")
        self._rows = np.ascontiguousarray(np.empty((0, 0)) if vectors is None else vectors, np.float32)
        if len(self._rows) != len(self._keys):
            raise ValueError(f"{len(self._keys)} keys, but {len(self._rows)} vectors")

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: object) -> bool:
        return key in self._index

    @property
    def keys(self) -> Sequence[str]:
        """All keys, in no particular order."""
        return tuple(self._keys)

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The memory behind the vectors, [capacity, dimensions]; rows past the last voice are unused."""
        return self._rows

    def add(self, key: str, vector: NDArray[np.float32]) -> None:
        """Add a voice. Raises ValueError for a key that is there already."""
        if key in self._index:
            raise ValueError("a key is given twice")
        count = len(self._keys)
        if count == len(self._rows):  # full: double the capacity, so that adding n voices copies O(n)
            grown = np.empty((max(16, 2 * count), len(vector)), np.float32)
            grown[:count] = self._rows[:count].reshape(count, -1) if count else grown[:0]
            self._rows = grown
        self._rows[count] = vector
        self._index[key] = count
        self._keys.append(key)

    def remove(self, key: str) -> None:
        """Remove a voice; the last one takes its row. Raises KeyError."""
        row, last = self._index.pop(key), len(self._keys) - 1
        moved = self._keys.pop()
        if row != last:
            self._keys[row], self._index[moved] = moved, row
            self._rows[row] = self._rows[last]
        self._rows[last] = 0  # a removed voice must not remain in memory

    def best(self, queries: Sequence[NDArray[np.float32]] | NDArray[np.float32]) -> list[Match | None]:
        """Find the most similar voice for each query (unit vectors); None in an empty gallery.

        The similarity of a pair does not depend on the other queries.
        """
        if not self._keys or not len(queries):
            return [None] * len(queries)
        vectors = np.ascontiguousarray(queries, np.float32)
        rows = self._rows[: len(self._keys)]
        if len(vectors) == 1:  # one call against a usual list takes ten microseconds: keep it direct
            return [self._match(rows, int(rows.dot(vectors[0]).argmax()), vectors[0])]
        nearest = _nearest(rows, vectors)
        return [self._match(rows, row, query) for row, query in zip(nearest, vectors, strict=True)]

    def _match(self, rows: NDArray[np.float32], row: int, query: NDArray[np.float32]) -> Match:
        """Compute the similarity always in the same way, however the row was found."""
        return Match(key=self._keys[row], similarity=float(rows[row].dot(query)))


def _nearest(rows: NDArray[np.float32], queries: NDArray[np.float32]) -> list[int]:
    """Find the row of the greatest product for each query, in blocks of rows."""
    step = max(1, _PRODUCTS // len(queries))
    nearest = np.zeros(len(queries), np.intp)
    best = np.full(len(queries), -np.inf, np.float32)
    for first in range(0, len(rows), step):
        products = queries @ rows[first : first + step].T
        found = products.argmax(axis=1)
        values = products[np.arange(len(queries)), found]
        better = values > best
        nearest[better], best[better] = found[better] + first, values[better]
    return [int(row) for row in nearest]
