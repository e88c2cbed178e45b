"""Changes of a domain from one voice model to another: rows in and out.

    RUNNING ─► READY ─► SWITCHED        and from SWITCHED back to READY

While it is RUNNING each voiceprint gets a shadow under the new model, made from kept audio. READY means that
there is none left to make. The switch exchanges voiceprints and shadows in one transaction, and so does going
back; finishing forgets the shadows. What is enrolled in between has no shadow until one is made.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Column, Connection, Select, Table, and_, delete, func, insert, or_, select, update

from sonant.storage.crypto.vault import SpeakerSeal, Vault
from sonant.storage.database.schema import (
    fraudster_shadow_voiceprints,
    fraudster_voiceprints,
    fraudsters,
    model_upgrades,
    shadow_voiceprints,
    speaker_keys,
    speakers,
    voiceprints,
)
from sonant.storage.repositories.voice_samples import voiceprint_place
from sonant.storage.times import far_us, from_us, to_us
from sonant.voice.sample import VoiceSample, vector_from_bytes

Who = Literal["speaker", "fraudster"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUpgrade:
    """One domain's change. Model ids are None for the model that ships with Sonant."""

    domain_id: str
    old_model_id: str | None
    new_model_id: str | None
    status: str
    report: dict[str, Any] | None
    """How far both models agree, once READY."""
    problem: str | None
    """Why it does not go on; it is tried again."""
    created_at: datetime
    switched_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A speaker or fraudster whose shadow is to be made. `audio` is None where none was kept."""

    who: Who
    person_id: str
    enrolled_at: int
    seal: SpeakerSeal
    audio: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Voiceprints of one sort of people."""

    pending: int
    """Under another model than the new one, and no shadow yet."""
    made: int
    """With a shadow."""
    impossible: int
    """No shadow can be made of them: they must be enrolled again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tables:
    prints: Table
    shadows: Table
    people: Table
    key: Column[Any]
    """The person's id in `people`."""
    wrapped: Column[Any]


def _tables(who: Who) -> _Tables:
    if who == "speaker":
        wrapped = speaker_keys.c.wrapped
        return _Tables(
            prints=voiceprints,
            shadows=shadow_voiceprints,
            people=speakers,
            key=speakers.c.speaker_id,
            wrapped=wrapped,
        )
    return _Tables(
        prints=fraudster_voiceprints,
        shadows=fraudster_shadow_voiceprints,
        people=fraudsters,
        key=fraudsters.c.fraudster_id,
        wrapped=fraudsters.c.wrapped,
    )


BOTH: tuple[Who, ...] = ("speaker", "fraudster")
_COLUMNS = [model_upgrades.c[name] for name in ModelUpgrade.__slots__]


def find(connection: Connection, domain_id: str) -> ModelUpgrade | None:
    query = select(*_COLUMNS).where(model_upgrades.c.domain_id == domain_id)
    row = connection.execute(query).mappings().first()
    return None if row is None else _upgrade(dict(row))


