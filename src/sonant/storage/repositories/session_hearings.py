"""Reads and writes voice samples of sessions' streams, sealed, and the latest results."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, select

from sonant.storage.crypto.vault import SpeakerSeal
from sonant.storage.database.rows import first_row, put
from sonant.storage.database.schema import session_hearings, session_results
from sonant.storage.repositories.sessions import Session
from sonant.storage.times import from_us, to_us

AUTHENTICATION, FRAUD = "AUTHENTICATION", "FRAUD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hearing:
    """A voice sample of a part of a stream. `vector` is little-endian float32, `audio` FLAC."""

    purpose: str
    stream: int
    started_at: datetime
    ended_at: datetime
    net_speech_s: float
    snr_db: float
    model_id: str
    vector: bytes
    fingerprint: bytes | None = None
    audio: bytes | None = None
    spoofing_score: int | None = None
    """None: not searched for, or not enough speech."""
    spoofing_evidence: str | None = None
    highpass_300hz: bool = False
    """Whether the line cut off below 300 Hz."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A result that was returned; the same `basis` returns it again."""

    basis: str
    result_id: str
    document: str


_RESULT = select(session_results.c.basis, session_results.c.result_id, session_results.c.document).where(
    session_results.c.session_id == bindparam("of_session"),
    session_results.c.purpose == bindparam("of_purpose"),
)
_EXISTS = select(session_hearings.c.purpose).where(
    session_hearings.c.session_id == bindparam("of_session"),
    session_hearings.c.purpose == bindparam("of_purpose"),
    session_hearings.c.stream == bindparam("of_stream"),
)


def save_hearing(connection: Connection, seal: SpeakerSeal, session_id: str, hearing: Hearing) -> None:
    """Store a voice sample in place of the one of the same purpose."""
    put(
        connection,
        session_hearings,
        {
            "session_id": session_id,
            "purpose": hearing.purpose,
            "stream": hearing.stream,
            "started_at": to_us(hearing.started_at),
            "ended_at": to_us(hearing.ended_at),
            "net_speech_s": hearing.net_speech_s,
            "snr_db": hearing.snr_db,
            "low_cut": hearing.highpass_300hz,
            "model_id": hearing.model_id,
            "vector_sealed": seal.seal("vector", hearing.vector),
            "fingerprint_sealed": _sealed(seal, "fingerprint", hearing.fingerprint),
            "audio_sealed": _sealed(seal, "audio", hearing.audio),
            "spoofing_score": hearing.spoofing_score,
            "spoofing_evidence": hearing.spoofing_evidence,
        },
        replace=True,
    )


def hearings(connection: Connection, seal: SpeakerSeal, session: Session) -> dict[str, Hearing]:
    """Return the voice samples of the session's present stream by purpose. Raises SealBroken."""
    query = select(session_hearings).where(
        session_hearings.c.session_id == session.session_id, session_hearings.c.stream == session.stream
    )
    found = {}
    for row in connection.execute(query):
        found[row.purpose] = Hearing(
            purpose=row.purpose,
            stream=row.stream,
            started_at=from_us(row.started_at),
            ended_at=from_us(row.ended_at),
            net_speech_s=row.net_speech_s,
            snr_db=row.snr_db,
            highpass_300hz=row.low_cut,
            model_id=row.model_id,
            vector=seal.open("vector", row.vector_sealed),
            fingerprint=_opened(seal, "fingerprint", row.fingerprint_sealed),
            audio=_opened(seal, "audio", row.audio_sealed),
            spoofing_score=row.spoofing_score,
            spoofing_evidence=row.spoofing_evidence,
        )
    return found


def has_hearing(connection: Connection, session: Session, purpose: str) -> bool:
    """Return whether the present stream has a voice sample for a purpose. Opens nothing."""
    wanted = {"of_session": session.session_id, "of_purpose": purpose, "of_stream": session.stream}
    return first_row(connection, _EXISTS, wanted) is not None


def windows(connection: Connection, session: Session) -> dict[str, tuple[datetime, datetime]]:
    """Return start and end of the present stream's voice samples by purpose. Opens nothing."""
    query = select(session_hearings.c.purpose, session_hearings.c.started_at, session_hearings.c.ended_at)
    query = query.where(
        session_hearings.c.session_id == session.session_id, session_hearings.c.stream == session.stream
    )
    return {
        row.purpose: (from_us(row.started_at), from_us(row.ended_at)) for row in connection.execute(query)
    }


def result(connection: Connection, session_id: str, purpose: str) -> Result | None:
    """Return the latest result for a purpose, or None."""
    row = first_row(connection, _RESULT, {"of_session": session_id, "of_purpose": purpose})
    return None if row is None else Result(**row)


def save_result(connection: Connection, session_id: str, purpose: str, result: Result) -> None:
    """Store a result in place of the one of the same purpose."""
    values = {
        "session_id": session_id,
        "purpose": purpose,
        "basis": result.basis,
        "result_id": result.result_id,
        "document": result.document,
    }
    put(connection, session_results, values, replace=True)


def _sealed(seal: SpeakerSeal, kind: str, data: bytes | None) -> bytes | None:
    return None if data is None else seal.seal(kind, data)


def _opened(seal: SpeakerSeal, kind: str, sealed: bytes | None) -> bytes | None:
    return None if sealed is None else seal.open(kind, sealed)
