"""Sonant's own service model of sessions agrees with Voice ID's and with the code."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from sonant.gateway.models import load_models
from sonant.sessions.calls import EndReason
from sonant.sessions.decisions import AuthenticationDecision, FraudDecision
from sonant.storage.repositories.sessions import ACTIVE, ENDED

MODELS = load_models()


def input_of(target: str) -> Any:
    return MODELS.find(target).input_shape


def output_of(target: str) -> Any:
    return MODELS.find(target).output_shape


SESSION = output_of("Sonant.DescribeSession").members["Session"]
EVALUATION = output_of("VoiceID.EvaluateSession")
START = input_of("Sonant.StartSession")


def test_end_reasons_are_those_of_the_model():
    assert set(SESSION.members["StreamEndReason"].enum) == {reason.value for reason in EndReason}


def test_streaming_statuses_agree():
    own = SESSION.members["StreamingStatus"].enum
    assert own == EVALUATION.members["StreamingStatus"].enum == [*ACTIVE, ENDED]


def test_decisions_are_those_of_voice_ids_model():
    for result, decisions in (
        ("AuthenticationResult", AuthenticationDecision),
        ("FraudDetectionResult", FraudDecision),
    ):
        assert set(EVALUATION.members[result].members["Decision"].enum) == set(get_args(decisions))


@pytest.mark.parametrize(
    ("own", "theirs"),
    [
        (SESSION.members["SessionName"], EVALUATION.members["SessionName"]),
        (SESSION.members["SessionId"], EVALUATION.members["SessionId"]),
        (START.members["DomainId"], EVALUATION.members["DomainId"]),
        (
            input_of("Sonant.EndStream").members["SessionNameOrId"],
            input_of("VoiceID.EvaluateSession").members["SessionNameOrId"],
        ),
        (START.members["SpeakerId"], input_of("VoiceID.DescribeSpeaker").members["SpeakerId"]),
        (
            START.members["AuthenticationConfiguration"].members["AcceptanceThreshold"],
            EVALUATION.members["AuthenticationResult"]
            .members["Configuration"]
            .members["AcceptanceThreshold"],
        ),
        (
            START.members["FraudDetectionConfiguration"].members["WatchlistId"],
            EVALUATION.members["FraudDetectionResult"].members["Configuration"].members["WatchlistId"],
        ),
    ],
    ids=lambda shape: shape.name,
)
def test_limits_are_those_of_voice_ids_model(own, theirs):
    assert own.metadata == theirs.metadata


def test_speaker_ids_are_sensitive():
    assert SESSION.members["CustomerSpeakerId"].metadata["sensitive"]
    assert START.members["SpeakerId"].metadata["sensitive"]
