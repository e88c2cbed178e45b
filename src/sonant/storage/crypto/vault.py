"""Seals the values of domains for storage and opens them.

    domain KMS key  --wraps-->  domain data key  --wraps-->  one data key a speaker, fraudster or session
                                  |  names, descriptions, tags, job names, job entries
                                  |  keyed hash of customer speaker ids (for look-up)
                                  |  keys of template spaces (`template_spaces`)
                                                               |  customer id, voiceprint, stored audio

A sealed value is bound to its domain, its kind and its owner, and opens nowhere else. Deleting a person's
data key makes everything of that person unreadable.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

import orjson

from sonant.storage.crypto.sealing import derive, derive_all, lookup_hash, open_value, seal_value
from sonant.storage.keys.store import KeyStore

KEY_BYTES = 32
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def encryption_context(domain_arn: str) -> dict[str, str]:
    """Return Voice ID's encryption context for a domain's key (AWS docs, encryption at rest)."""
    return {"aws:voiceid:domain:arn": domain_arn}


class Vault:
    """One domain's opened data key. To be opened for each call, so that a disabled key takes effect."""

    __slots__ = ("_domain_id", "_lookup_key", "_speaker_key", "_text_key", "templates")

    def __init__(self, domain_id: str, data_key: bytes) -> None:
        self._domain_id = domain_id
        self._text_key, self._lookup_key, self._speaker_key, template_key = derive_all(
            data_key, "text", "lookup", "speaker keys", "template keys"
        )
        self.templates = TemplateKeys(domain_id, template_key)
        """Seals the keys of the domain's template spaces."""

    def seal(self, kind: str, owner: str, text: str) -> bytes:
        """Seal a text of a kind that belongs to `owner`."""
        return seal_value(self._text_key, text.encode(), self._aad(kind, owner))

    def open(self, kind: str, owner: str, sealed: bytes) -> str:
        """Open a sealed text. Raises SealBroken."""
        return open_value(self._text_key, sealed, self._aad(kind, owner)).decode()

    def seal_json(self, kind: str, owner: str, value: Any) -> bytes:
        return self.seal(kind, owner, _JSON.encode(value))

    def open_json(self, kind: str, owner: str, sealed: bytes) -> Any:
        """Open a sealed value. Raises SealBroken."""
        text = self.open(kind, owner, sealed)
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:  # numbers and halves of characters that only Python's own knows
            return json.loads(text)

    def lookup(self, customer_speaker_id: str) -> bytes:
        """Return 32 bytes that find a speaker without storing the customer's id."""
        return lookup_hash(self._lookup_key, customer_speaker_id)

    def new_speaker(self, speaker_id: str) -> tuple[SpeakerSeal, bytes]:
        """Make a data key for a speaker; return the opened key, and the wrapped key to store."""
        return self._new_person("speaker key", speaker_id)

    def speaker(self, speaker_id: str, wrapped: bytes) -> SpeakerSeal:
        """Open a stored speaker key. Raises SealBroken."""
        return self._person("speaker key", speaker_id, wrapped)

    def new_fraudster(self, fraudster_id: str) -> tuple[SpeakerSeal, bytes]:
        """Make a data key for a fraudster, as `new_speaker`."""
        return self._new_person("fraudster key", fraudster_id)

    def fraudster(self, fraudster_id: str, wrapped: bytes) -> SpeakerSeal:
        """Open a stored fraudster key. Raises SealBroken."""
        return self._person("fraudster key", fraudster_id, wrapped)

    def new_session(self, session_id: str) -> tuple[SpeakerSeal, bytes]:
        """Make a data key for the unknown caller of a session, as `new_speaker`."""
        return self._new_person("session key", session_id)

    def session(self, session_id: str, wrapped: bytes) -> SpeakerSeal:
        """Open a stored session key. Raises SealBroken."""
        return self._person("session key", session_id, wrapped)

    def _new_person(self, kind: str, person_id: str) -> tuple[SpeakerSeal, bytes]:
        key = secrets.token_bytes(KEY_BYTES)
        wrapped = seal_value(self._speaker_key, key, self._aad(kind, person_id))
        return SpeakerSeal(person_id, key, self.templates), wrapped

    def _person(self, kind: str, person_id: str, wrapped: bytes) -> SpeakerSeal:
        key = open_value(self._speaker_key, wrapped, self._aad(kind, person_id))
        return SpeakerSeal(person_id, key, self.templates)

    def _aad(self, kind: str, owner: str) -> bytes:
        return f"{self._domain_id}|{kind}|{owner}".encode()


class TemplateKeys:
    """Makes, seals and opens the keys of one domain's template spaces; see `template_spaces`.

    They are random, and each has one stored copy: a space whose key was deleted cannot be made again, not
    even with the domain's data key.
    """

    __slots__ = ("_key", "domain_id")

    def __init__(self, domain_id: str, key: bytes) -> None:
        self.domain_id = domain_id
        self._key = key

    def new(self, version: int) -> tuple[bytes, bytes]:
        """Make the key of a space; return it, and the sealed key to store."""
        key = secrets.token_bytes(KEY_BYTES)
        return key, seal_value(self._key, key, self._aad(version))

    def open(self, version: int, sealed: bytes) -> bytes:
        """Open a stored key. Raises SealBroken."""
        return open_value(self._key, sealed, self._aad(version))

    def of_job(self, job_id: str) -> bytes:
        """Derive the key of a space for the voices of a dry run, which are compared with each other only."""
        return derive(self._key, f"voices of job {job_id}")

    def _aad(self, version: int) -> bytes:
        return f"{self.domain_id}|template key|{version}".encode()


class SpeakerSeal:
    """The opened data key of one speaker, fraudster or session."""

    __slots__ = ("_key", "_speaker_id", "templates")

    def __init__(self, speaker_id: str, key: bytes, templates: TemplateKeys) -> None:
        self._speaker_id = speaker_id
        self._key = key
        self.templates = templates
        """Of the person's domain: its space protects the voiceprints that are sealed here."""

    def seal(self, kind: str, data: bytes) -> bytes:
        """Seal data of a kind."""
        return seal_value(self._key, data, f"{self._speaker_id}|{kind}".encode())

    def open(self, kind: str, sealed: bytes) -> bytes:
        """Open sealed data. Raises SealBroken."""
        return open_value(self._key, sealed, f"{self._speaker_id}|{kind}".encode())


def create_vault(keys: KeyStore, key_ref: str, domain_id: str, domain_arn: str) -> tuple[Vault, bytes]:
    """Make a domain's vault; return it and the data key wrapped under the KMS key.

    Raises the errors of a key store.
    """
    keys.grant(key_ref, encryption_context(domain_arn))
    data_key = keys.generate_data_key(key_ref, encryption_context(domain_arn))
    return Vault(domain_id, data_key.plaintext), data_key.wrapped


def open_vault(keys: KeyStore, domain_id: str, domain_arn: str, wrapped: bytes) -> Vault:
    """Open a domain's vault. Asks the key store every time, so that a disabled key is refused at once."""
    return Vault(domain_id, keys.decrypt(wrapped, encryption_context(domain_arn)))
