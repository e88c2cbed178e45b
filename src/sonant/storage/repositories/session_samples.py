"""Reads and writes voice samples of sessions' streams, sealed, and the latest results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, bindparam, func, select

from sonant.storage.crypto.template_spaces import TemplateSpaces
from sonant.storage.crypto.vault import SpeakerSeal
from sonant.storage.database.bound_connection import unverified
from sonant.storage.database.rows import first_row, put
from sonant.storage.database.schema import session_hearings, session_results
from sonant.storage.repositories import templates
from sonant.storage.repositories.sessions import Session
from sonant.storage.repositories.voice_samples import open_sample, sample_values, vector_context
from sonant.storage.times import from_us, to_us
from sonant.voice.sample import VoiceSample

AUTHENTICATION, FRAUD = "AUTHENTICATION", "FRAUD"
LATER_FRAUD = "LATER_FRAUD"
"""Of speech that was analyzed to enroll the caller, and found to be of a high risk."""
#: Uses of sealed vectors (`voice_samples.vector_context`).
VECTOR, PARTS = "vector", "parts"
_HOUR_US = 3_600_000_000
#: What sealed results are bound to beside the session, with their purpose and id.
_EXACT = "exact result"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSample:
    """The voice sample of a part of a session's stream, made for one purpose."""

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
    parts: tuple[VoiceSample, ...] = ()
    """Samples of parts of the speech: for authentication its halves and thirds, for fraud detection each of
    several voices. They share the quality of `sample`, except for the amount of speech."""


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """The decision of a result, by which calls are found and counted."""

    decision: str
    reasons: tuple[str, ...] = ()
    """Why it is a high risk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A result that was returned; the same `basis` returns it again."""

    basis: str
    result_id: str
    document: str
    """What everybody may be told."""
    exact: str | None = None
    """The same with exact scores; None where `document` has them, or they are no longer stored."""
    decision: StoredDecision | None = None
    """Set to store a result; not read again with it."""


_RESULT = select(
    session_results.c.basis,
    session_results.c.result_id,
    session_results.c.document,
    session_results.c.exact_sealed,
).where(
    session_results.c.session_id == bindparam("of_session"),
    session_results.c.purpose == bindparam("of_purpose"),
)
_OF_STREAM = select(session_hearings).where(
    session_hearings.c.session_id == bindparam("of_session"),
    session_hearings.c.stream == bindparam("of_stream"),
)
_EXISTS = unverified(
    select(session_hearings.c.purpose).where(
        session_hearings.c.session_id == bindparam("of_session"),
        session_hearings.c.purpose == bindparam("of_purpose"),
        session_hearings.c.stream == bindparam("of_stream"),
    ),
    "`load_samples` checks what a decision reads",
)


def save_sample(connection: Connection, seal: SpeakerSeal, session_id: str, speech: SessionSample) -> None:
    """Store a voice sample in place of the one of the same purpose, in the domain's template space."""
    spaces = templates.open_spaces(connection, seal.templates)
    put(
        connection,
        session_hearings,
        {
            "session_id": session_id,
            "purpose": speech.purpose,
            "stream": speech.stream,
            "started_at": to_us(speech.started_at),
            "ended_at": to_us(speech.ended_at),
            **sample_values(seal, spaces, speech.sample, session_hearings, use=VECTOR),
            "fingerprint_sealed": _sealed(seal, "fingerprint", speech.fingerprint),
            "audio_sealed": _sealed(seal, "audio", speech.audio),
            "spoofing_score": speech.spoofing_score,
            "spoofing_evidence": speech.spoofing_evidence,
            "parts_sealed": seal_parts(seal, spaces, speech.parts),
        },
        replace=True,
    )


