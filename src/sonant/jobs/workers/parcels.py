"""Values on their way through Ray, sealed: its object store may spill to disk, and its traffic may be open.

A parcel is nonce 12 | AES-256-GCM of the pickled value. Only what opens under the key is unpickled.

What is larger than 100 kB Ray takes through object stores, which costs milliseconds of several processes. In
pieces it goes from process to process.
"""

from __future__ import annotations

import pickle
import secrets
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sonant.errors import SealBroken

_NONCE_BYTES = 12
_PURPOSE = b"sonant parcel 1"


#: Small enough for Ray to send along with a call or its answer.
PIECE_BYTES = 90_000
#: Pieces of a result with kept speech: 30 s, even if it could not be compressed at all.
KEPT_PIECES = 6


def cut(parcel: bytes, most: int | None = None) -> tuple[bytes, ...]:
    """A parcel in pieces: as many as needed, or just so many, some of them empty or the last a large one."""
    count = -(-len(parcel) // PIECE_BYTES) if most is None else most
    ends = [*range(PIECE_BYTES, PIECE_BYTES * count, PIECE_BYTES), len(parcel)]
    return tuple(parcel[start:end] for start, end in zip([0, *ends], ends, strict=False))


def new_key() -> bytes:
    return AESGCM.generate_key(256)


class Parcels:
    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, value: object) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        plain = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        return nonce + self._cipher.encrypt(nonce, plain, _PURPOSE)

    def open(self, parcel: bytes) -> Any:
        """Raises SealBroken."""
        try:
            plain = self._cipher.decrypt(parcel[:_NONCE_BYTES], parcel[_NONCE_BYTES:], _PURPOSE)
        except (InvalidTag, ValueError):
            raise SealBroken("what came through Ray does not open: altered, or another runner's") from None
        return pickle.loads(plain)  # noqa: S301 - it was sealed by a process that holds the key
