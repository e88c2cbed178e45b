"""Exact search: which of many voices is most like this one.

Short lists are compared as they are. From `COARSE_FROM` voices on, a coarse product of whole numbers goes
first (`voice.coarse`), and only voices that could still be the most similar are compared exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonant.voice.coarse import Coarse

#: Voices from which on the coarse product pays (measured: bench part `search`).
COARSE_FROM = 100_000
#: Products held at once: 16 MiB of float32.
_PRODUCTS = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The most similar voice."""

    key: str
    similarity: float
    """Cosine, -1..1."""


class Gallery:
    """Voices to be searched: unit vectors of one model, float32, each under a key. Not for several threads.

    Of voices that are exactly equally similar any may be found.
    """

    def __init__(self, keys: Sequence[str] = (), vectors: NDArray[np.float32] | None = None) -> None:
        """`vectors` is [len(keys), dimensions], kept as it is (not copied) if float32 and contiguous."""
        self._keys = list(keys)
        self._places = {key: place for place, key in enumerate(self._keys)}
        if len(self._places) != len(self._keys):
            raise ValueError("a key stands twice")
        self._rows = np.ascontiguousarray(np.empty((0, 0)) if vectors is None else vectors, np.float32)
        if len(self._rows) != len(self._keys):
            raise ValueError(f"{len(self._keys)} keys, but {len(self._rows)} vectors")
        self._coarse: Coarse | None = None

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    @property
    def keys(self) -> Sequence[str]:
        return tuple(self._keys)

    def add(self, key: str, vector: NDArray[np.float32]) -> None:
        """Raises ValueError for a key that is there already."""
        if key in self._places:
            raise ValueError("a key stands twice")
        count = len(self._keys)
        if count == len(self._rows):  # full: twice the room, so that adding n voices copies O(n)
            room = np.empty((max(16, 2 * count), len(vector)), np.float32)
            room[:count] = self._rows[:count].reshape(count, -1) if count else room[:0]
            self._rows = room
        self._rows[count] = vector
        self._places[key] = count
        self._keys.append(key)
        if self._coarse is not None:
            self._coarse.put(count, self._rows[count])

    def remove(self, key: str) -> None:
        """The last voice takes the place of the one that goes. Raises KeyError."""
        place, last = self._places.pop(key), len(self._keys) - 1
        moved = self._keys.pop()
        if place != last:
            self._keys[place], self._places[moved] = moved, place
            self._rows[place] = self._rows[last]
        self._rows[last] = 0  # nothing of who is gone stays in memory
        if self._coarse is not None:
            if place != last:
                self._coarse.put(place, self._rows[place])
            self._coarse.clear(last)

    def best(self, queries: Sequence[NDArray[np.float32]] | NDArray[np.float32]) -> list[Match | None]:
        """The most similar voice for each query (unit vectors); None where there are no voices.

        The similarity of a pair does not depend on what else is searched.
        """
        if not self._keys or not len(queries):
            return [None] * len(queries)
        asked = np.ascontiguousarray(queries, np.float32)
        rows = self._rows[: len(self._keys)]
        if len(rows) < COARSE_FROM:
            if len(asked) == 1:  # the usual case with the usual list: ten microseconds, so none is given away
                return [self._match(rows, int(rows.dot(asked[0]).argmax()), asked[0])]
            places = _nearest(rows, asked)
        else:
            if self._coarse is None:
                self._coarse = Coarse(rows)
            places = self._coarse.nearest(rows, asked)
        return [self._match(rows, place, query) for place, query in zip(places, asked, strict=True)]

    def _match(self, rows: NDArray[np.float32], place: int, query: NDArray[np.float32]) -> Match:
        """One way to the similarity, whatever way the place was found."""
        return Match(key=self._keys[place], similarity=float(rows[place].dot(query)))


def _nearest(rows: NDArray[np.float32], queries: NDArray[np.float32]) -> list[int]:
    step = max(1, _PRODUCTS // len(queries))
    places = np.zeros(len(queries), np.intp)
    best = np.full(len(queries), -np.inf, np.float32)
    for first in range(0, len(rows), step):
        products = queries @ rows[first : first + step].T
        found = products.argmax(axis=1)
        values = products[np.arange(len(queries)), found]
        better = values > best
        places[better], best[better] = found[better] + first, values[better]
    return [int(place) for place in places]
