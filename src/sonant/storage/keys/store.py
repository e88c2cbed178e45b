"""Interfaces of key stores, and what all kinds of them share.

A key store makes, wraps and unwraps data keys under keys that never leave it. The terms are those of AWS KMS
(key, alias, data key, encryption context), so that AWS KMS and local keys have one interface.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Literal, Protocol

from sonant.errors import KeyNotFound
from sonant.settings import Settings
from sonant.storage.keys.expiring import ExpiringItems
from sonant.storage.keys.material import KeyMaterial

KeyState = Literal["Enabled", "Disabled", "PendingDeletion"]

#: Data keys that a `DataKeyCache` holds at most; each is one domain's.
_MAX_CACHED_KEYS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInfo:
    """The public facts of a key; never its material."""

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
    """A new 256-bit key, in plaintext for immediate use and wrapped for storage beside what it seals."""

    plaintext: bytes = field(repr=False)
    """32 bytes."""
    wrapped: bytes
    """Opens only in the key store that made it, with the same encryption context."""
    key_id: str = ""
    """The key that wraps it, for display; the wrapped form carries its own copy."""


class KeyStore(Protocol):
    """Keys of one account in one Region. A `ref` is a key id, a key ARN, `alias/name` or an alias ARN.

    A key that was disabled or destroyed is refused: local keys at once, remote ones within the time that
    `kms.cache_s` sets. Remote stores and tokens may raise KeysUnreachable from every method but `key_of`.
    """

    def describe(self, ref: str) -> KeyInfo:
        """Return the facts of a key. Raises KeyNotFound."""
        ...

    def key_of(self, wrapped: bytes) -> str:
        """Return the ARN of the key that wraps a data key. Raises SealBroken."""
        ...

    def generate_data_key(self, ref: str, context: Mapping[str, str]) -> DataKey:
        """Make a data key bound to `context`. Raises KeyNotFound, KeyUnusable, KeyDenied."""
        ...

    def decrypt(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Unwrap the 32 bytes of a data key. Raises KeyNotFound, KeyUnusable, KeyDenied, SealBroken."""
        ...

    def re_wrap(self, wrapped: bytes, context: Mapping[str, str], ref: str) -> bytes:
        """Wrap the same data key under the key `ref`, with the same context. Raises what `decrypt` raises."""
        ...

    def grant(self, ref: str, context: Mapping[str, str]) -> None:
        """Give this service the use of the key for one context, where keys have owners of their own.

        A second call changes nothing. Raises KeyNotFound, KeyUnusable, KeyDenied.
        """
        ...

    def retire(self, ref: str, context: Mapping[str, str]) -> None:
        """Undo `grant`. Raises what it raises."""
        ...


#: The key store of an account in a Region.
KeysOf = Callable[[str, str], KeyStore]


def _accept(_settings: Settings) -> None:
    """Accept all settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyBackEnd:
    """One kind of key store, which its module defines as `BACK_END`.

    Keys are either Sonant's own, in the data folder (`material` is set), or those of a key service (`stores`
    is set).
    """

    material: Callable[[Settings], KeyMaterial] | None = None
    """Opens the material of Sonant's own keys. Raises SetupError."""
    stores: Callable[[Settings], KeysOf] | None = None
    """Returns the key stores of a key service; they connect when they are used."""
    administered: str = ""
    """Of a key service: where its keys are and how they are administered, for messages."""
    check: Callable[[Settings], None] = _accept
    """Raises SetupError for settings that do not go together."""


class DataKeyCache:
    """Unwrapped data keys, each for a short time, so that not every call of the API is one to a key service.

    A key leaves memory when its time is over, also if nobody asks for it again. Safe for several threads.
    """

    def __init__(
        self,
        lifetime_s: float,
        timer: Callable[[], float] = time.monotonic,
        is_good: Callable[[Hashable], bool] | None = None,
    ) -> None:
        """`lifetime_s`: how long a key is reused; 0 caches none. `timer` gives seconds.

        `is_good` says of a cache key whether its data key may stay; it is asked four times a second.
        """
        self._lifetime_s, self._timer = lifetime_s, timer
        may_stay = None if is_good is None else lambda cache_key, _: is_good(cache_key)
        self._keys: ExpiringItems[bytes] = ExpiringItems(lifetime_s, _MAX_CACHED_KEYS, timer, may_stay)

    def __len__(self) -> int:
        """Count the keys in memory."""
        return len(self._keys)

    def get(self, cache_key: Hashable, unwrap: Callable[[], bytes]) -> bytes:
        """Return the cached data key, or the result of `unwrap`, whose exceptions are not cached."""
        now_s = self._timer()
        cached = self._keys.get(cache_key)
        if cached is not None:
            return cached
        plaintext = unwrap()
        if self._lifetime_s > 0:
            # The time before the request: the answer may be as old as that.
            self._keys.put(cache_key, plaintext, now_s)
        return plaintext


def printable(ref: str) -> str:
    """Return the name of a key as it was given, safe to print, at most 200 characters of it."""
    return ascii(ref if len(ref) <= 200 else ref[:200] + "...")


def no_such_key(ref: str) -> KeyNotFound:
    """Make the error for a key that is missing. `ref` may be any text."""
    return KeyNotFound(f"key {printable(ref)} does not exist")


def foreign_key(ref: str) -> KeyNotFound:
    """Make the error for a key of another account or Region."""
    return KeyNotFound(f"key {printable(ref)} is not one of this region and account")


def canonical_context(context: Mapping[str, str]) -> bytes:
    """Return bytes that differ for different contexts: sorted texts, each after its length."""
    return _canonical_items(tuple(sorted(context.items())))


@lru_cache(maxsize=1024)
def _canonical_items(items: tuple[tuple[str, str], ...]) -> bytes:
    parts = [len(items).to_bytes(4, "big")]
    for pair in items:
        for text in pair:
            data = text.encode("utf-8", "surrogatepass")
            parts += (len(data).to_bytes(4, "big"), data)
    return b"".join(parts)
