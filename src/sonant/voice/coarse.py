"""A coarse look at many vectors with whole numbers, which loses none that could be the nearest.

Write m for a middle and s_d for a step in each dimension, t = (x - m) / s for a row x, g = round(t) in
-127..127, w = s * y for a query y. Then x.y = t.w + m.y, and m.y is the same for every row. With w = c q + r,
q whole numbers,

    |t.w - c g.q| <= |t - g| |w| + |g| |r|        (Cauchy and Schwarz)

so a row whose g.q lies below the greatest by more than twice the right side over c cannot be the nearest.
The other rows, a few among a million, are compared as they are. The right side takes the largest |t - g| and
|g| of all rows. A query has two digits, q = 128 h + l, both in -64..64: with one, |r| would be most of the
right side, and with voices as alike as real ones nearly every row would be left over.

g.h and g.l come from onnxruntime's MatMulInteger, with g as bytes g + 128: bytes times signed numbers is the
form that processors are fast at. Digits keep to -64..64, so that 2 * 255 * 64 fits into 16 bits, to which
processors without VNNI saturate such sums.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import onnxruntime
from numpy.typing import NDArray

_ROW_LIMIT, _ROW_ZERO, _DIGIT_LIMIT, _BASE = 127, 128, 64, 128
#: Products computed at once: 1 MiB of int32, so that they are looked at while still in the cache.
_PRODUCTS = 1 << 18
#: A slack that leaves no row out: more than any two int32 differ by.
_EVERYTHING = 1 << 33
#: Covers the rounding of the bound's own arithmetic and of the exact comparison, both in float32.
_ROUNDING = 1e-5
#: Rows that are made coarse at once.
_STEP = 1 << 14


class Coarse:
    """The coarse form of rows [n, d] that are float32; `put` and `clear` follow changes of them."""

    def __init__(self, rows: NDArray[np.float32]) -> None:
        low, high = rows.min(axis=0), rows.max(axis=0)
        self._middle = (low + high) / 2
        # A dimension in which nothing differs needs a step other than 0.
        self._step = np.maximum((high - low) / (2 * _ROW_LIMIT), 1e-6).astype(np.float32)
        self._bytes: NDArray[np.uint8] = np.full(rows.shape, _ROW_ZERO, np.uint8)
        self._lost = 0.0  # largest |t - g|
        self._size = 0.0  # largest |g|
        for first in range(0, len(rows), _STEP):
            self._put(slice(first, first + _STEP), rows[first : first + _STEP])

    def put(self, place: int, row: NDArray[np.float32]) -> None:
        """A row that has changed, or a new one at the end."""
        if place == len(self._bytes):
            room = np.full((2 * place, len(row)), _ROW_ZERO, np.uint8)
            room[:place] = self._bytes
            self._bytes = room
        self._put(slice(place, place + 1), row[None])

    def clear(self, place: int) -> None:
        self._bytes[place] = _ROW_ZERO

    def nearest(self, rows: NDArray[np.float32], queries: NDArray[np.float32]) -> list[int]:
        """For each query [m, d] the row of greatest product; `rows` are those that this was made from."""
        weights = queries.astype(np.float64) * self._step
        units = np.maximum(np.abs(weights).max(axis=1), 1e-30) / (_DIGIT_LIMIT * _BASE)
        high = np.rint(weights / (units[:, None] * _BASE))
        low = np.rint(weights / units[:, None] - high * _BASE)
        lost = np.linalg.norm(weights - (high * _BASE + low) * units[:, None], axis=1)
        bound = self._lost * np.linalg.norm(weights, axis=1) + self._size * lost + _ROUNDING
        slack = np.minimum(np.ceil(2 * bound / units), _EVERYTHING).astype(np.int64)
        digits = np.concatenate([high, low]).T.astype(np.int8)
        candidates = self._candidates(len(rows), np.ascontiguousarray(digits), slack)
        return [
            int(found[np.argmax(rows[found] @ query)])
            for found, query in zip(candidates, queries, strict=True)
        ]

    def _candidates(
        self, count: int, digits: NDArray[np.int8], slack: NDArray[np.int64]
    ) -> list[NDArray[np.intp]]:
        """For each query, the places of all rows whose coarse product is at most `slack` below the best.

        `digits` is [d, 2 m]: the high ones of all queries, then the low ones.
        """
        session, width = _product(), len(slack)
        best = np.full(width, np.iinfo(np.int32).min, np.int64)
        hits: list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int32]]] = []
        step = max(1, _PRODUCTS // (2 * width))
        for first in range(0, count, step):
            block = self._bytes[first : min(first + step, count)]
            (parts,) = session.run(None, {"rows": block, "queries": digits})
            products = parts[:, :width] * np.int32(_BASE) + parts[:, width:]
            highest = products.max(axis=0)
            np.maximum(best, highest, out=best)
            least = np.maximum(best - slack, np.iinfo(np.int32).min)
            if (highest >= least).any():
                flat = np.flatnonzero(products >= least.astype(np.int32))
                places, query = np.divmod(flat, width)
                hits.append((places + first, query, products.ravel()[flat]))
        places, query, values = (np.concatenate(part) for part in zip(*hits, strict=True))
        kept = values >= (best - slack)[query]  # what was best early on may have been outdone since
        places, query = places[kept], query[kept]
        return [places[query == one] for one in range(width)]

    def _put(self, places: slice, rows: NDArray[np.float32]) -> None:
        exact = (rows.astype(np.float64) - self._middle) / self._step
        whole = np.clip(np.rint(exact), -_ROW_LIMIT, _ROW_LIMIT)
        self._bytes[places] = (whole + _ROW_ZERO).astype(np.uint8)
        self._lost = max(self._lost, float(np.linalg.norm(exact - whole, axis=1).max()))
        self._size = max(self._size, float(np.linalg.norm(whole, axis=1).max()))


@cache
def _product() -> onnxruntime.InferenceSession:
    """rows [n, d] uint8 times queries [d, m] int8 is products [n, m] int32, in one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    return onnxruntime.InferenceSession(_model(), options, providers=["CPUExecutionProvider"])


def _model() -> bytes:
    """An ONNX model of the one node, written down by its field numbers (onnx.proto3)."""
    node = _text(1, "rows") + _text(1, "queries") + _text(2, "products") + _text(4, "MatMulInteger")
    graph = _bytes(1, node) + _text(2, "coarse")
    for field, name, kind, shape in (
        (11, "rows", 2, "nd"),  # 2 is uint8, 3 is int8, 6 is int32
        (11, "queries", 3, "dm"),
        (12, "products", 6, "nm"),
    ):
        dimensions = b"".join(_bytes(1, _text(2, symbol)) for symbol in shape)
        tensor = _number(1, kind) + _bytes(2, dimensions)
        graph += _bytes(field, _text(1, name) + _bytes(2, _bytes(1, tensor)))
    operators = _text(1, "") + _number(2, 17)
    return _number(1, 8) + _bytes(7, graph) + _bytes(8, operators)


def _number(field: int, value: int) -> bytes:
    return bytes([field << 3, value])


def _bytes(field: int, value: bytes) -> bytes:
    length = len(value)
    size = bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])
    return bytes([field << 3 | 2]) + size + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())
