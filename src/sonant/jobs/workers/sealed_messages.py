"""Seal values that pass through Ray: its object store may spill to disk, and its traffic may be unencrypted.

A message is nonce 12 | AES-256-GCM of the pickled value. Only what opens under the key is unpickled.

Ray passes values over 100 kB through object stores, which costs milliseconds of several processes. Smaller
pieces go from process to process.
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


def cut(message: bytes, most: int | None = None) -> tuple[bytes, ...]:
    """Cut a message into pieces: as many as needed, or exactly `most`, some empty or the last one large."""
    count = -(-len(message) // PIECE_BYTES) if most is None else most
    ends = [*range(PIECE_BYTES, PIECE_BYTES * count, PIECE_BYTES), len(message)]
    return tuple(message[start:end] for start, end in zip([0, *ends], ends, strict=False))


def new_key() -> bytes:
    return AESGCM.generate_key(256)


class MessageCipher:
    """Seals and opens messages under one key."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, value: object) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        plain = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        return nonce + self._cipher.encrypt(nonce, plain, _PURPOSE)

    def open(self, message: bytes) -> Any:
        """Open what `seal` sealed. Raises SealBroken."""
        try:
            plain = self._cipher.decrypt(message[:_NONCE_BYTES], message[_NONCE_BYTES:], _PURPOSE)
        except (InvalidTag, ValueError):
            raise SealBroken(
                "a message through Ray does not open: it was altered, or is another runner's"
            ) from None
        return pickle.loads(plain)  # noqa: S301 - it was sealed by a process that holds the key