def load_samples(connection: Connection, seal: SpeakerSeal, session: Session) -> dict[str, SessionSample]:
    """Return the voice samples of the session's present stream by purpose, in the domain's template space.

    Raises SealBroken.
    """
    spaces = templates.open_spaces(connection, seal.templates)
    wanted = {"of_session": session.session_id, "of_stream": session.stream}
    found = {}
    for row in connection.execute(_OF_STREAM, wanted).mappings():
        sample = open_sample(seal, spaces, row, use=VECTOR)
        found[row["purpose"]] = SessionSample(
            purpose=row["purpose"],
            stream=row["stream"],
            started_at=from_us(row["started_at"]),
            ended_at=from_us(row["ended_at"]),
            sample=sample,
            fingerprint=_opened(seal, "fingerprint", row["fingerprint_sealed"]),
            audio=_opened(seal, "audio", row["audio_sealed"]),
            spoofing_score=row["spoofing_score"],
            spoofing_evidence=row["spoofing_evidence"],
            parts=open_parts(seal, spaces, row, sample),
        )
    return found


def has_sample(connection: Connection, session: Session, purpose: str) -> bool:
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


def result(
    connection: Connection, session_id: str, purpose: str, seal: Callable[[], SpeakerSeal] | None = None
) -> Result | None:
    """Return the latest result for a purpose, or None; exact only with a `seal`, which opens the session's
    key. Raises SealBroken."""
    row = first_row(connection, _RESULT, {"of_session": session_id, "of_purpose": purpose})
    if row is None:
        return None
    sealed = row.pop("exact_sealed")
    if sealed is None or seal is None:
        return Result(**row)
    exact = seal().open(_exact_kind(purpose, row["result_id"]), sealed).decode()
    return Result(**row, exact=exact)


def save_result(
    connection: Connection, seal: SpeakerSeal, session: Session, purpose: str, result: Result, now: datetime
) -> None:
    """Store a result in place of the one of the same purpose; exact scores are sealed."""
    sealed, decision = None, result.decision
    if result.exact is not None and result.exact != result.document:
        sealed = seal.seal(_exact_kind(purpose, result.result_id), result.exact.encode())
    values = {
        "session_id": session.session_id,
        "purpose": purpose,
        "basis": result.basis,
        "result_id": result.result_id,
        "document": result.document,
        "exact_sealed": sealed,
        "domain_id": session.domain_id,
        "decided_at": to_us(now),
        "decision": None if decision is None else decision.decision,
        "reasons": None if decision is None else ",".join(decision.reasons),
    }
    put(connection, session_results, values, replace=True)


def decisions(connection: Connection, session_ids: Sequence[str]) -> dict[str, dict[str, StoredDecision]]:
    """Return the latest decisions of sessions, by session and purpose."""
    columns = session_results.c
    query = select(columns.session_id, columns.purpose, columns.decision, columns.reasons).where(
        columns.session_id.in_(session_ids), columns.decision.is_not(None)
    )
    found: dict[str, dict[str, StoredDecision]] = {}
    for row in connection.execute(unverified(query, "is shown; EvaluateSession checks what it answers")):
        reasons = tuple(filter(None, (row.reasons or "").split(",")))
        found.setdefault(row.session_id, {})[row.purpose] = StoredDecision(row.decision, reasons)
    return found


def decided_at(connection: Connection, session_id: str) -> dict[str, int | None]:
    """Return when the latest results of a session were made, in microseconds since 1970, by purpose."""
    columns = session_results.c
    query = select(columns.purpose, columns.decided_at).where(columns.session_id == session_id)
    rows = connection.execute(unverified(query, "is shown"))
    return {row.purpose: row.decided_at for row in rows}


@dataclass(frozen=True, slots=True)
class DecisionCount:
    """How many calls had a decision as their last one, in one hour."""

    hour: int
    """Hours since 1970."""
    purpose: str
    decision: str
    reasons: tuple[str, ...]
    calls: int


