"""Detect replays: recordings that were enrolled before, by fingerprints of a domain's enrolled speech.

Fingerprints are held in memory for as long as a job or a call needs them, never on disk in the clear. Every
transaction reads new ones, and drops deleted ones when `Domain.erasures` has changed; a candidate is always
compared with what is stored at that moment, so that a deleted speaker is never found.

The rule (`is_fraud`): in a batch job a copy is fraud when it was accepted for ANOTHER speaker: one recording
under two ids is one person, or one thief, with two identities. The same recording for the same speaker is
not: an operator enrolls again with OVERWRITE, a job continues after a crash, a manifest names a file twice.
In a live call every copy is fraud, since callers speak and play no files. Jobs with IGNORE neither use the
detector nor add fingerprints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from sonant.errors import SealBroken
from sonant.jobs.faults import JobFault
from sonant.storage.crypto.vault import SpeakerSeal, Vault
from sonant.storage.repositories import erasure, voiceprints
from sonant.voice.replay.fingerprint import Fingerprint, all_pairs, shared_with
from sonant.voice.replay.index import FingerprintIndex

if TYPE_CHECKING:
    from sonant.jobs.job_type import JobContext

#: Fingerprints that are read between two renewals of a job's lease.
_LOADED_AT_ONCE = 5000
#: Recordings compared in full.
CANDIDATES = 4
#: More recordings than one transaction accepts.
_ACCEPTED_MOST = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayMatch:
    """An enrolled recording that shares a part with the present one."""

    speaker_id: str
    """The speaker whom it was accepted for."""
    pairs: int
    """How much agrees; see `fingerprint.Shared`."""


def is_fraud(enrolled_for: str, speaker_id: str | None, *, live: bool) -> bool:
    """Decide whether a copy of one speaker's recording is fraud for another (None: a new speaker)."""
    return live or enrolled_for != speaker_id


@contextmanager
def _damage_as_job_fault() -> Iterator[None]:
    try:
        yield
    except SealBroken:
        raise JobFault(
            500, "the fingerprint of a recording is damaged; restore the database from a backup"
        ) from None


def load_apart(context: JobContext, load: Callable[[Connection, Vault, int], bool]) -> None:
    """Read the fingerprints of a job's domain with `load`, outside of transactions that write.

    A hundred thousand take half a minute, so the lease is renewed in between.
    """
    more = True
    while more:
        with context.database.read() as connection:
            _, vault = context.open_domain(connection)
            more = load(connection, vault, _LOADED_AT_ONCE)
        if more:
            with context.database.write() as connection:
                context.renew_lease(connection)


class ReplayDetector:
    """One domain's fingerprints. Not for several threads."""

    def __init__(self, domain_id: str, capacity: int) -> None:
        """Hold the newest `capacity` recordings."""
        self._domain_id, self._capacity = domain_id, capacity
        self._index = FingerprintIndex(capacity)
        self._last = 0
        self._erasures: int | None = None

    def __len__(self) -> int:
        """Count the recordings in memory."""
        return len(self._index)

    def load(self, connection: Connection, vault: Vault, most: int) -> bool:
        """Read up to `most` of the fingerprints that `refresh` would, and return whether more may be left.

        Before the first `refresh`, so that a hundred thousand of them hold up no transaction that writes.
        Raises JobFault as `refresh`.
        """
        if self._erasures is None:
            self._erasures = erasure.version(connection, self._domain_id)
        count = 0
        with _damage_as_job_fault():
            for stored in voiceprints.fingerprints_after(
                connection, vault, self._domain_id, self._last, self._capacity, most
            ):
                self._index.add(stored.number, Fingerprint.from_bytes(stored.data))
                self._last = stored.number
                count += 1
        return count == most

    def refresh(self, connection: Connection, vault: Vault) -> None:
        """Drop fingerprints that were deleted since, and read those that were stored since.

        Raises JobFault when one cannot be opened: without it a copy would be missed.
        """
        erasures = erasure.version(connection, self._domain_id)
        if self._erasures not in (None, erasures):
            self._index.retain(voiceprints.fingerprint_numbers(connection, self._domain_id))
        self._erasures = erasures
        with _damage_as_job_fault():
            for stored in voiceprints.fingerprints_after(
                connection, vault, self._domain_id, self._last, self._capacity
            ):
                self._index.add(stored.number, Fingerprint.from_bytes(stored.data))
                self._last = stored.number

    def find(
        self,
        connection: Connection,
        vault: Vault,
        fingerprint: Fingerprint,
        speaker_id: str | None,
        *,
        live: bool = False,
        before: datetime | None = None,
    ) -> ReplayMatch | None:
        """Find the recording of another speaker that shares the most with this one; in a `live` call of any.

        With `before` only recordings accepted before that moment count. Raises JobFault as `refresh`.
        """
        copies, pairs = [], all_pairs(fingerprint, tolerant=True)
        for number in self._index.candidates(fingerprint, CANDIDATES):
            with _damage_as_job_fault():
                stored = voiceprints.find_fingerprint(connection, vault, self._domain_id, number)
            if stored is None or not is_fraud(stored.speaker_id, speaker_id, live=live):
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
        """Store the fingerprint of speech that was accepted; it can be found from now on."""
        voiceprints.add_fingerprint(connection, seal, self._domain_id, speaker_id, data, now)
        self.refresh(connection, vault)


class AcceptedRecordings:
    """Recordings that one transaction has accepted for new speakers, and not stored yet."""

    def __init__(self) -> None:
        self._accepted: list[tuple[str, Fingerprint]] = []  # by number in the index
        self._index = FingerprintIndex(_ACCEPTED_MOST)

    def add(self, speaker_id: str, fingerprint: Fingerprint) -> None:
        """Take note of a recording; it can be found from now on."""
        self._index.add(len(self._accepted), fingerprint)
        self._accepted.append((speaker_id, fingerprint))

    def find(self, fingerprint: Fingerprint) -> ReplayMatch | None:
        """Find the recording that shares the most with this one, which is another speaker's."""
        if not self._accepted:
            return None
        copies, pairs = [], all_pairs(fingerprint, tolerant=True)
        for number in self._index.candidates(fingerprint, CANDIDATES):
            speaker_id, accepted = self._accepted[number]
            common = shared_with(accepted, pairs)
            if common.is_copy:
                copies.append(ReplayMatch(speaker_id=speaker_id, pairs=common.pairs))
        return max(copies, key=lambda copy: copy.pairs, default=None)
