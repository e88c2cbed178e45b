"""Score fraud risks and decide by them.

Spoofing detectors run in the worker processes: functions from an embedding, the speech that it was made from
and the job's threshold to a Risk. Known fraudsters are searched by the runner, the only process with their
voices. One threshold applies to all risks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sonant.jobs.faults import Refusal
from sonant.voice.calibration.model import Tail
from sonant.voice.disclosure import RISK_BANDS, coarse_score
from sonant.voice.models.embedding import Embedding
from sonant.voice.scoring import known_fraudster_risk
from sonant.voice.search import Match

if TYPE_CHECKING:  # its module needs the database, which worker processes do without
    from sonant.jobs.replay import ReplayMatch

KNOWN_FRAUDSTER, SPOOFING = "KnownFraudsterRisk", "VoiceSpoofingRisk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """A risk: `name` as in the API (KnownFraudsterRisk, VoiceSpoofingRisk), `score` 0-100."""

    name: str
    score: int
    fraudster_id: str | None = None
    """The fraudster whom the voice resembles; for events, never for the sender of the recording."""
    evidence: str | None = None
    """The kind of spoofing, SYNTHETIC_SPEECH or REPLAY; for events."""


#: Returns None for too little speech. Risks below the threshold need not be exact.
Detector = Callable[[Embedding, npt.NDArray[np.float32], int], Risk | None]


def assess(
    detectors: Sequence[Detector],
    embedding: Embedding,
    speech: npt.NDArray[np.float32],
    *,
    risk_threshold: int,
) -> tuple[Risk, ...]:
    """Run all detectors on one voice; `speech` is 8 kHz, mono, -1..1. Gives one risk of each name."""
    found = (detector(embedding, speech, risk_threshold) for detector in detectors)
    return merge_risks(risk for risk in found if risk is not None)


def merge_risks(risks: Iterable[Risk]) -> tuple[Risk, ...]:
    """Keep the greatest risk of each name, in the order in which the names first occur.

    Of equal risks the later one is kept.
    """
    merged: dict[str, Risk] = {}
    for risk in risks:
        if risk.name not in merged or risk.score >= merged[risk.name].score:
            merged[risk.name] = risk
    return tuple(merged.values())


def with_replay(risks: Sequence[Risk], copy: ReplayMatch | None) -> tuple[Risk, ...]:
    """Merge the detectors' risks with that of a replay, which is certain."""
    if copy is None:
        return merge_risks(risks)
    return merge_risks([*risks, Risk(name=SPOOFING, score=100, evidence="REPLAY")])


def known_fraudster(match: Match | None, list_size: int, tail: Tail) -> Risk:
    """Score the most similar of `list_size` fraudsters; 0, without a name, on an empty list."""
    if match is None:
        return Risk(name=KNOWN_FRAUDSTER, score=0)
    score = known_fraudster_risk(match.similarity, list_size, tail)
    return Risk(name=KNOWN_FRAUDSTER, score=score, fraudster_id=match.key if score else None)


def refuse(risks: Sequence[Risk], *, action: str, risk_threshold: int) -> Refusal | None:
    """Build the refusal for the greatest risk at or above the threshold, unless the job says IGNORE.

    The message gives the risk, its band (see `told_score`) and the kind of spoofing, never which fraudster.
    """
    if action == "IGNORE" or not risks:
        return None
    worst = max(risks, key=lambda risk: risk.score)
    if worst.score < risk_threshold:
        return None
    told, kind = told_score(worst, risk_threshold), f" ({worst.evidence})" if worst.evidence else ""
    return Refusal(
        400, f"fraud check failed: {worst.name} is {told}{kind}, at or above the threshold {risk_threshold}"
    )


def told_score(risk: Risk, risk_threshold: int) -> int:
    """Return the score that answers and events tell: that of a known fraudster only by its band, because an
    exact one would give the fraudster's voice away."""
    if risk.name != KNOWN_FRAUDSTER:
        return risk.score
    return coarse_score(risk.score, RISK_BANDS, threshold=risk_threshold)


def describe_flags(details: Mapping[str, Any]) -> str:
    """Say for the log why a risk is high: without scores, and with no id but a fraudster's own."""
    fraudster = details["riskDetails"].get("knownFraudsterRisk", {}).get("generatedFraudsterId")
    known = "KNOWN_FRAUDSTER" in details["reasons"] and fraudster
    return ", ".join(details["reasons"]) + (f" ({fraudster})" if known else "")


def risk_details(risks: Sequence[Risk], *, risk_threshold: int, watchlist_id: str) -> dict[str, Any]:
    """Build the members of an event that describe risks, in the form of Voice ID's evaluation event."""
    by_name = {risk.name: risk for risk in risks}
    reasons = [
        reason
        for name, reason in ((KNOWN_FRAUDSTER, "KNOWN_FRAUDSTER"), (SPOOFING, "VOICE_SPOOFING"))
        if name in by_name and by_name[name].score >= risk_threshold
    ]
    details: dict[str, Any] = {}
    if KNOWN_FRAUDSTER in by_name:
        known = by_name[KNOWN_FRAUDSTER]
        told = told_score(known, risk_threshold)
        details["knownFraudsterRisk"] = {"riskScore": told} | (
            {"generatedFraudsterId": known.fraudster_id} if known.fraudster_id and told else {}
        )
    if SPOOFING in by_name:
        spoofing = by_name[SPOOFING]
        details["voiceSpoofingRisk"] = {"riskScore": spoofing.score} | (
            {"evidence": spoofing.evidence} if spoofing.evidence else {}
        )
    return {
        "decision": "HIGH_RISK" if reasons else "LOW_RISK",
        "reasons": reasons,
        "configuration": {"riskThreshold": risk_threshold, "watchlistId": watchlist_id},
        "riskDetails": details,
    }