def decisions_by_hour(connection: Connection, domain_id: str, since: datetime) -> list[DecisionCount]:
    """Count the latest decisions of a domain's calls since the beginning of an hour, by hour.

    One range of the index for each decision and hour: grouping a million rows would take seconds.
    """
    columns = session_results.c
    counted = select(columns.reasons, func.count().label("calls")).where(
        columns.domain_id == domain_id,
        columns.purpose == bindparam("of_purpose"),
        columns.decision == bindparam("of_decision"),
        columns.decided_at >= bindparam("begin_us"),
        columns.decided_at < bindparam("end_us"),
    )
    with_reasons = unverified(counted.group_by(columns.reasons), "a count that is shown")
    plain = unverified(counted.with_only_columns(func.count().label("calls")), "a count that is shown")
    latest = select(func.max(columns.decided_at)).where(columns.domain_id == domain_id)
    found: list[DecisionCount] = []
    for purpose, decision in _DECISIONS:
        wanted = {"of_purpose": purpose, "of_decision": decision}
        last_us = connection.execute(
            unverified(
                latest.where(columns.purpose == purpose, columns.decision == decision), "where counting ends"
            )
        ).scalar_one()
        for hour in range(to_us(since) // _HOUR_US, (last_us or 0) // _HOUR_US + 1):
            limits = {**wanted, "begin_us": hour * _HOUR_US, "end_us": (hour + 1) * _HOUR_US}
            for row in connection.execute(with_reasons if decision == "HIGH_RISK" else plain, limits):
                reasons = row.reasons if decision == "HIGH_RISK" else ""
                split = tuple(filter(None, (reasons or "").split(",")))
                if row.calls:
                    found.append(DecisionCount(hour, purpose, decision, split, row.calls))
    return found


_VOICE_DECISIONS = (
    "ACCEPT",
    "REJECT",
    "NOT_ENOUGH_SPEECH",
    "SPEAKER_NOT_ENROLLED",
    "SPEAKER_OPTED_OUT",
    "SPEAKER_ID_NOT_PROVIDED",
    "SPEAKER_EXPIRED",
)
#: Every decision, by purpose.
_DECISIONS = (
    *((AUTHENTICATION, name) for name in _VOICE_DECISIONS),
    *((FRAUD, name) for name in ("HIGH_RISK", "LOW_RISK", "NOT_ENOUGH_SPEECH")),
)


def _exact_kind(purpose: str, result_id: str) -> str:
    return f"{_EXACT}|{purpose}|{result_id}"


def seal_parts(seal: SpeakerSeal, spaces: TemplateSpaces, parts: Sequence[VoiceSample]) -> bytes | None:
    """Seal each part's seconds of speech and its vector in the present space; little-endian float32."""
    if not parts:
        return None
    rows = [np.concatenate([[part.quality.net_speech_s], spaces.protect(part).vector]) for part in parts]
    context = vector_context(parts[0].model_id, spaces.present, use=PARTS)
    return seal.seal(context, np.stack(rows).astype("<f4").tobytes())


def open_parts(
    seal: SpeakerSeal, spaces: TemplateSpaces, row: Mapping[Any, Any], whole: VoiceSample
) -> tuple[VoiceSample, ...]:
    """Open the parts of a row, whose own sample is `whole`. Raises SealBroken."""
    if row["parts_sealed"] is None:
        return ()
    version = row["template_version"]
    data = seal.open(vector_context(whole.model_id, version, use=PARTS), row["parts_sealed"])
    rows = np.frombuffer(data, "<f4").reshape(-1, 1 + len(whole.vector))
    return tuple(
        spaces.sample_of_row(
            whole.model_id,
            one[1:].tobytes(),
            version,
            replace(whole.quality, net_speech_s=float(one[0])),
        )
        for one in rows
    )


def _sealed(seal: SpeakerSeal, kind: str, data: bytes | None) -> bytes | None:
    return None if data is None else seal.seal(kind, data)


def _opened(seal: SpeakerSeal, kind: str, sealed: bytes | None) -> bytes | None:
    return None if sealed is None else seal.open(kind, sealed)
