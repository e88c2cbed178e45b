"""Erase a speaker, fraudster, watchlist or domain everywhere: what its operation deletes besides the row.

A deletion reaches the sessions and running dry runs of the speaker in its own transaction, memory by counters
that the transaction increments, and backups by the deletion ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from sonant.events.documents import speaker_event
from sonant.events.error_info import ErrorInfo
from sonant.jobs.dry_run_erasure import erase_from_dry_runs
from sonant.operations.service import Service
from sonant.retention.ledger import DestroyedKey, LedgerAction, LedgerEntry, LedgerKey, LedgerTransaction
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import sessions, speakers
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.erasure import ForgottenSession
from sonant.storage.repositories.speakers import Speaker

#: Why an enrollment in a session that is in progress meanwhile fails, and a request of a dry run.
OPTED_OUT_MEANWHILE, DELETED_MEANWHILE = "the speaker has opted out", "the speaker was deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasing:
    """The transaction that erases people of one domain."""

    service: Service
    connection: Connection
    domain: Domain
    vault: Vault
    ledger: LedgerTransaction

    def opt_out(self, speaker: Speaker) -> list[str]:
        """Opt a speaker out and delete the voice. Returns the sessions whose voice data was deleted."""
        now = self.service.clock()
        forgotten = speakers.delete_voice(self.connection, self.vault, speaker, "OPTED_OUT", now)
        return self._finish(speaker, "OPT_OUT_SPEAKER", forgotten, OPTED_OUT_MEANWHILE)

    def delete(self, speaker: Speaker) -> list[str]:
        """Delete a speaker with its voice. Returns as `opt_out`."""
        customer_id_hash = speakers.hash_of(self.connection, speaker.speaker_id) or b""
        forgotten = speakers.delete_speaker(
            self.connection, self.vault, speaker.domain_id, speaker.speaker_id, self.service.clock()
        )
        return self._finish(speaker, "DELETE_SPEAKER", forgotten, DELETED_MEANWHILE, customer_id_hash)

    def fail_enrollments(self, speaker_ids: Sequence[str], why: str) -> list[str]:
        """Fail enrollments of these speakers that are in progress in sessions. Returns the sessions."""
        now = self.service.clock()
        ended = sessions.fail_enrollments(self.connection, self.domain.domain_id, speaker_ids, why, now)
        failed_events = [
            speaker_event(
                self.domain,
                "ENROLL_SPEAKER",
                speaker_id=session.speaker_id,
                error=ErrorInfo.of_code(409, why),
                source="SESSION",
                source_id=session.session_id,
                contact_arn=session.contact_arn,
            )
            for session in ended
        ]
        self.service.outbox.put(self.connection, failed_events, now)
        return [session.session_id for session in ended]

    def end_repeated_opt_out(self, customer_id: str) -> bool:
        """Delete an opt-out without an entry, which a restore has repeated. Returns whether there was one."""
        domain_id = self.domain.domain_id
        if not speakers.end_repeated_opt_out(self.connection, self.vault, domain_id, customer_id):
            return False
        self._record("DELETE_SPEAKER", customer_id, self.vault.lookup(customer_id), ())
        return True

    def erase_measured(self, customer_id_hash: bytes) -> None:
        """Erase what running dry runs have measured of a speaker who had no entry."""
        erase_from_dry_runs(
            self.connection, self.vault, self.domain.domain_id, customer_id_hash, OPTED_OUT_MEANWHILE
        )

    def record_opt_out(self, speaker_id: str, customer_id_hash: bytes) -> None:
        """Record the opt-out of a speaker who had no voice."""
        self._record("OPT_OUT_SPEAKER", speaker_id, customer_id_hash, ())

    def record_fraudster(self, fraudster_id: str, wrapped: bytes) -> None:
        """Record the deletion of a fraudster, whose data key was `wrapped`."""
        self._record("DELETE_FRAUDSTER", fraudster_id, b"", (("fraudster", wrapped),))

    def record_watchlist(self, watchlist_id: str) -> None:
        """Record the deletion of a watchlist."""
        self._record("DELETE_WATCHLIST", watchlist_id, b"", ())

    def _finish(
        self,
        speaker: Speaker,
        what: LedgerAction,
        forgotten: Sequence[ForgottenSession],
        why: str,
        customer_id_hash: bytes = b"",
    ) -> list[str]:
        hashed = customer_id_hash or speakers.hash_of(self.connection, speaker.speaker_id) or b""
        erase_from_dry_runs(self.connection, self.vault, speaker.domain_id, hashed, why)
        keys = [("speaker", speaker.wrapped), *(("session", one.wrapped) for one in forgotten)]
        self._record(what, speaker.speaker_id, hashed, keys)
        return [one.session_id for one in forgotten]

    def _record(
        self, what: LedgerAction, member_id: str, customer_id_hash: bytes, keys: Sequence[tuple[str, bytes]]
    ) -> None:
        if self.ledger.key is None:
            return
        self.ledger.add(
            LedgerEntry(
                what=what,
                at=self.service.clock(),
                domain=self.ledger.key.domain(self.domain.domain_id),
                id=self.ledger.key.member(self.domain.domain_id, member_id),
                customer=customer_id_hash.hex(),
                keys=destroyed_keys(self.ledger.key, keys),
            )
        )


def destroyed_keys(key: LedgerKey, wrapped: Sequence[tuple[str, bytes]]) -> tuple[DestroyedKey, ...]:
    """Return what the ledger records of destroyed data keys, given as (whose, wrapped)."""
    return tuple(DestroyedKey(kind=kind, wrapped=key.destroyed(one)) for kind, one in wrapped)


def record_domain(service: Service, ledger: LedgerTransaction, what: LedgerAction, domain: Domain) -> None:
    """Record that a domain was suspended or restored."""
    if ledger.key is not None:
        ledger.add(LedgerEntry(what=what, at=service.clock(), domain=ledger.key.domain(domain.domain_id)))


def finish(service: Service, session_ids: Sequence[str]) -> None:
    """Finish after a transaction that deleted voices: empty the database's log, inform live calls."""
    service.database.truncate_wal()
    for session_id in dict.fromkeys(session_ids):
        service.live.session_changed(session_id)
