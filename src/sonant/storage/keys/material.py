"""Where the material of a key store's own keys is, and what wraps with it."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sonant.storage.keys.key_file import KEY_BYTES


class KeyCipher(Protocol):
    """AES-256-GCM under one key: nonces of 12 bytes, tags of 16 at the end."""

    def encrypt(self, nonce: bytes, data: bytes, bound: bytes) -> bytes: ...

    def decrypt(self, nonce: bytes, data: bytes, bound: bytes) -> bytes | None:
        """None when data, nonce or `bound` are not those of `encrypt`."""
        ...


class KeyMaterial(Protocol):
    """Makes material and uses it. `kept` is what the key's file holds of it: 32 bytes.

    Where the material is elsewhere, everything but `cipher` itself may raise KeysUnreachable, the ciphers'
    methods too, and those raise KeyNotFound when it is gone.
    """

    in_token: bool
    """Whether `kept` is only the name of an object in a token."""

    def make(self, key_id: str) -> bytes:
        """New material for a key; gives `kept`."""
        ...

    def cipher(self, kept: bytes) -> KeyCipher: ...

    def destroy(self, kept: Iterable[bytes]) -> None:
        """What is outside of the key's file. Again: no change."""
        ...


class FileMaterial:
    """The material is in the key's file itself."""

    in_token = False

    def make(self, key_id: str) -> bytes:
        return secrets.token_bytes(KEY_BYTES)

    def cipher(self, kept: bytes) -> KeyCipher:
        return _FileCipher(kept)

    def destroy(self, kept: Iterable[bytes]) -> None:
        """Nothing is outside of the file."""


class _FileCipher:
    __slots__ = ("_aead",)

    def __init__(self, material: bytes) -> None:
        self._aead = AESGCM(material)

    def encrypt(self, nonce: bytes, data: bytes, bound: bytes) -> bytes:
        return self._aead.encrypt(nonce, data, bound)

    def decrypt(self, nonce: bytes, data: bytes, bound: bytes) -> bytes | None:
        try:
            return self._aead.decrypt(nonce, data, bound)
        except InvalidTag:
            return None
