"""What is no result file and no report of a dry run is refused, down to the type of one value."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from strict_files import read_report, read_result
from strict_json import NotStrict

ID = "id#AbCdEfGhIjKlMnOpQrStUv"
RESULT: dict[str, Any] = {
    "Version": "1.0",
    "Errors": [{"RequestId": "2", "ErrorCode": 400, "ErrorMessage": "why"}],
    "SuccessfulRegistrations": [
        {
            "RequestId": "1",
            "GeneratedFraudsterId": ID,
            "RegistrationStatus": "DUPLICATE_SKIPPED",
            "FraudsterSimilarityScore": 0,
        }
    ],
}
REPORT: dict[str, Any] = {
    "Version": "1.0",
    "Summary": {
        "Requests": 1,
        "LikelyToSucceed": 1,
        "LikelyToFail": 0,
        "Outcomes": {"NEW_ENROLLMENT": 1},
        "VoicesUnderSeveralIds": 0,
        "SpeakersWithSeveralVoices": 0,
        "PairsCompared": 0,
        "PairsByChance": 0.0,
        "SameVoiceThreshold": 0.9,
        "DifferentVoicesThreshold": 0.2,
    },
    "Requests": [
        {
            "Number": 1,
            "LikelyOutcome": "NEW_ENROLLMENT",
            "RequestId": "1",
            "SpeakerId": "ada",
            "Recordings": [{"S3Uri": "s3://calls/x", "ChannelId": 0, "SnrDb": 20.5}],
            "SameVoiceAs": {
                "RequestId": "2",
                "SpeakerId": "eve",
                "Similarity": 1.0,
                "SameRecording": True,
                "Count": 1,
            },
            "Warnings": [],
        }
    ],
}


def changed(document: dict[str, Any], path: str, value: Any) -> bytes:
    """The document with another value at a place such as `Errors.0.ErrorCode`."""
    found: Any = copy.deepcopy(document)
    inner = found
    *way, last = (int(step) if step.isdigit() else step for step in path.split("."))
    for step in way:
        inner = inner[step]
    inner[last] = value
    return json.dumps(found).encode()


def test_right_files_are_read() -> None:
    assert read_result(json.dumps(RESULT).encode()) == RESULT
    assert read_report(json.dumps(REPORT).encode()) == REPORT


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("Version", "1.1"),
        ("Errors.0.ErrorCode", "400"),
        ("Errors.0.ErrorCode", 400.0),
        ("Errors.0.ErrorMessage", ""),
        ("Errors.0.RequestId", None),
        ("Errors.0.SpeakerId", "ada"),
        ("SuccessfulRegistrations.0.GeneratedFraudsterId", ID[3:]),
        ("SuccessfulRegistrations.0.RegistrationStatus", "SKIPPED"),
        ("SuccessfulRegistrations.0.FraudsterSimilarityScore", False),
        ("SuccessfulEnrollments", []),
    ],
)
def test_a_result_with_one_wrong_value_is_refused(path: str, value: Any) -> None:
    with pytest.raises(AssertionError, match=path.rpartition(".")[2]):
        read_result(changed(RESULT, path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("Summary.Requests", True),
        ("Summary.Outcomes.NEW_ENROLLMENT", 1.0),
        ("Requests.0.Recordings.0.SnrDb", None),
        ("Requests.0.SameVoiceAs.SameRecording", 1),
        ("Requests.0.SameVoiceAs.Similarity", "1"),
        ("Requests.0.voice", "AAAA"),
    ],
)
def test_a_report_with_one_wrong_value_is_refused(path: str, value: Any) -> None:
    with pytest.raises(AssertionError, match=path.rpartition(".")[2]):
        read_report(changed(REPORT, path, value))


def test_a_report_with_a_number_that_is_none_is_refused() -> None:
    with pytest.raises(NotStrict, match="NaN"):
        read_report(changed(REPORT, "Summary.PairsByChance", float("nan")))
