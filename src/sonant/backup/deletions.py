"""Repeat the deletions of a ledger on a database that a backup was restored into."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, Table, delete, select

from sonant.errors import KeyError_, KeysUnreachable, SetupError
from sonant.retention.ledger import LedgerEntry, LedgerKey
from sonant.storage.crypto.vault import Vault
from sonant.storage.database.schema import domains as domain_rows
from sonant.storage.database.schema import fraudsters as fraudster_rows
from sonant.storage.database.schema import speakers as speaker_rows
from sonant.storage.database.schema import watchlists as watchlist_rows
from sonant.storage.keys.store import KeysOf
from sonant.storage.opening import vault_of
from sonant.storage.repositories import domains, erasure, speakers, watchlists
from sonant.storage.repositories.domains import Domain


@dataclass(slots=True)
class RepeatedDeletions:
    """How many of each kind were deleted again. Who is not in the backup is not counted."""

    speakers_deleted: int = 0
    speakers_opted_out: int = 0
    opt_outs_remembered: int = 0
    """Opt-outs of people who are not in the backup: they are opted out when they are named."""
    fraudsters_deleted: int = 0
    watchlists_deleted: int = 0
    domains_deleted: int = 0
    domains_erased: int = 0
    keys_not_renewed: int = 0
    """Speakers opted out in a domain whose KMS key could not be used: their own key stays."""
    ledgers: list[str] = field(default_factory=list)
    """Folders that had entries."""
    later_lines: int = 0
    """Lines under a service key that came after that of the backup."""
    damaged_lines: int = 0
    """Lines of these ledgers that could not be read."""

    @property
    def total(self) -> int:
        """How many things were deleted or opted out."""
        return (
            self.speakers_deleted
            + self.speakers_opted_out
            + self.opt_outs_remembered
            + self.fraudsters_deleted
            + self.watchlists_deleted
            + self.domains_deleted
            + self.domains_erased
        )


def repeat_deletions(
    connection: Connection,
    entries: Iterable[LedgerEntry],
    key: LedgerKey,
    keys_of: KeysOf,
    clock: Callable[[], datetime],
    done: RepeatedDeletions,
) -> None:
    """Delete and opt out again everyone and everything that the entries name, and count it in `done`."""
    by_domain: dict[str, list[LedgerEntry]] = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: entry.at):
        by_domain[entry.domain].append(entry)
    for domain in domains.list_all(connection):
        found = [entry for hashed in key.domains(domain.domain_id) for entry in by_domain.get(hashed, ())]
        found.sort(key=lambda entry: entry.at)
        if found:
            _Repetition(connection, key, domain, _opened(keys_of, domain), clock, done).run(found)


def _opened(keys_of: KeysOf, domain: Domain) -> Vault | None:
    try:
        return vault_of(keys_of, domain)
    except (KeyError_, KeysUnreachable, SetupError):
        return None  # what was deleted can be deleted without opening anything


@dataclass(frozen=True, slots=True)
class _Repetition:
    """The repetition of one domain's deletions."""

    connection: Connection
    key: LedgerKey
    domain: Domain
    vault: Vault | None
    clock: Callable[[], datetime]
    done: RepeatedDeletions

    def run(self, entries: Sequence[LedgerEntry]) -> None:
        fates = [one for one in entries if one.what in ("DELETE_DOMAIN", "RESTORE_DOMAIN", "ERASE_DOMAIN")]
        if fates and fates[-1].what == "ERASE_DOMAIN":
            self.connection.execute(
                delete(domain_rows).where(domain_rows.c.domain_id == self.domain.domain_id)
            )
            self.done.domains_erased += 1
            return
        by_id: dict[str, LedgerEntry] = {}
        for entry in entries:  # of one id, a deletion may follow an opt-out, and nothing a deletion
            if entry.id:
                by_id[entry.id] = entry
        self._repeat_speakers(by_id)
        self._remember({entry.customer: entry for entry in entries if entry.customer})
        self._repeat_fraudsters(by_id)
        self._repeat_watchlists(by_id)
        if fates and fates[-1].what == "DELETE_DOMAIN" and self.domain.active:
            domains.suspend(self.connection, self.domain, fates[-1].at)
            self.done.domains_deleted += 1

    def _repeat_speakers(self, by_id: Mapping[str, LedgerEntry]) -> None:
        domain_id, now = self.domain.domain_id, self.clock()
        for speaker_id, entry in self._named(speaker_rows, "speaker_id", by_id):
            if entry.what == "DELETE_SPEAKER":
                speakers.delete_speaker(self.connection, self.vault, domain_id, speaker_id, entry.at)
                self.done.speakers_deleted += 1
            elif speakers.status_of(self.connection, domain_id, speaker_id) != "OPTED_OUT":
                if not speakers.opt_out(self.connection, self.vault, domain_id, speaker_id, now):
                    self.done.keys_not_renewed += 1
                self.done.speakers_opted_out += 1

    def _remember(self, by_customer: Mapping[str, LedgerEntry]) -> None:
        """Remember the erased who have no entry, so that no job or call brings them back."""
        domain_id = self.domain.domain_id
        for customer, entry in by_customer.items():
            customer_id_hash = bytes.fromhex(customer)
            if speakers.find_status(self.connection, domain_id, customer_id_hash) is not None:
                continue
            if entry.what == "OPT_OUT_SPEAKER":
                erasure.remember(self.connection, domain_id, customer_id_hash, "OPTED_OUT", entry.at)
                self.done.opt_outs_remembered += 1
            else:
                erasure.remember(self.connection, domain_id, customer_id_hash, "DELETED", entry.at)

    def _repeat_fraudsters(self, by_id: Mapping[str, LedgerEntry]) -> None:
        for fraudster_id, entry in self._named(fraudster_rows, "fraudster_id", by_id):
            if entry.what == "DELETE_FRAUDSTER":
                watchlists.remove_fraudster(self.connection, fraudster_id)
                self.done.fraudsters_deleted += 1

    def _repeat_watchlists(self, by_id: Mapping[str, LedgerEntry]) -> None:
        for watchlist_id, entry in self._named(watchlist_rows, "watchlist_id", by_id):
            if entry.what == "DELETE_WATCHLIST" and not watchlists.size(self.connection, watchlist_id):
                watchlists.remove(self.connection, watchlist_id)
                self.done.watchlists_deleted += 1

    def _named(
        self, table: Table, column: str, by_id: Mapping[str, LedgerEntry]
    ) -> list[tuple[str, LedgerEntry]]:
        """Find the domain's rows that entries name, with these entries."""
        query = select(table.c[column]).where(table.c.domain_id == self.domain.domain_id)
        found = []
        for row_id in self.connection.execute(query).scalars().all():
            hashes = self.key.members(self.domain.domain_id, row_id)
            entries = [by_id[hashed] for hashed in hashes if hashed in by_id]
            if entries:
                found.append((row_id, max(entries, key=lambda entry: entry.at)))
        return found
