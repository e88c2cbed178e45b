"""Reads and writes changes of a domain from one voice model to another.

    RUNNING ─► READY ─► SWITCHED        and from SWITCHED back to READY

While it is RUNNING, each voiceprint gets a shadow: a voiceprint of the new model, made from stored audio.
READY means that all shadows are made. The switch, in both directions, exchanges voiceprints and shadows in
one transaction. The end of the change deletes the shadows. New enrollments have no shadow until one is made.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from sonant.storage.database.bound_connection import without_changed_rows
from sonant.storage.database.schema import fraudster_shadow_voiceprints as fraudster_shadows
from sonant.storage.database.schema import fraudster_voiceprints, model_upgrades, voiceprints
from sonant.storage.database.schema import shadow_voiceprints as shadows
from sonant.storage.repositories import shadow_voiceprints
from sonant.storage.times import from_us, latest_lease_us, to_us


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUpgrade:
    """The change of one domain. Model ids are None for the model that ships with Sonant."""

    domain_id: str
    old_model_id: str | None
    new_model_id: str | None
    status: str
    report: dict[str, Any] | None
    """The agreement of both models, once READY."""
    problem: str | None
    """Why it makes no progress; it is tried again."""
    created_at: datetime
    switched_at: datetime | None


_COLUMNS = [model_upgrades.c[name] for name in ModelUpgrade.__slots__]


def find(connection: Connection, domain_id: str) -> ModelUpgrade | None:
    """Return a domain's change, or None."""
    query = select(*_COLUMNS).where(model_upgrades.c.domain_id == domain_id)
    row = connection.execute(query).mappings().first()
    return None if row is None else _upgrade(dict(row))


def start(connection: Connection, domain_id: str, old: str | None, new: str | None, now: datetime) -> None:
    """Start a change."""
    connection.execute(
        insert(model_upgrades).values(
            domain_id=domain_id,
            old_model_id=old,
            new_model_id=new,
            status="RUNNING",
            created_at=to_us(now),
        )
    )


def claim(connection: Connection, owner: str, now: datetime, lease: timedelta) -> ModelUpgrade | None:
    """Take a RUNNING change without a valid lease, and return it."""
    free = or_(
        model_upgrades.c.lease_owner.is_(None),
        model_upgrades.c.lease_owner == owner,
        model_upgrades.c.lease_until < to_us(now),
        model_upgrades.c.lease_until > latest_lease_us(now, lease),
    )
    query = (
        select(*_COLUMNS)
        .where(model_upgrades.c.status == "RUNNING", free)
        .order_by(model_upgrades.c.created_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = connection.execute(without_changed_rows(query)).mappings().first()
    if row is None:
        return None
    upgrade = _upgrade(dict(row))
    _set(connection, upgrade.domain_id, lease_owner=owner, lease_until=to_us(now + lease))
    return upgrade


def running(connection: Connection) -> bool:
    """Return whether any change is RUNNING."""
    query = select(func.count()).where(model_upgrades.c.status == "RUNNING")
    return bool(connection.execute(query).scalar_one())


def renew(connection: Connection, domain_id: str, owner: str, now: datetime, lease: timedelta) -> bool:
    """Extend the lease, and return whether the change is still RUNNING and this owner's."""
    statement = (
        update(model_upgrades)
        .where(
            model_upgrades.c.domain_id == domain_id,
            model_upgrades.c.lease_owner == owner,
            model_upgrades.c.status == "RUNNING",
        )
        .values(lease_until=to_us(now + lease), problem=None)
    )
    return connection.execute(statement).rowcount == 1


def release(connection: Connection, domain_id: str, owner: str) -> None:
    """Release the lease."""
    connection.execute(
        update(model_upgrades)
        .where(model_upgrades.c.domain_id == domain_id, model_upgrades.c.lease_owner == owner)
        .values(lease_owner=None, lease_until=None)
    )


def postpone(connection: Connection, domain_id: str, problem: str, until: datetime) -> None:
    """Record why a change cannot continue now, and stop work on it until then."""
    _set(connection, domain_id, problem=problem, lease_owner="", lease_until=to_us(until))


def ready(connection: Connection, domain_id: str, report: dict[str, Any]) -> None:
    """Set the status READY, with the report."""
    _set(
        connection,
        domain_id,
        status="READY",
        report=json.dumps(report),
        problem=None,
        lease_owner=None,
        lease_until=None,
    )


def run_again(connection: Connection, domain_id: str) -> None:
    """Set the status RUNNING again, to make shadows of new enrollments."""
    _set(connection, domain_id, status="RUNNING", lease_owner=None, lease_until=None)


def switch(connection: Connection, domain_id: str, *, switched: bool, now: datetime) -> None:
    """Exchange voiceprints and shadows of all people who have both, and set the status."""
    shadow_voiceprints.exchange(connection, domain_id)
    _set(
        connection,
        domain_id,
        status="SWITCHED" if switched else "READY",
        switched_at=to_us(now) if switched else None,
    )


def end(connection: Connection, domain_id: str) -> None:
    """Delete the change and its shadows."""
    shadow_voiceprints.delete_all(connection, domain_id)
    connection.execute(delete(model_upgrades).where(model_upgrades.c.domain_id == domain_id))


def model_used(connection: Connection, model_id: str) -> bool:
    """Return whether a voiceprint, a shadow or a change uses this model."""
    tables = (voiceprints, fraudster_voiceprints, shadows, fraudster_shadows)
    queries = [select(func.count()).where(table.c.model_id == model_id) for table in tables]
    changing = or_(model_upgrades.c.old_model_id == model_id, model_upgrades.c.new_model_id == model_id)
    queries.append(select(func.count()).where(changing))
    return any(connection.execute(query).scalar_one() for query in queries)


def _set(connection: Connection, domain_id: str, **values: Any) -> None:
    connection.execute(update(model_upgrades).where(model_upgrades.c.domain_id == domain_id).values(**values))


def _upgrade(values: dict[str, Any]) -> ModelUpgrade:
    values["report"] = None if values["report"] is None else json.loads(values["report"])
    for name in ("created_at", "switched_at"):
        values[name] = None if values[name] is None else from_us(values[name])
    return ModelUpgrade(**values)
