"""Reports rows that something else than Sonant has changed: in the log, as a metric and as an event."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from sonant.assembly.installation import Store
from sonant.assembly.jobs import build_outbox
from sonant.errors import IntegrityFault, SonantError
from sonant.events.documents import AbsentDomain, EventDomain, Installation, integrity_event
from sonant.storage.database.bound_connection import unverified
from sonant.storage.database.schema import domains, metadata
from sonant.storage.repositories import counters

log = logging.getLogger(__name__)

#: A row is reported again after this time; each call that meets it fails all the same.
AGAIN_S = 3600.0
#: Rows that are remembered as reported.
_MOST_REMEMBERED = 10_000
#: Steps from a row to the row that names its domain.
_MOST_STEPS = 3


class IntegrityReporter:
    """Reports each changed row once in AGAIN_S. Called by any thread, after its transaction."""

    def __init__(self, store: Store, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._store, self._monotonic_s = store, monotonic_s
        self._outbox = build_outbox(store.settings)
        self._lock = threading.Lock()
        self._reported_s: dict[tuple[str, str], float] = {}

    def __call__(self, fault: IntegrityFault) -> None:
        """Report a fault. Raises nothing: the failure that found the row counts, not that of its report."""
        if not self._is_new(fault):
            return
        log.error("%s", fault)
        try:
            with self._store.database.write() as connection:
                counters.add(connection, {(counters.INTEGRITY_FAULTS, fault.table): 1.0})
                domain = self._domain(connection, fault)
                event = integrity_event(domain, fault.table, fault.key)
                self._outbox.put(connection, [event], self._store.clock())
        except (SonantError, SQLAlchemyError) as failure:
            log.warning("an integrity fault is in the log only: %s", type(failure).__name__)

    def _is_new(self, fault: IntegrityFault) -> bool:
        row, now_s = (fault.table, fault.key), self._monotonic_s()
        with self._lock:
            last_s = self._reported_s.get(row)
            if last_s is not None and now_s - last_s < AGAIN_S:
                return False
            if len(self._reported_s) >= _MOST_REMEMBERED:
                self._reported_s.clear()
            self._reported_s[row] = now_s
        return True

    def _domain(self, connection: Connection, fault: IntegrityFault) -> EventDomain:
        """Return the domain that a row says it belongs to, or the installation."""
        settings = self._store.settings
        domain_id = _domain_id(connection, fault)
        if domain_id is not None:
            columns = select(domains.c.account_id, domains.c.region).where(domains.c.domain_id == domain_id)
            row = connection.execute(unverified(columns, "only to address the report")).first()
            if row is not None:
                return AbsentDomain(domain_id=domain_id, account_id=row.account_id, region=row.region)
        return Installation(account_id=settings.account, region=settings.region)


def _domain_id(connection: Connection, fault: IntegrityFault) -> str | None:
    """Follow a row's references to its domain; None where there is none, or the row is gone."""
    table, key = metadata.tables.get(fault.table), fault.key.partition("/")[0]
    for _ in range(_MOST_STEPS):
        if table is None:
            return None
        first = next(iter(table.primary_key))
        wanted = "domain_id" if "domain_id" in table.c else None
        parent = None
        if wanted is None:
            parent = next(iter(sorted(table.foreign_keys, key=lambda one: one.parent.name)), None)
            if parent is None:
                return None
            wanted = parent.parent.name
        query = select(table.c[wanted]).where(first == key).limit(1)
        found = connection.execute(unverified(query, "only to address the report")).scalar()
        if found is None or parent is None:
            return found if isinstance(found, str) else None
        table, key = parent.column.table, str(found)
    return None
