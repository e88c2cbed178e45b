"""The outbox: events are written in the transaction that they tell of, and wait there for the sinks."""

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
from sonant.storage.times import latest_lease_us, to_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One event as it waits for the sinks."""

    sequence: int
    document: bytes
    """JSON, on one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbox:
    """Where operations and jobs put events. With `enabled` off nothing is kept."""

    enabled: bool = False

    def put(self, connection: Connection, happened: Iterable[Event], now: datetime) -> None:
        """Write events in the caller's transaction; to be called as its last step."""
        if not self.enabled:
            return
        rows = [_row(event, now) for event in happened]
        if not rows:
            return
        # Numbers must be committed in their order, else a cursor passes over one that comes late.
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


# --- the sinks' side ----------------------------------------------------------------------------------


_AFTER = (
    select(events.c.sequence, events.c.document)
    .where(events.c.sequence > bindparam("after"))
    .order_by(events.c.sequence)
    .limit(bindparam("most"))
)


def after(connection: Connection, sequence: int, limit: int) -> list[Kept]:
    """The next events behind a number, in order."""
    rows = connection.execute(_AFTER, {"after": sequence, "most": limit})
    return [Kept(sequence=row.sequence, document=row.document.encode()) for row in rows]


def cursor(connection: Connection, sink: str) -> int:
    """The number of the last event that a sink took; 0 for a sink that is not known yet."""
    query = select(event_cursors.c.delivered).where(event_cursors.c.sink == sink)
    return int(connection.execute(query).scalar() or 0)


def add_sink(connection: Connection, sink: str) -> None:
    """A new sink begins with the oldest event that is kept."""
    put(connection, event_cursors, {"sink": sink, "delivered": 0}, replace=False)


def hold(connection: Connection, sink: str, owner: str, now: datetime, lease: timedelta) -> bool:
    """Take or renew the right to deliver to a sink; whether `owner` has it now."""
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
    """Give up the right to deliver: `owner`'s, or anybody's."""
    statement = update(event_cursors).where(event_cursors.c.sink == sink)
    if owner is not None:
        statement = statement.where(event_cursors.c.lease_owner == owner)
    connection.execute(statement.values(lease_owner=None, lease_until=None))


def move(connection: Connection, sink: str, owner: str, delivered: int) -> bool:
    """Note how far a sink is; False, and nothing noted, when another process has taken it over."""
    statement = (
        update(event_cursors)
        .where(event_cursors.c.sink == sink, event_cursors.c.lease_owner == owner)
        .values(delivered=delivered)
    )
    return connection.execute(statement).rowcount == 1


def waiting(connection: Connection) -> dict[str, int]:
    """How many events each known sink has not taken yet."""
    query = (
        select(event_cursors.c.sink, func.count(events.c.sequence))
        .select_from(event_cursors)
        .outerjoin(events, events.c.sequence > event_cursors.c.delivered)
        .group_by(event_cursors.c.sink)
    )
    return {row[0]: int(row[1]) for row in connection.execute(query)}


def purge(
    connection: Connection, sinks: Sequence[str], before: datetime, give_up_before: datetime | None
) -> tuple[int, int]:
    """Delete old events: those that all sinks have taken, and those that one has not taken for too long;
    how many of each. Without sinks all go. Cursors of sinks that are no longer set up go as well."""
    advisory_lock(connection, "purge of events")
    lift_timeouts(connection)
    connection.execute(delete(event_cursors).where(event_cursors.c.sink.not_in(sinks)))
    if not sinks:
        return connection.execute(delete(events)).rowcount, 0
    least = min(cursor(connection, sink) for sink in sinks)
    taken = delete(events).where(events.c.sequence <= least, events.c.created_at < to_us(before))
    purged, dropped = connection.execute(taken).rowcount, 0
    if give_up_before is not None:
        stuck = delete(events).where(events.c.sequence > least, events.c.created_at < to_us(give_up_before))
        dropped = connection.execute(stuck).rowcount
    return purged, dropped
