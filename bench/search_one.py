"""Measure one search library: `search_one.py sonant|faiss|usearch VOICES SECONDS`, where it is installed.

Prints JSON: milliseconds per search by number of queries, the voices found, seconds to build.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

QUERIES = (1, 64)
DIMENSIONS = 256
Search = Callable[[Any], list[int]]


def voices(rng: np.random.Generator, count: int, common: Any) -> Any:
    """Generate unit vectors like the speaker encoder's: none negative, strangers at a cosine of about 0.7."""
    rows = rng.standard_normal((count, DIMENSIONS), dtype=np.float32)
    rows += common
    np.maximum(rows, 0, out=rows)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def sonant(rows: Any) -> Search:
    from sonant.voice.search import Gallery

    gallery = Gallery([str(number) for number in range(len(rows))], rows)
    return lambda queries: [int(match.key) for match in gallery.best(queries) if match]


def faiss(rows: Any) -> Search:
    import faiss as library

    library.omp_set_num_threads(1)
    index = library.IndexFlatIP(DIMENSIONS)
    index.add(rows)
    return lambda queries: index.search(queries, 1)[1][:, 0].tolist()


def usearch(rows: Any) -> Search:
    from usearch.index import MetricKind, search

    def find(queries: Any) -> list[int]:
        found = search(rows, queries, 1, MetricKind.IP, exact=True, threads=1)
        return [int(key) for key in np.asarray(found.keys).ravel()]

    return find


def main() -> None:
    who, size, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    rng = np.random.default_rng(size)
    common = 1.2 * rng.standard_normal(DIMENSIONS, dtype=np.float32)
    rows, queries = voices(rng, size, common), voices(rng, max(QUERIES), common)
    begun = time.perf_counter()
    search = {"sonant": sonant, "faiss": faiss, "usearch": usearch}[who](rows)
    nearest = search(queries)  # warms up, and builds what is built on first use
    built_s = time.perf_counter() - begun
    ms = {}
    for count in QUERIES:
        some = queries[:count]
        times: list[float] = []
        ends = time.perf_counter() + seconds
        while len(times) < 3 or (time.perf_counter() < ends and len(times) < 20_000):
            begun = time.perf_counter()
            search(some)
            times.append(time.perf_counter() - begun)
        ms[count] = 1000 * min(times)
    print(json.dumps({"ms": ms, "nearest": nearest, "build_s": built_s}))


main()
