"""Reads and writes shadows: voiceprints of the other model while a domain changes its voice model.

They are sealed under the person's own key. See `model_upgrades` for the change itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Column, Connection, Select, Table, and_, delete, func, insert, select, update

from sonant.storage.crypto.vault import SpeakerSeal, Vault
from sonant.storage.database.schema import (
    fraudster_shadow_voiceprints,
    fraudster_voiceprints,
    fraudsters,
    shadow_voiceprints,
    speaker_keys,
    speakers,
    voiceprints,
)
from sonant.storage.repositories import templates
from sonant.storage.repositories.voice_samples import open_sample, seal_vector
from sonant.voice.sample import VoiceSample

Who = Literal["speaker", "fraudster"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A speaker or fraudster whose shadow is to be made. `audio` is None where none was stored."""

    who: Who
    person_id: str
    enrolled_at: int
    seal: SpeakerSeal
    audio: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Counts of voiceprints of speakers or of fraudsters."""

    pending: int
    """Of another model than the new one, without a shadow."""
    made: int
    """With a shadow."""
    impossible: int
    """Without a possible shadow: these people must be enrolled again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tables:
    prints: Table
    shadows: Table
    people: Table
    key: Column[Any]
    """The person's id in `people`."""
    wrapped: Column[Any]


_TABLES: Mapping[Who, _Tables] = {
    "speaker": _Tables(
        prints=voiceprints,
        shadows=shadow_voiceprints,
        people=speakers,
        key=speakers.c.speaker_id,
        wrapped=speaker_keys.c.wrapped,
    ),
    "fraudster": _Tables(
        prints=fraudster_voiceprints,
        shadows=fraudster_shadow_voiceprints,
        people=fraudsters,
        key=fraudsters.c.fraudster_id,
        wrapped=fraudsters.c.wrapped,
    ),
}
BOTH: tuple[Who, ...] = ("speaker", "fraudster")


def pending(connection: Connection, vault: Vault, domain_id: str, new_id: str, limit: int) -> list[Person]:
    """Open the next people without a shadow. `new_id` is the new model's id. Raises SealBroken."""
    found: list[Person] = []
    for who in BOTH:
        tables = _TABLES[who]
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


def put(
    connection: Connection, person: Person, model_id: str, sample: VoiceSample | None, problem: str | None
) -> None:
    """Store the voiceprint of the new model in the domain's template space, or why there is none.

    Does nothing when the person was deleted or enrolled again meanwhile.
    """
    tables = _TABLES[person.who]
    there = tables.prints.c[tables.key.name] == person.person_id
    unchanged = select(func.count()).where(there, tables.prints.c.created_at == person.enrolled_at)
    if not connection.execute(unchanged).scalar_one():
        return
    spaces = templates.open_spaces(connection, person.seal.templates)
    sealed = None if sample is None else seal_vector(person.seal, spaces, sample)
    connection.execute(delete(tables.shadows).where(tables.shadows.c[tables.key.name] == person.person_id))
    connection.execute(
        insert(tables.shadows).values(
            {
                tables.key.name: person.person_id,
                "model_id": model_id,
                "vector_sealed": sealed,
                "template_version": spaces.present,
                "problem": problem,
            }
        )
    )


def counts(connection: Connection, domain_id: str, new_id: str, who: Who) -> Counts:
    """Count voiceprints with and without a shadow."""
    tables = _TABLES[who]
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
    """Return (id, problem) of the people of whom no shadow could be made."""
    tables = _TABLES[who]
    query = (
        _shadows(tables, domain_id)
        .add_columns(tables.shadows.c.problem)
        .where(tables.shadows.c.vector_sealed.is_(None))
        .order_by(tables.key)
    )
    return [(str(person_id), str(problem)) for person_id, problem in connection.execute(query)]


def list_other_model(connection: Connection, domain_id: str, model_id: str, who: Who) -> list[str]:
    """Return ids of the people whose voiceprint is of another model than this one."""
    tables = _TABLES[who]
    query = _with_prints(tables, domain_id).where(tables.prints.c.model_id != model_id).order_by(tables.key)
    return list(connection.execute(query).scalars())


def count_other_model(connection: Connection, domain_id: str, model_id: str, who: Who) -> int:
    """Return how many people have a voiceprint of another model than this one."""
    tables = _TABLES[who]
    query = _with_prints(tables, domain_id).where(tables.prints.c.model_id != model_id).subquery()
    return int(connection.execute(select(func.count()).select_from(query)).scalar_one())