def start(connection: Connection, domain_id: str, old: str | None, new: str | None, now: datetime) -> None:
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
    """Take a change that is RUNNING and that nobody works on."""
    free = or_(
        model_upgrades.c.lease_owner.is_(None),
        model_upgrades.c.lease_owner == owner,
        model_upgrades.c.lease_until < to_us(now),
        model_upgrades.c.lease_until > far_us(now, lease),
    )
    query = (
        select(*_COLUMNS)
        .where(model_upgrades.c.status == "RUNNING", free)
        .order_by(model_upgrades.c.created_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = connection.execute(query).mappings().first()
    if row is None:
        return None
    upgrade = _upgrade(dict(row))
    _set(connection, upgrade.domain_id, lease_owner=owner, lease_until=to_us(now + lease))
    return upgrade


def running(connection: Connection) -> bool:
    query = select(func.count()).where(model_upgrades.c.status == "RUNNING")
    return bool(connection.execute(query).scalar_one())


def renew(connection: Connection, domain_id: str, owner: str, now: datetime, lease: timedelta) -> bool:
    """Whether the change is still RUNNING and this owner's."""
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
    connection.execute(
        update(model_upgrades)
        .where(model_upgrades.c.domain_id == domain_id, model_upgrades.c.lease_owner == owner)
        .values(lease_owner=None, lease_until=None)
    )


def postpone(connection: Connection, domain_id: str, problem: str, until: datetime) -> None:
    """It cannot go on now: say why, and leave it alone until then."""
    _set(connection, domain_id, problem=problem, lease_owner="", lease_until=to_us(until))


def ready(connection: Connection, domain_id: str, report: dict[str, Any]) -> None:
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
    """Make shadows of who was enrolled since."""
    _set(connection, domain_id, status="RUNNING", lease_owner=None, lease_until=None)


def pending(connection: Connection, vault: Vault, domain_id: str, new_id: str, limit: int) -> list[Person]:
    """The next people without a shadow, opened. `new_id` is the new model's own id. Raises SealBroken."""
    found: list[Person] = []
    for who in BOTH:
        tables = _tables(who)
        query = _pending(tables, domain_id, new_id).add_columns(
            tables.wrapped, tables.prints.c.created_at, tables.prints.c.audio_sealed
        )
        if who == "speaker":
            query = query.join(speaker_keys, speaker_keys.c.speaker_id == speakers.c.speaker_id)
        for person_id, wrapped, enrolled_at, sealed in connection.execute(
            query.order_by(tables.key).limit(limit - len(found))
        ):
            seal = (vault.speaker if who == "speaker" else vault.fraudster)(person_id, wrapped)
            audio = None if sealed is None else seal.open("audio", sealed)
            found.append(
                Person(who=who, person_id=person_id, enrolled_at=enrolled_at, seal=seal, audio=audio)
            )
    return found


def put_shadow(
    connection: Connection, person: Person, model_id: str, sample: VoiceSample | None, problem: str | None
) -> None:
    """Keep the voiceprint under the new model, or why there is none; nothing if the person has gone or was
    enrolled anew meanwhile."""
    tables = _tables(person.who)
    there = tables.prints.c[tables.key.name] == person.person_id
    unchanged = select(func.count()).where(there, tables.prints.c.created_at == person.enrolled_at)
    if not connection.execute(unchanged).scalar_one():
        return
    sealed = None
    if sample is not None:
        sealed = person.seal.seal(voiceprint_place(model_id), sample.to_bytes())
    connection.execute(delete(tables.shadows).where(tables.shadows.c[tables.key.name] == person.person_id))
    connection.execute(
        insert(tables.shadows).values(
            {
                tables.key.name: person.person_id,
                "model_id": model_id,
                "vector_sealed": sealed,
                "problem": problem,
            }
        )
    )


def counts(connection: Connection, domain_id: str, new_id: str, who: Who) -> Counts:
    tables = _tables(who)
    waiting = _pending(tables, domain_id, new_id).subquery()
    shadows = _shadows(tables, domain_id)
    made = shadows.where(tables.shadows.c.vector_sealed.is_not(None)).subquery()
    not_made = shadows.where(tables.shadows.c.vector_sealed.is_(None)).subquery()
    found = [
        connection.execute(select(func.count()).select_from(one)).scalar_one()
        for one in (waiting, made, not_made)
    ]
    return Counts(pending=found[0], made=found[1], impossible=found[2])


def impossible(connection: Connection, domain_id: str, who: Who) -> list[tuple[str, str]]:
    """(id, problem) of those of whom no shadow could be made."""
    tables = _tables(who)
    query = (
        _shadows(tables, domain_id)
        .add_columns(tables.shadows.c.problem)
        .where(tables.shadows.c.vector_sealed.is_(None))
        .order_by(tables.key)
    )
    return [(str(person_id), str(problem)) for person_id, problem in connection.execute(query)]


def stale(connection: Connection, domain_id: str, model_id: str, who: Who) -> list[str]:
    """Ids of those whose voiceprint is of another model than this one."""
    tables = _tables(who)
    query = _with_prints(tables, domain_id).where(tables.prints.c.model_id != model_id).order_by(tables.key)
    return list(connection.execute(query).scalars())


def count_stale(connection: Connection, domain_id: str, model_id: str, who: Who) -> int:
    """How many have a voiceprint of another model than this one."""
    tables = _tables(who)
    query = _with_prints(tables, domain_id).where(tables.prints.c.model_id != model_id).subquery()
    return int(connection.execute(select(func.count()).select_from(query)).scalar_one())


def pairs(
    connection: Connection, vault: Vault, domain_id: str, limit: int
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Open (voiceprint, shadow), each of shape [d], of up to `limit` speakers who have both.

    Raises SealBroken.
    """
    query = (
        select(
            speakers.c.speaker_id,
            speaker_keys.c.wrapped,
            voiceprints.c.model_id,
            voiceprints.c.vector_sealed,
            shadow_voiceprints.c.model_id.label("shadow_model_id"),
            shadow_voiceprints.c.vector_sealed.label("shadow_sealed"),
        )
        .join(speaker_keys, speaker_keys.c.speaker_id == speakers.c.speaker_id)
        .join(voiceprints, voiceprints.c.speaker_id == speakers.c.speaker_id)
        .join(shadow_voiceprints, shadow_voiceprints.c.speaker_id == speakers.c.speaker_id)
        .where(speakers.c.domain_id == domain_id, shadow_voiceprints.c.vector_sealed.is_not(None))
        .order_by(speakers.c.speaker_id)
        .limit(limit)
    )
    found = []
    for row in connection.execute(query):
        seal = vault.speaker(row.speaker_id, row.wrapped)
        found.append(
            (
                vector_from_bytes(seal.open(voiceprint_place(row.model_id), row.vector_sealed)),
                vector_from_bytes(seal.open(voiceprint_place(row.shadow_model_id), row.shadow_sealed)),
            )
        )
    return found


def exchange(connection: Connection, domain_id: str, *, switched: bool, now: datetime) -> None:
    """Voiceprints become shadows and shadows voiceprints, of everybody who has both."""
    for who in BOTH:
        _exchange(connection, _tables(who), domain_id)
    _set(
        connection,
        domain_id,
        status="SWITCHED" if switched else "READY",
        switched_at=to_us(now) if switched else None,
    )


def end(connection: Connection, domain_id: str) -> None:
    """Forget the change and its shadows."""
    for who in BOTH:
        tables = _tables(who)
        people = _shadows(tables, domain_id)
        connection.execute(delete(tables.shadows).where(tables.shadows.c[tables.key.name].in_(people)))
    connection.execute(delete(model_upgrades).where(model_upgrades.c.domain_id == domain_id))


def model_used(connection: Connection, model_id: str) -> bool:
    """Whether a voiceprint or shadow of this model is kept, or a change from or to it goes on."""
    tables = (voiceprints, fraudster_voiceprints, shadow_voiceprints, fraudster_shadow_voiceprints)
    queries = [select(func.count()).where(table.c.model_id == model_id) for table in tables]
    changing = or_(model_upgrades.c.old_model_id == model_id, model_upgrades.c.new_model_id == model_id)
    queries.append(select(func.count()).where(changing))
    return any(connection.execute(query).scalar_one() for query in queries)


def has_prints(connection: Connection, domain_id: str) -> bool:
    """Whether anybody's voice is kept in a domain."""
    return any(
        connection.execute(_with_prints(_tables(who), domain_id).limit(1)).first() is not None for who in BOTH
    )


def _exchange(connection: Connection, tables: _Tables, domain_id: str) -> None:
    # Sealed bytes are bound to the person and the model's id, both of which move along.
    prints, shadows, name = tables.prints, tables.shadows, tables.key.name
    people = _shadows(tables, domain_id).where(shadows.c.vector_sealed.is_not(None))
    of_print, of_shadow = prints.c[name], shadows.c[name]

    def taken(table: Table, column: Column[Any], of: Column[Any], matching: Column[Any]) -> Any:
        return select(table.c[column.name]).where(of == matching).scalar_subquery()

    connection.execute(
        update(shadows)
        .where(of_shadow.in_(people))
        .values(
            other_model_id=taken(prints, prints.c.model_id, of_print, of_shadow),
            other_vector_sealed=taken(prints, prints.c.vector_sealed, of_print, of_shadow),
        )
    )
    connection.execute(
        update(prints)
        .where(of_print.in_(people))
        .values(
            model_id=taken(shadows, shadows.c.model_id, of_shadow, of_print),
            vector_sealed=taken(shadows, shadows.c.vector_sealed, of_shadow, of_print),
        )
    )
    connection.execute(
        update(shadows)
        .where(shadows.c.other_model_id.is_not(None), of_shadow.in_(people))
        .values(
            model_id=shadows.c.other_model_id,
            vector_sealed=shadows.c.other_vector_sealed,
            other_model_id=None,
            other_vector_sealed=None,
        )
    )


def _with_prints(tables: _Tables, domain_id: str) -> Select[Any]:
    return (
        select(tables.key)
        .join(tables.prints, tables.prints.c[tables.key.name] == tables.key)
        .where(tables.people.c.domain_id == domain_id)
    )


def _shadows(tables: _Tables, domain_id: str) -> Select[Any]:
    return (
        select(tables.key)
        .join(tables.shadows, tables.shadows.c[tables.key.name] == tables.key)
        .where(tables.people.c.domain_id == domain_id)
    )


def _pending(tables: _Tables, domain_id: str, new_id: str) -> Select[Any]:
    shadow = tables.shadows.c[tables.key.name]
    return (
        _with_prints(tables, domain_id)
        .outerjoin(tables.shadows, shadow == tables.key)
        .where(and_(tables.prints.c.model_id != new_id, shadow.is_(None)))
    )


def _set(connection: Connection, domain_id: str, **values: Any) -> None:
    connection.execute(update(model_upgrades).where(model_upgrades.c.domain_id == domain_id).values(**values))


def _upgrade(values: dict[str, Any]) -> ModelUpgrade:
    values["report"] = None if values["report"] is None else json.loads(values["report"])
    for name in ("created_at", "switched_at"):
        values[name] = None if values[name] is None else from_us(values[name])
    return ModelUpgrade(**values)
