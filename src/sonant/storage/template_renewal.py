"""Renew the template space of a domain: every embedding that it holds is moved to a new one.

May be killed at any point, run again, and run beside services and runners: batches of rows are moved in
transactions of their own, and whatever reads a row brings it to the present space. The key of the earlier
space is deleted once no row is in it any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import Connection

from sonant.storage.crypto.vault import Vault
from sonant.storage.database.engine import Database
from sonant.storage.keys.store import KeysOf
from sonant.storage.opening import open_active_domain
from sonant.storage.repositories import domains, template_rows, templates
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.template_rows import EMBEDDINGS, EmbeddingTable
from sonant.storage.repositories.templates import SpaceVersions

#: Rows moved in one transaction: about 0.1 s in which other writers of an SQLite database wait.
BATCH = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """What a renewal has done, or has done so far."""

    domain_id: str
    old_version: int
    new_version: int
    resumed: bool
    """Whether an earlier call had begun it."""
    moved: int = 0
    """Rows that this call has moved."""
    left: int = 0
    """Rows that are still in earlier spaces: damaged ones, or those that were left for the next call."""
    damaged: int = 0
    """Rows that cannot be moved; the keys of their spaces are kept."""

    @property
    def finished(self) -> bool:
        """Whether the keys of earlier spaces are deleted."""
        return not self.left


Note = Callable[[Connection, Domain, Renewal], None]
"""Records that a renewal began or is finished, before the transaction that does so commits."""


def _no_note(_connection: Connection, _domain: Domain, _renewal: Renewal) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateRenewer:
    """Renews domains, one at a time. Methods raise DomainNotActive, and what opening a domain raises."""

    database: Database
    keys_of: KeysOf
    clock: Callable[[], datetime]
    note: Note = _no_note
    pause: Callable[[], None] = field(default=lambda: None)
    """Called between transactions, to let other writers go first."""

    def renew(
        self, domain_id: str, *, most: int | None = None, progress: Callable[[int], None] = lambda _: None
    ) -> Renewal:
        """Renew a domain, or finish a renewal that was begun before; `most` rows are moved at most.

        `progress` gets the number of rows of each batch.
        """
        done = self._begin(domain_id)
        while True:
            moved, damaged = self._move_all(done, None if most is None else most - done.moved, progress)
            done = replace(done, moved=done.moved + moved, damaged=damaged)
            done = self._finish(done)
            enough = most is not None and done.moved >= most
            # Others may have stored rows that they had begun in an earlier space: then there is a next round.
            if done.finished or enough or done.left <= done.damaged:
                return done

    def rows_left(self, domain_id: str) -> int:
        """Count the rows that a renewal of the domain has to move, or still has to."""
        with self.database.read() as connection:
            versions = templates.find_versions(connection, domain_id)
            if versions is None:
                return 0
            before = versions.present + (not versions.renewing)
            return template_rows.count_before(connection, domain_id, before)

    def _begin(self, domain_id: str) -> Renewal:
        with self.database.write() as connection:
            domain, vault = self._open(connection, domain_id)
            versions = templates.find_versions(connection, domain_id)
            assert versions is not None  # the domain is locked
            resumed = versions.renewing
            if not resumed:
                versions = templates.begin_renewal(connection, vault.templates, self.clock())
            done = _renewal(domain_id, versions, resumed=resumed)
            if not resumed:
                self.note(connection, domain, replace(done, left=1))
        return done

    def _move_all(self, done: Renewal, most: int | None, progress: Callable[[int], None]) -> tuple[int, int]:
        """Move the rows of all tables; how many, and how many could not be moved."""
        moved = damaged = 0
        for place in EMBEDDINGS:
            after: template_rows.Position | None = ()
            while after is not None and (most is None or moved < most):
                batch = self._move_batch(done, place, after or None)
                moved, damaged, after = moved + batch.moved, damaged + batch.damaged, batch.last
                progress(batch.moved)
                self.pause()
        return moved, damaged

    def _move_batch(
        self, done: Renewal, place: EmbeddingTable, after: template_rows.Position | None
    ) -> template_rows.Batch:
        with self.database.write() as connection:
            _, vault = self._open(connection, done.domain_id)
            spaces = templates.open_spaces(connection, vault.templates)
            return template_rows.move_batch(connection, vault, spaces, place, after, BATCH)

    def _finish(self, done: Renewal) -> Renewal:
        """Delete the keys of earlier spaces if no row is left in them."""
        with self.database.write() as connection:
            domain, _ = self._open(connection, done.domain_id)
            templates.lock_earlier(connection, done.domain_id, done.new_version)
            left = template_rows.count_before(connection, done.domain_id, done.new_version)
            done = replace(done, left=left)
            versions = templates.find_versions(connection, done.domain_id)
            if left or versions is None or versions.present != done.new_version or not versions.renewing:
                return done  # rows are left, or another process has finished it
            templates.finish_renewal(connection, done.domain_id, done.new_version)
            self.note(connection, domain, done)
        self.database.truncate_wal()  # the keys' bytes are in it
        return done

    def _open(self, connection: Connection, domain_id: str) -> tuple[Domain, Vault]:
        domains.lock(connection, domain_id)
        return open_active_domain(connection, self.keys_of, domain_id)


def _renewal(domain_id: str, versions: SpaceVersions, *, resumed: bool) -> Renewal:
    return Renewal(
        domain_id=domain_id, old_version=versions.oldest, new_version=versions.present, resumed=resumed
    )
