"""What a key store is: it makes, wraps and unwraps data keys under keys that never leave it.

The words are those of AWS KMS (key, alias, data key, encryption context), so that AWS KMS and the local key
store stand behind the same interface.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

KeyState = Literal["Enabled", "Disabled", "PendingDeletion"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInfo:
    """What may be told about a key; never its material."""

    key_id: str
    """A UUID."""
    arn: str
    state: KeyState
    description: str
    created_at: datetime
    deletion_date: datetime | None
    """When the material is destroyed; set only while the deletion is pending."""
    aliases: tuple[str, ...]
    """Names such as `alias/sonant`, sorted."""
    symmetric: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DataKey:
    """A fresh 256-bit key: in the clear to use and forget, and wrapped to store beside what it seals."""

    plaintext: bytes = field(repr=False)
    """32 bytes."""
    wrapped: bytes
    """Opens only in the key store that made it, with the same encryption context."""
    key_id: str = ""
    """The key it is wrapped under, for display; the wrapped form carries its own copy."""


class KeyStore(Protocol):
    """Keys are named by `ref`: key id, key ARN, `alias/name` or alias ARN.

    A key disabled or destroyed a moment ago refuses: local keys at once, remote ones within a short time
    that is set (`kms.cache_s`). Remote stores and tokens may raise KeysUnreachable from every method but
    `key_of`.
    """

    def describe(self, ref: str) -> KeyInfo:
        """Raises KeyNotFound."""
        ...

    def key_of(self, wrapped: bytes) -> str:
        """The ARN of the key that a data key is wrapped under. Raises SealBroken."""
        ...

    def generate_data_key(self, ref: str, context: Mapping[str, str]) -> DataKey:
        """A new data key bound to `context`. Raises KeyNotFound, KeyUnusable, KeyDenied."""
        ...

    def decrypt(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """The 32 bytes of a data key. Raises KeyNotFound, KeyUnusable, KeyDenied, SealBroken."""
        ...

    def re_wrap(self, wrapped: bytes, context: Mapping[str, str], ref: str) -> bytes:
        """The same data key under the key `ref`, with the same context. Raises what `decrypt` raises."""
        ...

    def grant(self, ref: str, context: Mapping[str, str]) -> None:
        """Give this service the use of the key for one context, where keys have owners of their own.

        Again: no change. Raises KeyNotFound, KeyUnusable, KeyDenied.
        """
        ...

    def retire(self, ref: str, context: Mapping[str, str]) -> None:
        """Give back what `grant` gave. Raises what it raises."""
        ...


#: The key store of an account in a Region.
KeysOf = Callable[[str, str], KeyStore]
