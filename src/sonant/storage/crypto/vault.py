"""The only place that turns plain values into stored ones and back.

    domain KMS key  --wraps-->  domain data key  --wraps-->  one data key a speaker, fraudster or session
                                  |  names, descriptions, tags, job names, job entries
                                  |  keyed hash of customer speaker ids (for look-up)
                                                               |  customer id, voiceprint, kept audio

A sealed value is bound to its place (domain, kind of value, owner), so that it opens nowhere else. Deleting
such a data key makes everything of that person unreadable.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sonant.errors import SealBroken
from sonant.storage.crypto.sealing import derive, lookup_hash, open_value, seal_value
from sonant.storage.keys.store import KeyStore

KEY_BYTES = 32


def encryption_context(domain_arn: str) -> dict[str, str]:
    """What Voice ID binds its use of a domain's key to (AWS docs, encryption at rest)."""
    return {"aws:voiceid:domain:arn": domain_arn}


class Vault:
    """One domain's opened data key. Short-lived: open it for a call, so that a disabled key takes effect."""

    __slots__ = ("_domain_id", "_lookup_key", "_speaker_key", "_text_key")

    def __init__(self, domain_id: str, data_key: bytes) -> None:
        self._domain_id = domain_id
        self._text_key, self._lookup_key, self._speaker_key = _subkeys(data_key)

    def seal(self, place: str, owner: str, text: str) -> bytes:
        return seal_value(self._text_key, text.encode(), self._bound(place, owner))

    def open(self, place: str, owner: str, sealed: bytes) -> str:
        """Raises SealBroken."""
        return open_value(self._text_key, sealed, self._bound(place, owner)).decode()

    def seal_json(self, place: str, owner: str, value: Any) -> bytes:
        return self.seal(place, owner, json.dumps(value, ensure_ascii=False, separators=(",", ":")))

    def open_json(self, place: str, owner: str, sealed: bytes) -> Any:
        return json.loads(self.open(place, owner, sealed))

    def lookup(self, customer_speaker_id: str) -> bytes:
        """32 bytes by which a speaker is found without storing the customer's id."""
        return lookup_hash(self._lookup_key, customer_speaker_id)

    def new_speaker(self, speaker_id: str) -> tuple[SpeakerSeal, bytes]:
        """A fresh data key for a speaker: the opened seal, and the wrapped key to store."""
        return self._new_person("speaker key", speaker_id)

    def speaker(self, speaker_id: str, wrapped: bytes) -> SpeakerSeal:
        """Open a stored speaker key. Raises SealBroken."""
        return self._person("speaker key", speaker_id, wrapped)

    def new_fraudster(self, fraudster_id: str) -> tuple[SpeakerSeal, bytes]:
        """`new_speaker` for a fraudster."""
        return self._new_person("fraudster key", fraudster_id)

    def fraudster(self, fraudster_id: str, wrapped: bytes) -> SpeakerSeal:
        """Open a stored fraudster key. Raises SealBroken."""
        return self._person("fraudster key", fraudster_id, wrapped)

    def new_session(self, session_id: str) -> tuple[SpeakerSeal, bytes]:
        """`new_speaker` for the unknown caller of a session."""
        return self._new_person("session key", session_id)

    def session(self, session_id: str, wrapped: bytes) -> SpeakerSeal:
        """Open a stored session key. Raises SealBroken."""
        return self._person("session key", session_id, wrapped)

    def _new_person(self, place: str, person_id: str) -> tuple[SpeakerSeal, bytes]:
        key = secrets.token_bytes(KEY_BYTES)
        wrapped = seal_value(self._speaker_key, key, self._bound(place, person_id))
        return SpeakerSeal(person_id, key), wrapped

    def _person(self, place: str, person_id: str, wrapped: bytes) -> SpeakerSeal:
        return SpeakerSeal(person_id, open_value(self._speaker_key, wrapped, self._bound(place, person_id)))

    def _bound(self, place: str, owner: str) -> bytes:
        return f"{self._domain_id}|{place}|{owner}".encode()


class SpeakerSeal:
    """The opened data key of one speaker, fraudster or session."""

    __slots__ = ("_key", "_speaker_id")

    def __init__(self, speaker_id: str, key: bytes) -> None:
        self._speaker_id = speaker_id
        self._key = key

    def seal(self, place: str, data: bytes) -> bytes:
        return seal_value(self._key, data, f"{self._speaker_id}|{place}".encode())

    def open(self, place: str, sealed: bytes) -> bytes:
        """Raises SealBroken."""
        return open_value(self._key, sealed, f"{self._speaker_id}|{place}".encode())


def create_vault(keys: KeyStore, key_ref: str, domain_id: str, domain_arn: str) -> tuple[Vault, bytes]:
    """A new domain's vault, and its data key wrapped under the KMS key. Raises key-store errors."""
    keys.grant(key_ref, encryption_context(domain_arn))
    data_key = keys.generate_data_key(key_ref, encryption_context(domain_arn))
    return Vault(domain_id, data_key.plaintext), data_key.wrapped


def open_vault(keys: KeyStore, domain_id: str, domain_arn: str, wrapped: bytes) -> Vault:
    """Open a domain. Goes through the key store every time: a key disabled a moment ago refuses."""
    return Vault(domain_id, keys.decrypt(wrapped, encryption_context(domain_arn)))


@lru_cache(maxsize=64)
def _subkeys(data_key: bytes) -> tuple[bytes, bytes, bytes]:
    return derive(data_key, "text"), derive(data_key, "lookup"), derive(data_key, "speaker keys")


class ServiceSecret:
    """The service's own key: seals access-key secrets and page tokens, hashes client tokens."""

    __slots__ = ("_access", "_check", "_pages", "_tickets", "_tokens")

    def __init__(self, key: bytes) -> None:
        self._access = derive(key, "access keys")
        self._pages = derive(key, "page tokens")
        self._tokens = derive(key, "client tokens")
        self._tickets = derive(key, "console tickets")
        self._check = derive(key, "key check")

    def seal_check(self) -> bytes:
        """A key check value: it opens with this key and no other, and tells nothing of it."""
        return seal_value(self._check, b"", b"service key")

    def opens_check(self, sealed: bytes) -> bool:
        """Whether `seal_check` of this key made it."""
        try:
            open_value(self._check, sealed, b"service key")
        except SealBroken:
            return False
        return True

    def seal_access_secret(self, access_key_id: str, secret: str) -> bytes:
        return seal_value(self._access, secret.encode(), access_key_id.encode())

    def open_access_secret(self, access_key_id: str, sealed: bytes) -> str:
        return open_value(self._access, sealed, access_key_id.encode()).decode()

    def seal_page(self, scope: str, position: bytes) -> bytes:
        return seal_value(self._pages, position, scope.encode())

    def open_page(self, scope: str, token: bytes) -> bytes:
        return open_value(self._pages, token, scope.encode())

    def seal_ticket(self, content: bytes) -> bytes:
        return seal_value(self._tickets, content, b"ticket")

    def open_ticket(self, sealed: bytes) -> bytes:
        """Raises SealBroken."""
        return open_value(self._tickets, sealed, b"ticket")

    def fingerprint(self, value: Mapping[str, Any] | str) -> str:
        """Keyed hash, 64 hex digits, of a text or a JSON-like request."""
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))
        return lookup_hash(self._tokens, text).hex()
