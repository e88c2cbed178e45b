"""An installation's own calibrations: two numbers each and the evidence for them. No biometric data.

The newest one of a domain counts, else the newest of the whole installation, else what ships with the voice
model. Undoing removes the newest, so that the one before it counts again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, delete, func, insert, select

from sonant.storage.database.schema import calibrations, repeated_enrollments
from sonant.storage.times import from_us, to_us


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCalibration:
    """See `voice.calibration.Calibration`, whose fields of the same names these are."""

    model_id: str
    shift: float
    scale: float
    supported_log10_far: float
    evidence: dict[str, Any]
    """What it was fitted on, for people to read: speakers, comparisons, source."""
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition:
    """How alike two enrollments of one speaker were; of the later one, speech and noise."""

    similarity: float
    speech_s: float
    snr_db: float


def note_repetition(
    connection: Connection, domain_id: str, model_id: str, repetition: Repetition, now: datetime
) -> None:
    connection.execute(
        insert(repeated_enrollments).values(
            domain_id=domain_id,
            model_id=model_id,
            similarity=repetition.similarity,
            speech_s=repetition.speech_s,
            snr_db=repetition.snr_db,
            created_at=to_us(now),
        )
    )


def forget_repetitions(connection: Connection, keep: int) -> int:
    """All but the newest of each domain and voice model; how many were forgotten."""
    kinds = select(
        repeated_enrollments.c.domain_id, repeated_enrollments.c.model_id, func.count().label("present")
    ).group_by(repeated_enrollments.c.domain_id, repeated_enrollments.c.model_id)
    gone = 0
    for kind in connection.execute(kinds.having(func.count() > keep)).all():
        of_kind = (
            repeated_enrollments.c.domain_id == kind.domain_id,
            repeated_enrollments.c.model_id == kind.model_id,
        )
        newest = select(repeated_enrollments.c.sequence).where(*of_kind)
        oldest_kept = connection.execute(
            newest.order_by(repeated_enrollments.c.sequence.desc()).limit(1).offset(keep - 1)
        ).scalar_one()
        connection.execute(
            delete(repeated_enrollments).where(*of_kind, repeated_enrollments.c.sequence < oldest_kept)
        )
        gone += kind.present - keep
    return gone


def repetitions(connection: Connection, domain_id: str, model_id: str, limit: int) -> list[Repetition]:
    """The latest of a domain."""
    query = (
        select(repeated_enrollments)
        .where(repeated_enrollments.c.domain_id == domain_id, repeated_enrollments.c.model_id == model_id)
        .order_by(repeated_enrollments.c.sequence.desc())
        .limit(limit)
    )
    return [
        Repetition(similarity=row.similarity, speech_s=row.speech_s, snr_db=row.snr_db)
        for row in connection.execute(query)
    ]


def find(connection: Connection, domain_id: str | None, model_id: str) -> OwnCalibration | None:
    """The one that counts for a domain, or for the installation when `domain_id` is None."""
    for place in dict.fromkeys((domain_id, None)):
        row = connection.execute(_newest(place, model_id).limit(1)).mappings().first()
        if row is not None:
            return _calibration(row)
    return None


def history(connection: Connection, domain_id: str | None, model_id: str) -> list[OwnCalibration]:
    """All of a domain, or of the installation, newest first."""
    return [_calibration(row) for row in connection.execute(_newest(domain_id, model_id)).mappings()]


def domains_with(connection: Connection, model_id: str) -> list[str]:
    """Domains with an own calibration of a voice model."""
    query = select(calibrations.c.domain_id).where(
        calibrations.c.model_id == model_id, calibrations.c.domain_id.is_not(None)
    )
    return sorted(set(connection.execute(query).scalars()))


def add(connection: Connection, domain_id: str | None, made: OwnCalibration) -> None:
    connection.execute(
        insert(calibrations).values(
            domain_id=domain_id,
            model_id=made.model_id,
            shift=made.shift,
            scale=made.scale,
            supported_log10_far=made.supported_log10_far,
            evidence=json.dumps(made.evidence),
            created_at=to_us(made.created_at),
        )
    )


def undo(connection: Connection, domain_id: str | None, model_id: str) -> bool:
    """Remove the newest of a domain, or of the installation; whether there was one."""
    row = connection.execute(_newest(domain_id, model_id).limit(1)).mappings().first()
    if row is None:
        return False
    connection.execute(delete(calibrations).where(calibrations.c.sequence == row["sequence"]))
    return True


def _newest(domain_id: str | None, model_id: str) -> Select[Any]:
    return (
        select(calibrations)
        .where(calibrations.c.domain_id.is_not_distinct_from(domain_id), calibrations.c.model_id == model_id)
        .order_by(calibrations.c.sequence.desc())
    )


def _calibration(row: RowMapping) -> OwnCalibration:
    return OwnCalibration(
        model_id=row["model_id"],
        shift=row["shift"],
        scale=row["scale"],
        supported_log10_far=row["supported_log10_far"],
        evidence=json.loads(row["evidence"]),
        created_at=from_us(row["created_at"]),
    )
