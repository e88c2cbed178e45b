"""The outbox: events are stored in the transaction of the change, and wait there for the sinks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from sonant.events.documents import Event, document
from sonant.ids import new_uuid
from sonant.storage.database.postgres import advisory_lock, lift_timeouts
from sonant.storage.database.rows import put
from sonant.storage.database.schema import event_cursors, events
from sonant.storage.times import from_us, latest_lease_us, to_us


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """One event in the outbox."""

    sequence: int
    document: bytes
    """JSON, on one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbox:
    """Stores the events of operations and jobs; none unless `enabled`."""

    enabled: bool = False

    def put(self, connection: Connection, new: Iterable[Event], now: datetime) -> None:
        """Store events in the caller's transaction, as its last step."""
        if not self.enabled:
            return
        rows = [_row(event, now) for event in new]
        if not rows:
            return
        # Sequence numbers must be committed in order: a cursor would skip one that comes late.
        advisory_lock(connection, "events")
        connection.execute(insert(events), rows)


def _row(event: Event, now: datetime) -> dict[str, object]:
    event_id = new_uuid()
    return {
        "event_id": event_id,
        "domain_id": event.domain.domain_id,
        "type": event.type,
        "created_at": to_us(now),
        "document": orjson.dumps(document(event, event_id, now)).decode(),
    }


# --- for delivery


_AFTER = (
    select(events.c.sequence, events.c.document)
    .where(events.c.sequence > bindparam("after"))
    .order_by(events.c.sequence)
    .limit(bindparam("most"))
)


def events_after(connection: Connection, sequence: int, limit: int) -> list[StoredEvent]:
    """Return the next events after a sequence number, in order."""
    rows = connection.execute(_AFTER, {"after": sequence, "most": limit})
    return [StoredEvent(sequence=row.sequence, document=row.document.encode()) for row in rows]


def cursor(connection: Connection, sink: str) -> int:
    """Return the sequence number of the last event delivered to a sink; 0 for a new sink."""
    query = select(event_cursors.c.delivered).where(event_cursors.c.sink == sink)
    return int(connection.execute(query).scalar() or 0)


def add_sink(connection: Connection, sink: str) -> None:
    """Add a cursor for a sink, which starts with the oldest stored event."""
    put(connection, event_cursors, {"sink": sink, "delivered": 0}, replace=False)


def acquire_lease(connection: Connection, sink: str, owner: str, now: datetime, lease: timedelta) -> bool:
    """Take or renew the lease of a sink, and return whether `owner` has it."""
    cursors = event_cursors.c
    statement = (
        update(event_cursors)
        .where(
            cursors.sink == sink,
            cursors.lease_owner.is_(None)
            | (cursors.lease_owner == owner)
            | (cursors.lease_until < to_us(now))
            | (cursors.lease_until > latest_lease_us(now, lease)),
        )
        .values(lease_owner=owner, lease_until=to_us(now + lease))
    )
    return connection.execute(statement).rowcount == 1


def release(connection: Connection, sink: str, owner: str | None = None) -> None:
    """Release the lease of a sink: that of `owner`, or of any process."""
    statement = update(event_cursors).where(event_cursors.c.sink == sink)
    if owner is not None:
        statement = statement.where(event_cursors.c.lease_owner == owner)
    connection.execute(statement.values(lease_owner=None, lease_until=None))


def advance_cursor(connection: Connection, sink: str, owner: str, delivered: int) -> bool:
    """Store the last event delivered to a sink. Returns False when another process has the lease."""
    statement = (
        update(event_cursors)
        .where(event_cursors.c.sink == sink, event_cursors.c.lease_owner == owner)
        .values(delivered=delivered)
    )
    return connection.execute(statement).rowcount == 1


def waiting(connection: Connection) -> dict[str, int]:
    """Return how many events wait for each sink."""
    query = (
        select(event_cursors.c.sink, func.count(events.c.sequence))
        .select_from(event_cursors)
        .outerjoin(events, events.c.sequence > event_cursors.c.delivered)
        .group_by(event_cursors.c.sink)
    )
    return {row[0]: int(row[1]) for row in connection.execute(query)}


def oldest_waiting(connection: Connection) -> dict[str, datetime]:
    """Return when the oldest event was stored that waits for a sink, of each sink for which one waits."""
    query = (
        select(event_cursors.c.sink, func.min(events.c.created_at))
        .join(events, events.c.sequence > event_cursors.c.delivered)
        .group_by(event_cursors.c.sink)
    )
    return {row[0]: from_us(row[1]) for row in connection.execute(query)}


def purge(
    connection: Connection, sinks: Sequence[str], before: datetime, give_up_before: datetime | None
) -> tuple[int, int]:
    """Delete old events: those delivered to all sinks, and those that wait for one too long; return how many.

    Without sinks, deletes all events. Deletes cursors of sinks that are no longer configured, too.
    """
    advisory_lock(connection, "purge of events")
    lift_timeouts(connection)
    connection.execute(delete(event_cursors).where(event_cursors.c.sink.not_in(sinks)))
    if not sinks:
        return connection.execute(delete(events)).rowcount, 0
    least = min(cursor(connection, sink) for sink in sinks)
    delivered = delete(events).where(events.c.sequence <= least, events.c.created_at < to_us(before))
    purged, dropped = connection.execute(delivered).rowcount, 0
    if give_up_before is not None:
        undelivered = delete(events).where(
            events.c.sequence > least, events.c.created_at < to_us(give_up_before)
        )
        dropped = connection.execute(undelivered).rowcount
    return purged, dropped
