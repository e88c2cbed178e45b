"""What is stored of the speakers of a group of entries, read in three queries for all of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TypeVar

from sqlalchemy import Connection

from sonant.errors import IntegrityFault
from sonant.storage.repositories import erasure, speaker_groups, speakers
from sonant.storage.repositories.erasure import ErasedSpeaker
from sonant.storage.repositories.speakers import Speaker, SpeakerStatus

log = logging.getLogger(__name__)

_Found = TypeVar("_Found")
#: None where a row of the group was changed, so that each speaker is to be read alone.
_Group = dict[bytes, _Found] | None


class SpeakerLookup:
    """The speakers of a group, by the keyed hashes of their customer's ids (`Vault.lookup`).

    Valid while no other transaction can change them, and as long as nothing is asked of a speaker again after
    the caller has changed it. A row that something else has changed raises IntegrityFault where its own
    speaker is asked for, and nowhere else.
    """

    def __init__(self, connection: Connection, domain_id: str, hashes: Sequence[bytes]) -> None:
        self._connection, self._domain_id, self._hashes = connection, domain_id, hashes

    def status(self, customer_id_hash: bytes) -> SpeakerStatus | None:
        """Return a speaker's status as `speakers.find_status` does. Raises IntegrityFault."""
        if self._statuses is None:
            return speakers.find_status(self._connection, self._domain_id, customer_id_hash)
        found = self._statuses.get(customer_id_hash)
        if found is None and (erased := self.erased(customer_id_hash)) and erased.status == "OPTED_OUT":
            return SpeakerStatus("OPTED_OUT", None)  # a restore has repeated the opt-out
        return found

    def speaker(self, customer_id_hash: bytes) -> Speaker | None:
        """Return a speaker; its customer's id is to be checked. Raises IntegrityFault."""
        if self._speakers is None:
            found = speaker_groups.find_speakers(self._connection, self._domain_id, [customer_id_hash])
            return found.get(customer_id_hash)
        return self._speakers.get(customer_id_hash)

    def erased(self, customer_id_hash: bytes) -> ErasedSpeaker | None:
        """Return what is remembered of a speaker who was erased. Raises IntegrityFault."""
        if self._erased is None:
            return erasure.find_erased(self._connection, self._domain_id, customer_id_hash)
        return self._erased.get(customer_id_hash)

    @cached_property
    def _statuses(self) -> _Group[SpeakerStatus]:
        return self._all(speaker_groups.find_statuses)

    @cached_property
    def _speakers(self) -> _Group[Speaker]:
        return self._all(speaker_groups.find_speakers)

    @cached_property
    def _erased(self) -> _Group[ErasedSpeaker]:
        return self._all(erasure.find_all_erased)

    def _all(self, find: Callable[[Connection, str, Sequence[bytes]], dict[bytes, _Found]]) -> _Group[_Found]:
        try:
            return find(self._connection, self._domain_id, self._hashes)
        except IntegrityFault as fault:
            log.warning("speakers are read one by one: %s", fault)
            return None
