"""What was heard of sessions' streams, sealed, and the results that were given on it: rows in and out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, select

from sonant.storage.crypto.vault import SpeakerSeal
from sonant.storage.database.engine import first_row
from sonant.storage.database.rows import put
from sonant.storage.database.schema import session_hearings, session_results
from sonant.storage.repositories.sessions import Session
from sonant.storage.repositories.voice_samples import open_sample, sample_values
from sonant.storage.times import from_us, to_us
from sonant.voice.sample import VoiceSample

AUTHENTICATION, FRAUD = "AUTHENTICATION", "FRAUD"
#: What a sealed vector is bound to beside the session.
_VECTOR = "vector"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSample:
    """The voice sample of a stretch of a session's stream, made for one purpose."""

    purpose: str
    stream: int
    started_at: datetime
    ended_at: datetime
    sample: VoiceSample
    fingerprint: bytes | None = None
    audio: bytes | None = None
    """FLAC of the speech used; None where none is stored."""
    spoofing_score: int | None = None
    """None: no detector ran, or there was too little speech."""
    spoofing_evidence: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A result that was given; the same `basis` gives it again."""

    basis: str
    result_id: str
    document: str


_RESULT = select(session_results.c.basis, session_results.c.result_id, session_results.c.document).where(
    session_results.c.session_id == bindparam("of_session"),
    session_results.c.purpose == bindparam("of_purpose"),
)
_HEARD = select(session_hearings.c.purpose).where(
    session_hearings.c.session_id == bindparam("of_session"),
    session_hearings.c.purpose == bindparam("of_purpose"),
    session_hearings.c.stream == bindparam("of_stream"),
)


def save_hearing(connection: Connection, seal: SpeakerSeal, session_id: str, hearing: SessionSample) -> None:
    """In place of the one of the same purpose."""
    put(
        connection,
        session_hearings,
        {
            "session_id": session_id,
            "purpose": hearing.purpose,
            "stream": hearing.stream,
            "started_at": to_us(hearing.started_at),
            "ended_at": to_us(hearing.ended_at),
            **sample_values(seal, hearing.sample, session_hearings, place=_VECTOR),
            "fingerprint_sealed": _sealed(seal, "fingerprint", hearing.fingerprint),
            "audio_sealed": _sealed(seal, "audio", hearing.audio),
            "spoofing_score": hearing.spoofing_score,
            "spoofing_evidence": hearing.spoofing_evidence,
        },
        replace=True,
    )


def hearings(connection: Connection, seal: SpeakerSeal, session: Session) -> dict[str, SessionSample]:
    """What was heard in the session's current stream, by purpose. Raises SealBroken."""
    query = select(session_hearings).where(
        session_hearings.c.session_id == session.session_id, session_hearings.c.stream == session.stream
    )
    found = {}
    for row in connection.execute(query).mappings():
        found[row["purpose"]] = SessionSample(
            purpose=row["purpose"],
            stream=row["stream"],
            started_at=from_us(row["started_at"]),
            ended_at=from_us(row["ended_at"]),
            sample=open_sample(seal, row, place=_VECTOR),
            fingerprint=_opened(seal, "fingerprint", row["fingerprint_sealed"]),
            audio=_opened(seal, "audio", row["audio_sealed"]),
            spoofing_score=row["spoofing_score"],
            spoofing_evidence=row["spoofing_evidence"],
        )
    return found


def was_heard(connection: Connection, session: Session, purpose: str) -> bool:
    """Whether there is a hearing of the current stream for a purpose; opens nothing."""
    place = {"of_session": session.session_id, "of_purpose": purpose, "of_stream": session.stream}
    return first_row(connection, _HEARD, place) is not None


def windows(connection: Connection, session: Session) -> dict[str, tuple[datetime, datetime]]:
    """First and last moment of what was heard in the current stream, by purpose; opens nothing."""
    query = select(session_hearings.c.purpose, session_hearings.c.started_at, session_hearings.c.ended_at)
    query = query.where(
        session_hearings.c.session_id == session.session_id, session_hearings.c.stream == session.stream
    )
    return {
        row.purpose: (from_us(row.started_at), from_us(row.ended_at)) for row in connection.execute(query)
    }


def result(connection: Connection, session_id: str, purpose: str) -> Result | None:
    """The latest result for a purpose."""
    row = first_row(connection, _RESULT, {"of_session": session_id, "of_purpose": purpose})
    return None if row is None else Result(**row)


def save_result(connection: Connection, session_id: str, purpose: str, result: Result) -> None:
    values = {
        "session_id": session_id,
        "purpose": purpose,
        "basis": result.basis,
        "result_id": result.result_id,
        "document": result.document,
    }
    put(connection, session_results, values, replace=True)


def _sealed(seal: SpeakerSeal, place: str, data: bytes | None) -> bytes | None:
    return None if data is None else seal.seal(place, data)


def _opened(seal: SpeakerSeal, place: str, sealed: bytes | None) -> bytes | None:
    return None if sealed is None else seal.open(place, sealed)