def pairs(
    connection: Connection, vault: Vault, domain_id: str, limit: int
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Open (voiceprint, shadow), each of shape [d], of up to `limit` speakers who have both.

    Both are in the domain's template space. Raises SealBroken.
    """
    query = (
        select(
            speakers.c.speaker_id,
            speaker_keys.c.wrapped,
            voiceprints.c.model_id,
            voiceprints.c.vector_sealed,
            voiceprints.c.template_version,
            voiceprints.c.net_speech_s,
            shadow_voiceprints.c.model_id.label("shadow_model_id"),
            shadow_voiceprints.c.vector_sealed.label("shadow_sealed"),
            shadow_voiceprints.c.template_version.label("shadow_version"),
        )
        .join(speaker_keys, speaker_keys.c.speaker_id == speakers.c.speaker_id)
        .join(voiceprints, voiceprints.c.speaker_id == speakers.c.speaker_id)
        .join(shadow_voiceprints, shadow_voiceprints.c.speaker_id == speakers.c.speaker_id)
        .where(speakers.c.domain_id == domain_id, shadow_voiceprints.c.vector_sealed.is_not(None))
        .order_by(speakers.c.speaker_id)
        .limit(limit)
    )
    spaces, found = templates.open_spaces(connection, vault.templates), []
    for row in connection.execute(query).mappings():
        seal = vault.speaker(row["speaker_id"], row["wrapped"])
        shadow = {
            **row,
            "model_id": row["shadow_model_id"],
            "vector_sealed": row["shadow_sealed"],
            "template_version": row["shadow_version"],
        }
        found.append((open_sample(seal, spaces, row).vector, open_sample(seal, spaces, shadow).vector))
    return found


def exchange(connection: Connection, domain_id: str) -> None:
    """Exchange voiceprints and shadows of all people of a domain who have both."""
    for who in BOTH:
        _exchange(connection, _TABLES[who], domain_id)


def delete_all(connection: Connection, domain_id: str) -> None:
    """Delete all shadows of a domain."""
    for who in BOTH:
        tables = _TABLES[who]
        people = _shadows(tables, domain_id)
        connection.execute(delete(tables.shadows).where(tables.shadows.c[tables.key.name].in_(people)))


def has_voiceprints(connection: Connection, domain_id: str) -> bool:
    """Return whether a domain has a voiceprint."""
    return any(
        connection.execute(_with_prints(_TABLES[who], domain_id).limit(1)).first() is not None for who in BOTH
    )


def _exchange(connection: Connection, tables: _Tables, domain_id: str) -> None:
    # Sealed bytes are bound to the person, the model's id and the template space, which are exchanged with
    # them.
    prints, shadows, name = tables.prints, tables.shadows, tables.key.name
    people = _shadows(tables, domain_id).where(shadows.c.vector_sealed.is_not(None))
    of_print, of_shadow = prints.c[name], shadows.c[name]

    def value_in(table: Table, column: Column[Any], of: Column[Any], matching: Column[Any]) -> Any:
        return select(table.c[column.name]).where(of == matching).scalar_subquery()

    connection.execute(
        update(shadows)
        .where(of_shadow.in_(people))
        .values(
            other_model_id=value_in(prints, prints.c.model_id, of_print, of_shadow),
            other_vector_sealed=value_in(prints, prints.c.vector_sealed, of_print, of_shadow),
            other_template_version=value_in(prints, prints.c.template_version, of_print, of_shadow),
        )
    )
    connection.execute(
        update(prints)
        .where(of_print.in_(people))
        .values(
            model_id=value_in(shadows, shadows.c.model_id, of_shadow, of_print),
            vector_sealed=value_in(shadows, shadows.c.vector_sealed, of_shadow, of_print),
            template_version=value_in(shadows, shadows.c.template_version, of_shadow, of_print),
        )
    )
    connection.execute(
        update(shadows)
        .where(shadows.c.other_model_id.is_not(None), of_shadow.in_(people))
        .values(
            model_id=shadows.c.other_model_id,
            vector_sealed=shadows.c.other_vector_sealed,
            template_version=shadows.c.other_template_version,
            other_model_id=None,
            other_vector_sealed=None,
            other_template_version=None,
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
