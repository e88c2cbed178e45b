"""The latest decisions of a session, as DescribeSession shows them: nothing is decided anew."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from sonant.sessions.decisions import Authentication, DecisionRecord, FraudDetection
from sonant.storage.repositories import session_samples
from sonant.storage.repositories.session_samples import AUTHENTICATION, FRAUD
from sonant.storage.times import from_us


def latest_decisions(connection: Connection, session_id: str) -> dict[str, Any]:
    """Return the members of the latest decisions; None for those that were not made. Scores are bands."""
    times = session_samples.decided_at(connection, session_id)
    return {
        "LatestAuthentication": _authentication(connection, session_id, times),
        "LatestFraudDetection": _fraud(connection, session_id, times),
    }


def _authentication(
    connection: Connection, session_id: str, times: Mapping[str, int | None]
) -> dict[str, Any] | None:
    stored = session_samples.result(connection, session_id, AUTHENTICATION)
    if stored is None:
        return None
    made = Authentication(**json.loads(stored.document))
    return {
        "Decision": made.decision,
        "Score": made.score,
        "AcceptanceThreshold": made.threshold,
        **_times(made, times.get(AUTHENTICATION)),
    }


def _fraud(connection: Connection, session_id: str, times: Mapping[str, int | None]) -> dict[str, Any] | None:
    stored = session_samples.result(connection, session_id, FRAUD)
    if stored is None:
        return None
    made = FraudDetection(**json.loads(stored.document))
    return {
        "Decision": made.decision,
        "Reasons": list(made.reasons) or None,
        "RiskThreshold": made.threshold,
        "KnownFraudsterScore": made.known_score,
        "GeneratedFraudsterId": made.fraudster_id,
        "VoiceSpoofingScore": made.spoofing_score,
        "WatchlistId": made.watchlist_id,
        **_times(made, times.get(FRAUD)),
    }


def _times(made: DecisionRecord, decided_us: int | None) -> dict[str, Any]:
    moments = {
        "AudioStartedAt": made.started_us,
        "AudioEndedAt": made.ended_us,
        "DecidedAt": decided_us,
    }
    return {name: None if at is None else from_us(at) for name, at in moments.items()}
