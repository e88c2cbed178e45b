"""Every member that tells how similar a voice is to a stored one is known, and told in bands.

A new one fails here: tell it by `voice.disclosure`, count the answers by `jobs.score_limits` where they are
about a speaker, add it to docs/security.md, and then here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from strict_files import SHAPES

from sonant.events.schema import SCHEMA
from sonant.gateway.models import load_models

_TELLS = re.compile("score|similar|likeness|falsematch|likelihood|cosine|distance|vector", re.IGNORECASE)

#: Members of answers, by shape. Inputs (thresholds) are not among them.
ANSWERS = {
    "AuthenticationResult.Score": "band",
    "KnownFraudsterRisk.RiskScore": "band",
    "VoiceSpoofingRisk.RiskScore": "exact: it is about the recording, not about a stored voice",
    "RegistrationConfig.FraudsterSimilarityThreshold": "the caller's own threshold",
    "SpeakerComparison.Score": "band",
    "StoredAuthentication.Score": "band, as it was told",
    "StoredFraudDetection.KnownFraudsterScore": "band, as it was told",
    "StoredFraudDetection.VoiceSpoofingScore": "exact: it is about the recording, not about a stored voice",
    "SpeakerComparison.Similarity": "with sonant:ReadExactScores only",
    "VoiceDuplicate.FalseMatchRateLog10": "whole powers of ten",
    "VoiceDuplicate.Similarity": "with sonant:ReadExactScores only",
    "ExportedVoiceprint.Vector": "the voiceprint itself, with sonant:ExportSpeaker only",
}
#: Members of events.
EVENTS = {
    "authenticationResult.score": "band",
    "fraudDetectionResult.riskScore": "band, and exact for spoofing",
    "EnrollmentFraudDetection.riskScore": "band, and exact for spoofing",
    "BatchFraudsterRegistration.fraudsterSimilarityThreshold": "the caller's own threshold",
}
#: Members of result files and of the report of a dry run.
FILES = {
    "FraudsterSimilarityScore": "band",
    "Score": "band: of the voiceprint that would be replaced",
    "Similarity": "exact: of two recordings of the manifest, never of a stored voice",
}


def answered(shape: Any, seen: set[str]) -> Iterator[str]:
    """Names of all members of a shape and of those in it."""
    if shape is None or shape.name in seen:
        return
    seen.add(shape.name)
    match shape.type_name:
        case "structure":
            for name, member in shape.members.items():
                yield f"{shape.name}.{name}"
                yield from answered(member, seen)
        case "list":
            yield from answered(shape.member, seen)


def schema_members(value: Any, place: str) -> Iterator[str]:
    """Names of all members of a JSON schema, behind the definition that they are in."""
    if isinstance(value, dict):
        for name, inner in value.get("properties", {}).items():
            yield f"{place}.{name}"
            yield from schema_members(inner, place)
        for name, inner in value.items():
            if name != "properties":
                yield from schema_members(inner, place)
    elif isinstance(value, list):
        for inner in value:
            yield from schema_members(inner, place)


def test_answers_tell_no_other_scores() -> None:
    found: set[str] = set()
    for operation in load_models().operations.values():
        found |= set(answered(operation.output_shape, set()))
    assert {name for name in found if _TELLS.search(name.partition(".")[2])} == set(ANSWERS)


def test_events_tell_no_other_scores() -> None:
    found = {name for place, part in SCHEMA["$defs"].items() for name in schema_members(part, place)}
    assert {name for name in found if _TELLS.search(name.partition(".")[2])} == set(EVENTS)


def test_result_files_and_reports_tell_no_other_scores() -> None:
    found = {name for shape in SHAPES.values() for name in shape.get("members", {})}
    assert {name for name in found if _TELLS.search(name)} == set(FILES)
