"""The replay guard: fingerprints of a domain's enrolled speech in memory, for as long as a job needs them.

Decrypted here only, never on disk in the clear. The store is asked in every transaction for fingerprints that
are new; a candidate is always compared with what the store holds in that moment, so that a speaker who has
been deleted is never found.

The rule, `counts`: in a batch job a copy is fraud when it was accepted for ANOTHER speaker: one recording
under two ids is one person, or one thief, with two identities. The same recordings for the same speaker are
not: an operator enrolls again with OVERWRITE, a job goes on after a crash, a manifest names a file twice. In
a live call nobody speaks from a file, so that there every copy counts. Jobs with IGNORE neither ask the guard
nor give it fingerprints.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from sonant.errors import SealBroken
from sonant.jobs.faults import JobFault
from sonant.storage.crypto.vault import SpeakerSeal, Vault
from sonant.storage.repositories import voiceprints
from sonant.voice.replay.fingerprint import Fingerprint, all_pairs, shared_with
from sonant.voice.replay.index import FingerprintIndex

#: Recordings that are compared in full.
CANDIDATES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayMatch:
    """A part of the recording was heard before."""

    speaker_id: str
    """Whose recording it was accepted as."""
    pairs: int
    """How much agrees; see `fingerprint.Shared`."""


def counts(found_under: str, heard_as: str | None, *, live: bool) -> bool:
    """Whether a copy of one speaker's recording is fraud, heard as another's (None: a new speaker's)."""
    return live or found_under != heard_as


@contextmanager
def _telling_damage() -> Iterator[None]:
    try:
        yield
    except SealBroken:
        raise JobFault(
            500, "the fingerprint of a recording is damaged; restore the database from a backup"
        ) from None


class ReplayDetector:
    """One domain's fingerprints. Not for several threads."""

    def __init__(self, domain_id: str, most: int) -> None:
        """`most` recordings are remembered, the newest."""
        self._domain_id, self._most = domain_id, most
        self._index = FingerprintIndex(most)
        self._last = 0

    def follow(self, connection: Connection, vault: Vault) -> None:
        """Take in what the store has got since. Raises JobFault when a fingerprint cannot be opened: to pass
        over it would be to let a copy pass."""
        with _telling_damage():
            for stored in voiceprints.fingerprints_after(
                connection, vault, self._domain_id, self._last, self._most
            ):
                self._index.add(stored.number, Fingerprint.from_bytes(stored.data))
                self._last = stored.number

    def find(
        self,
        connection: Connection,
        vault: Vault,
        heard: Fingerprint,
        heard_as: str | None,
        *,
        live: bool = False,
        before: datetime | None = None,
    ) -> ReplayMatch | None:
        """The recording, accepted for another, that shares the most with this one; in a `live` call, for
        anybody. Only what was accepted `before` a moment, if one is given. Raises JobFault as `follow`."""
        copies, pairs = [], all_pairs(heard, tolerant=True)
        for number in self._index.candidates(heard, CANDIDATES):
            with _telling_damage():
                stored = voiceprints.find_fingerprint(connection, vault, self._domain_id, number)
            if stored is None or not counts(stored.speaker_id, heard_as, live=live):
                continue
            if before is not None and stored.created_at >= before:
                continue
            common = shared_with(Fingerprint.from_bytes(stored.data), pairs)
            if common.is_copy:
                copies.append(ReplayMatch(speaker_id=stored.speaker_id, pairs=common.pairs))
        return max(copies, key=lambda copy: copy.pairs, default=None)

    def store(
        self,
        connection: Connection,
        vault: Vault,
        seal: SpeakerSeal,
        speaker_id: str,
        data: bytes,
        now: datetime,
    ) -> None:
        """Keep the fingerprint of speech that was accepted; it is found from now on."""
        voiceprints.add_fingerprint(connection, seal, self._domain_id, speaker_id, data, now)
        self.follow(connection, vault)
