"""Keyed orthogonal transforms of embeddings: protected templates in the sense of ISO/IEC 24745.

A rotation keeps every cosine, so that scores are the same in each space; two spaces of different keys have
nothing in common, so that embeddings of one voice in both are no more alike than those of strangers.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

_FLOAT_BITS = 53


def orthogonal_matrix(key: bytes, model_id: str, dimensions: int) -> NDArray[np.float64]:
    """Make the orthogonal matrix [d, d] that a key of 32 bytes determines for a voice model's embeddings.

    It is uniformly distributed over all orthogonal matrices (Haar measure): the Q of a matrix of independent
    normal values, with the signs of R's diagonal (Mezzadri: "How to Generate Random Matrices from the
    Classical Compact Groups", Notices of the AMS 54, 2007). The same on every machine, but for rounding.
    """
    seed = b"sonant template space\n" + model_id.encode() + b"\n" + key
    values = _normal_values(seed, dimensions * dimensions).reshape(dimensions, dimensions)
    q, r = np.linalg.qr(values)
    made: NDArray[np.float64] = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return made


def rotate(matrix: NDArray[np.float64], vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Transform an embedding [d] by a matrix [d, d]; rounding changes cosines by less than 1e-6."""
    turned: NDArray[np.float32] = (matrix @ vector.astype(np.float64)).astype(np.float32)
    return turned


def rotate_all(matrix: NDArray[np.float64], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Transform embeddings [n, d] as `rotate` does each of them, but for rounding."""
    turned: NDArray[np.float32] = (vectors.astype(np.float64) @ matrix.T).astype(np.float32)
    return turned


def _normal_values(seed: bytes, count: int) -> NDArray[np.float64]:
    """Derive independent standard normal values from a seed.

    SHAKE-256 (FIPS 202) gives the bits, the Box-Muller transform the values: NumPy's own generators may
    change with its versions.
    """
    pairs = -(-count // 2)
    bits = np.frombuffer(hashlib.shake_256(seed).digest(16 * pairs), "<u8") >> np.uint64(64 - _FLOAT_BITS)
    uniform = (bits.astype(np.float64) + 0.5) / 2.0**_FLOAT_BITS  # above 0 and below 1
    radius, angle = np.sqrt(-2.0 * np.log(uniform[:pairs])), 2.0 * math.pi * uniform[pairs:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
