"""The secret material of Sonant's own keys: where it is stored, and the cipher that uses it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Protocol, runtime_checkable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32


class KeyCipher(Protocol):
    """AES-256-GCM under one key: nonces of 12 bytes, tags of 16 at the end."""

    def encrypt(self, nonce: bytes, data: bytes, aad: bytes) -> bytes: ...

    def decrypt(self, nonce: bytes, data: bytes, aad: bytes) -> bytes | None:
        """Return the plaintext, or None when data, nonce or additional data are not those of `encrypt`."""
        ...


class KeyMaterial(Protocol):
    """Makes material and uses it. The key's file stores `stored` of it: 32 bytes.

    Where the material is elsewhere, all methods but `cipher` may raise KeysUnreachable. The ciphers' methods
    may raise it too, and KeyNotFound when the material is gone.
    """

    in_token: bool
    """Whether `stored` is only the id of an object in a token."""

    def make(self, key_id: str) -> bytes:
        """Make new material for a key and return `stored`."""
        ...

    def cipher(self, stored: bytes) -> KeyCipher: ...

    def destroy(self, stored: Iterable[bytes]) -> None:
        """Destroy what is outside of the key's file. A second call changes nothing."""
        ...


@runtime_checkable
class CachingMaterial(Protocol):
    """A `KeyMaterial` that holds in memory what it has opened."""

    def forget_when(self, revoked: Callable[[bytes], bool]) -> None:
        """Forget at once what was opened with `stored` material for which `revoked` returns True.

        It is asked some times a second as long as anything is in memory.
        """
        ...


class FileMaterial:
    """A `KeyMaterial` in the key's file itself."""

    in_token = False

    def make(self, key_id: str) -> bytes:
        return secrets.token_bytes(KEY_BYTES)

    def cipher(self, stored: bytes) -> KeyCipher:
        return _FileCipher(stored)

    def destroy(self, stored: Iterable[bytes]) -> None:
        """Do nothing: nothing is outside of the file."""


class _FileCipher:
    __slots__ = ("_aead",)

    def __init__(self, material: bytes) -> None:
        self._aead = AESGCM(material)

    def encrypt(self, nonce: bytes, data: bytes, aad: bytes) -> bytes:
        return self._aead.encrypt(nonce, data, aad)

    def decrypt(self, nonce: bytes, data: bytes, aad: bytes) -> bytes | None:
        try:
            return self._aead.decrypt(nonce, data, aad)
        except InvalidTag:
            return None
