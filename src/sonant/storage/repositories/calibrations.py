"""An installation's own calibrations: two numbers each and the evidence for them. No biometric data.

The newest one of a domain is used, else the newest of the installation, else that of the voice model. `undo`
deletes the newest, so that the one before it is used again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, bindparam, delete, func, insert, select

from sonant.storage.database.rows import first_row
from sonant.storage.database.schema import calibrations, repeated_enrollments
from sonant.storage.times import from_us, to_us


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCalibration:
    """A calibration; its fields are those of `voice.calibration.Calibration` of the same names."""

    model_id: str
    shift: float
    scale: float
    supported_log10_far: float
    evidence: dict[str, Any]
    """Speakers, comparisons and source of the fit, for display."""
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatedEnrollment:
    """Similarity of two enrollments of one speaker; speech and noise are those of the later one."""

    similarity: float
    speech_s: float
    snr_db: float


def add_repeated_enrollment(
    connection: Connection, domain_id: str, model_id: str, repeated: RepeatedEnrollment, now: datetime
) -> None:
    connection.execute(
        insert(repeated_enrollments).values(
            domain_id=domain_id,
            model_id=model_id,
            similarity=repeated.similarity,
            speech_s=repeated.speech_s,
            snr_db=repeated.snr_db,
            created_at=to_us(now),
        )
    )


def delete_old_repeated_enrollments(connection: Connection, keep: int) -> int:
    """Delete all but the newest `keep` of each domain and voice model; return how many."""
    kinds = select(
        repeated_enrollments.c.domain_id, repeated_enrollments.c.model_id, func.count().label("present")
    ).group_by(repeated_enrollments.c.domain_id, repeated_enrollments.c.model_id)
    deleted = 0
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
        deleted += kind.present - keep
    return deleted


def list_repeated_enrollments(
    connection: Connection, domain_id: str, model_id: str, limit: int
) -> list[RepeatedEnrollment]:
    """Return the newest of a domain, newest first."""
    query = (
        select(repeated_enrollments)
        .where(repeated_enrollments.c.domain_id == domain_id, repeated_enrollments.c.model_id == model_id)
        .order_by(repeated_enrollments.c.sequence.desc())
        .limit(limit)
    )
    return [
        RepeatedEnrollment(similarity=row.similarity, speech_s=row.speech_s, snr_db=row.snr_db)
        for row in connection.execute(query)
    ]


_NEWEST = (
    select(calibrations)
    .where(calibrations.c.model_id == bindparam("of_model"))
    .order_by(calibrations.c.sequence.desc())
    .limit(1)
)
_NEWEST_OF_DOMAIN = _NEWEST.where(calibrations.c.domain_id == bindparam("of_domain"))
_NEWEST_OF_ALL = _NEWEST.where(calibrations.c.domain_id.is_(None))


def find(connection: Connection, domain_id: str | None, model_id: str) -> OwnCalibration | None:
    """Return the calibration to use for a domain, or for the installation when `domain_id` is None."""
    row = None
    if domain_id is not None:
        row = first_row(connection, _NEWEST_OF_DOMAIN, {"of_domain": domain_id, "of_model": model_id})
    if row is None:
        row = first_row(connection, _NEWEST_OF_ALL, {"of_model": model_id})
    return None if row is None else _calibration(row)


def history(connection: Connection, domain_id: str | None, model_id: str) -> list[OwnCalibration]:
    """Return all of a domain, or of the installation, newest first."""
    return [_calibration(row) for row in connection.execute(_newest(domain_id, model_id)).mappings()]


def domains_with(connection: Connection, model_id: str) -> list[str]:
    """Return the ids of domains with an own calibration of a voice model."""
    query = select(calibrations.c.domain_id).where(
        calibrations.c.model_id == model_id, calibrations.c.domain_id.is_not(None)
    )
    return sorted(set(connection.execute(query).scalars()))


def add(connection: Connection, domain_id: str | None, calibration: OwnCalibration) -> None:
    """Store a calibration of a domain, or of the installation."""
    connection.execute(
        insert(calibrations).values(
            domain_id=domain_id,
            model_id=calibration.model_id,
            shift=calibration.shift,
            scale=calibration.scale,
            supported_log10_far=calibration.supported_log10_far,
            evidence=json.dumps(calibration.evidence),
            created_at=to_us(calibration.created_at),
        )
    )


def undo(connection: Connection, domain_id: str | None, model_id: str) -> bool:
    """Delete the newest of a domain, or of the installation, and return whether there was one."""
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


def _calibration(row: Mapping[Any, Any]) -> OwnCalibration:
    return OwnCalibration(
        model_id=row["model_id"],
        shift=row["shift"],
        scale=row["scale"],
        supported_log10_far=row["supported_log10_far"],
        evidence=json.loads(row["evidence"]),
        created_at=from_us(row["created_at"]),
    )
