"""Decisions on a caller: pure functions of a session, its speaker's status, and what scores say.

A `basis` says what a result rests on. As long as it stays the same the same result is given again: a new
stream, another threshold, another speaker or status of the speaker, or another watchlist change it; what is
enrolled or registered meanwhile does not. That there is not enough speech yet is a result with a basis of its
own (`before_speech`), which more speech changes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal, Self

from sonant.jobs.fraud import KNOWN_FRAUDSTER, SPOOFING, Risk
from sonant.storage.repositories.session_hearings import SessionSample
from sonant.storage.repositories.sessions import Session
from sonant.storage.times import from_us, to_us

AuthenticationDecision = Literal[
    "ACCEPT",
    "REJECT",
    "NOT_ENOUGH_SPEECH",
    "SPEAKER_NOT_ENROLLED",
    "SPEAKER_OPTED_OUT",
    "SPEAKER_ID_NOT_PROVIDED",
    "SPEAKER_EXPIRED",
]
FraudDecision = Literal["HIGH_RISK", "LOW_RISK", "NOT_ENOUGH_SPEECH"]

#: Reasons of a high risk in the order in which they are given, with the risk that each is about.
REASONS = (("KNOWN_FRAUDSTER", KNOWN_FRAUDSTER), ("VOICE_SPOOFING", SPOOFING))


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a result says, in a form that can be kept."""

    decision: str
    threshold: int
    started_us: int | None = None
    """Of the speech that it rests on, like `ended_us`; None before there is enough."""
    ended_us: int | None = None

    @property
    def final(self) -> bool:
        """It is not made again until its basis changes."""
        return self.decision != "NOT_ENOUGH_SPEECH"

    def text(self) -> str:
        """As JSON; no voice and no customer's id in it."""
        return json.dumps(asdict(self))

    @classmethod
    def of_text(cls, text: str) -> Self:
        """What `text` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Authentication(Content):
    """An authentication, without the id of its result and without who the customer says the speaker is."""

    decision: AuthenticationDecision
    score: int | None = None

    def member(self, result_id: str, speaker_id: str | None, customer_id: str | None) -> dict[str, Any]:
        """As EvaluateSession answers it."""
        return {
            "AuthenticationResultId": result_id,
            "Decision": self.decision,
            "Score": self.score,
            "GeneratedSpeakerId": speaker_id,
            "CustomerSpeakerId": customer_id,
            "Configuration": {"AcceptanceThreshold": self.threshold},
            **_window(self.started_us, self.ended_us),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FraudDetection(Content):
    """What was found of known fraudsters and of spoofing, without the id of its result."""

    decision: FraudDecision
    watchlist_id: str
    known_score: int | None = None
    fraudster_id: str | None = None
    spoofing_score: int | None = None

    def member(self, result_id: str) -> dict[str, Any]:
        """As EvaluateSession answers it."""
        told: dict[str, Any] = {
            "FraudDetectionResultId": result_id,
            "Decision": self.decision,
            "Configuration": {"RiskThreshold": self.threshold, "WatchlistId": self.watchlist_id},
            **_window(self.started_us, self.ended_us),
        }
        scores = {KNOWN_FRAUDSTER: self.known_score or 0, SPOOFING: self.spoofing_score or 0}
        if self.decision == "HIGH_RISK":
            told["Reasons"] = [reason for reason, risk in REASONS if scores[risk] >= self.threshold]
        if self.final:
            told["RiskDetails"] = {
                KNOWN_FRAUDSTER: {
                    "RiskScore": scores[KNOWN_FRAUDSTER],
                    "GeneratedFraudsterId": self.fraudster_id,
                },
                SPOOFING: {"RiskScore": scores[SPOOFING]},
            }
        return told


def without_listening(speaker_id: str | None, status: str | None) -> AuthenticationDecision | None:
    """What the session's speaker decides alone; None means that the voice decides. `status` None: there is no
    such speaker (any more)."""
    if speaker_id is None:
        return "SPEAKER_ID_NOT_PROVIDED"
    if status == "OPTED_OUT":
        return "SPEAKER_OPTED_OUT"
    if status in (None, "PENDING"):
        return "SPEAKER_NOT_ENROLLED"
    if status == "EXPIRED":
        return "SPEAKER_EXPIRED"
    return None


def authenticated(threshold: int, score: int, hearing: SessionSample) -> Authentication:
    """At or above the threshold is accepted (AWS docs, flow block Check Voice ID)."""
    return Authentication(
        decision="ACCEPT" if score >= threshold else "REJECT",
        threshold=threshold,
        score=score,
        started_us=to_us(hearing.started_at),
        ended_us=to_us(hearing.ended_at),
    )


def fraud_detected(
    threshold: int, watchlist_id: str, risks: Sequence[Risk], hearing: SessionSample
) -> FraudDetection:
    """High when one of the risks is at or above the threshold. A risk that was not looked for is 0."""
    by_name = {risk.name: risk for risk in risks}
    known, spoofing = by_name.get(KNOWN_FRAUDSTER), by_name.get(SPOOFING)
    scores = [0 if risk is None else risk.score for risk in (known, spoofing)]
    return FraudDetection(
        decision="HIGH_RISK" if max(scores) >= threshold else "LOW_RISK",
        threshold=threshold,
        watchlist_id=watchlist_id,
        known_score=scores[0],
        fraudster_id=None if known is None else known.fraudster_id,
        spoofing_score=scores[1],
        started_us=to_us(hearing.started_at),
        ended_us=to_us(hearing.ended_at),
    )


def authentication_basis(session: Session, status: str | None) -> str:
    """See the module. `status` is that of the session's speaker."""
    return json.dumps([session.stream, session.acceptance_threshold, session.speaker_id, status])


def fraud_basis(session: Session, watchlist_id: str) -> str:
    """See the module. `watchlist_id` is the list that counts, the domain's default one if none was named."""
    return json.dumps([session.stream, session.risk_threshold, watchlist_id])


def before_speech(basis: str) -> str:
    """What a result rests on that will be another one, with this basis, when there is enough speech."""
    return f"{basis} NOT_ENOUGH_SPEECH"


def _window(started_us: int | None, ended_us: int | None) -> dict[str, datetime]:
    return {
        name: from_us(moment)
        for name, moment in (
            ("AudioAggregationStartedAt", started_us),
            ("AudioAggregationEndedAt", ended_us),
        )
        if moment is not None
    }
