"""Decide on a caller: pure functions of a session, its speaker's status, and scores.

A `basis` identifies what a result depends on. While it stays the same, EvaluateSession repeats the same
result: a new stream, another threshold, another speaker or status of the speaker, or another watchlist change
it; later enrollments and registrations do not. A result of "not enough speech" has a basis of its own
(`basis_before_speech`), which more speech changes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal, Self

from sonant.jobs.fraud import KNOWN_FRAUDSTER, SPOOFING, Risk
from sonant.storage.repositories.session_samples import SessionSample
from sonant.storage.repositories.sessions import Session
from sonant.storage.times import from_us, to_us
from sonant.voice.disclosure import RISK_BANDS, SCORE_BANDS, coarse_score

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

#: Reasons of a high risk in the order of the response, each with its risk.
REASONS = (("KNOWN_FRAUDSTER", KNOWN_FRAUDSTER), ("VOICE_SPOOFING", SPOOFING))


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """A decision as it is stored. The fields' names are keys of the stored JSON."""

    decision: str
    threshold: int
    started_us: int | None = None
    """Start of the speech that the decision rests on, in microseconds since 1970; None before there is
    enough."""
    ended_us: int | None = None
    """End of that speech."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the decision is a high risk; none for other decisions."""
        return ()

    @property
    def final(self) -> bool:
        """Whether the decision stands until its basis changes."""
        return self.decision != "NOT_ENOUGH_SPEECH"

    def to_json(self) -> str:
        """Serialize; the text holds no voice data and no customer's id."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Authentication(DecisionRecord):
    """An authentication, without its result's id and without the customer's id of the speaker."""

    decision: AuthenticationDecision
    score: int | None = None

    def coarse(self, exact_within: int) -> Self:
        """Return the decision as those get it who may not read exact scores; see `disclosure`."""
        if self.score is None:
            return self
        score = coarse_score(self.score, SCORE_BANDS, threshold=self.threshold, exact_within=exact_within)
        return replace(self, score=score)

    def to_response(self, result_id: str, speaker_id: str | None, customer_id: str | None) -> dict[str, Any]:
        """Build the member of EvaluateSession's response."""
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
class FraudDetection(DecisionRecord):
    """A fraud decision on known fraudsters and spoofing, without its result's id."""

    decision: FraudDecision
    watchlist_id: str
    known_score: int | None = None
    fraudster_id: str | None = None
    spoofing_score: int | None = None

    @property
    def reasons(self) -> tuple[str, ...]:
        if self.decision != "HIGH_RISK":
            return ()
        scores = {KNOWN_FRAUDSTER: self.known_score or 0, SPOOFING: self.spoofing_score or 0}
        return tuple(reason for reason, risk in REASONS if scores[risk] >= self.threshold)

    def coarse(self, exact_within: int) -> Self:
        """Return the decision as those get it who may not read exact scores; see `disclosure`.

        A fraudster whose risk is in the lowest band is no potential match and is not named. The spoofing risk
        says nothing about a stored voice and stays exact.
        """
        if not self.known_score:
            return self
        score = coarse_score(
            self.known_score, RISK_BANDS, threshold=self.threshold, exact_within=exact_within
        )
        return replace(self, known_score=score, fraudster_id=self.fraudster_id if score else None)

    def with_known_fraudster(self, risk: Risk) -> Self:
        """Return the decision by this known-fraudster risk and the same spoofing risk."""
        if (risk.score, risk.fraudster_id) == (self.known_score, self.fraudster_id):
            return self
        greatest = max(risk.score, self.spoofing_score or 0)
        return replace(
            self,
            decision="HIGH_RISK" if greatest >= self.threshold else "LOW_RISK",
            known_score=risk.score,
            fraudster_id=risk.fraudster_id,
        )

    def joined(self, later: FraudDetection) -> Self:
        """Return the decision by the greater risks of this one and of one on other speech of the stream."""
        if not (self.final and later.final):
            return replace(self, decision="NOT_ENOUGH_SPEECH")
        known: FraudDetection = self if (self.known_score or 0) >= (later.known_score or 0) else later
        spoofing = max(self.spoofing_score or 0, later.spoofing_score or 0)
        high = "HIGH_RISK" in (self.decision, later.decision)
        ends = [one.ended_us for one in (self, later) if one.ended_us is not None]
        return replace(
            self,
            decision="HIGH_RISK" if high else "LOW_RISK",
            known_score=known.known_score,
            fraudster_id=known.fraudster_id,
            spoofing_score=spoofing,
            ended_us=max(ends, default=None),
        )

    def to_response(self, result_id: str) -> dict[str, Any]:
        """Build the member of EvaluateSession's response."""
        response: dict[str, Any] = {
            "FraudDetectionResultId": result_id,
            "Decision": self.decision,
            "Configuration": {"RiskThreshold": self.threshold, "WatchlistId": self.watchlist_id},
            **_window(self.started_us, self.ended_us),
        }
        scores = {KNOWN_FRAUDSTER: self.known_score or 0, SPOOFING: self.spoofing_score or 0}
        if self.decision == "HIGH_RISK":
            response["Reasons"] = list(self.reasons)
        if self.final:
            response["RiskDetails"] = {
                KNOWN_FRAUDSTER: {
                    "RiskScore": scores[KNOWN_FRAUDSTER],
                    "GeneratedFraudsterId": self.fraudster_id,
                },
                SPOOFING: {"RiskScore": scores[SPOOFING]},
            }
        return response


def decide_without_speech(speaker_id: str | None, status: str | None) -> AuthenticationDecision | None:
    """Decide by the session's speaker alone; None when speech is needed. `status` None means that the speaker
    does not exist (any more)."""
    if speaker_id is None:
        return "SPEAKER_ID_NOT_PROVIDED"
    if status == "OPTED_OUT":
        return "SPEAKER_OPTED_OUT"
    if status in (None, "PENDING"):
        return "SPEAKER_NOT_ENROLLED"
    if status == "EXPIRED":
        return "SPEAKER_EXPIRED"
    return None


def decide_authentication(threshold: int, score: int, speech: SessionSample) -> Authentication:
    """Accept a score at or above the threshold (AWS docs, flow block Check Voice ID)."""
    return Authentication(
        decision="ACCEPT" if score >= threshold else "REJECT",
        threshold=threshold,
        score=score,
        started_us=to_us(speech.started_at),
        ended_us=to_us(speech.ended_at),
    )


def decide_fraud(
    threshold: int, watchlist_id: str, risks: Sequence[Risk], speech: SessionSample
) -> FraudDetection:
    """Decide HIGH_RISK when a risk is at or above the threshold. A risk that was not scored counts as 0."""
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
        started_us=to_us(speech.started_at),
        ended_us=to_us(speech.ended_at),
    )


def authentication_basis(session: Session, status: str | None) -> str:
    """Identify what an authentication depends on. `status` is that of the session's speaker."""
    return json.dumps([session.stream, session.acceptance_threshold, session.speaker_id, status])


def fraud_basis(session: Session, watchlist_id: str, *, later_finding: bool = False) -> str:
    """Identify what a fraud decision depends on. `watchlist_id` is the list used, the domain's default one if
    the session names none; `later_finding` whether an enrollment from the stream found a high risk."""
    later = ["later finding"] if later_finding else []
    return json.dumps([session.stream, session.risk_threshold, watchlist_id, *later])


def basis_before_speech(basis: str) -> str:
    """Identify the result given until there is enough speech for the result with this basis."""
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
