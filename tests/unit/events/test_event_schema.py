"""The schema of events is strict, and every process of the tests checks it."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from event_checks import BadEvent, check
from event_peers import NOON

from sonant.events import outbox
from sonant.events.documents import document, speaker_event
from sonant.events.error_info import ErrorInfo
from sonant.storage.repositories.domains import Domain

Detail = dict[str, Any]
EVENT_ID = "0e8b2c3e-6bd5-4a3c-9a54-2d3cb4d6f0a1"


@pytest.fixture
def told(domain: Domain) -> dict[str, Any]:
    """An event that is as it should be."""
    event = speaker_event(
        domain,
        "ENROLL_SPEAKER",
        speaker_id="id#" + "s" * 22,
        source="BATCH_ENROLLMENT",
        source_id="J" * 22,
        enrollment_status="NEW_ENROLLMENT",
    )
    made = document(event, EVENT_ID, NOON)
    check(made)
    return made


def first_last(detail: Detail) -> None:
    detail["action"] = detail.pop("action")


#: What may be wrong, one thing at a time.
FAULTS: dict[str, Callable[[Detail], Any]] = {
    "a member is missing": lambda detail: detail.pop("systemAttributes"),
    "a member too many": lambda detail: detail.update(watchlistIds=["w" * 22]),
    "another order": first_last,
    "a word of before": lambda detail: detail.update(status="SUCCESS"),
    "a source of before": lambda detail: detail["data"].update(enrollmentSource="BATCH"),
    "a member of data is missing": lambda detail: detail["data"].pop("enrollmentStatus"),
    "null where there is always a value": lambda detail: detail.update(domainId=None),
    "a customer's own id": lambda detail: detail.update(generatedSpeakerId="customer-1"),
    "a UUID for a source id": lambda detail: detail.update(sourceId=EVENT_ID),
    "a failure without an error": lambda detail: detail.update(status="FAILED"),
    "an error of what succeeded": lambda detail: detail.update(errorInfo=ErrorInfo.of_code(400, "x").member),
    "another type's action": lambda detail: detail.update(action="DELETE_FRAUDSTER"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_an_event_with_one_fault_is_noticed(told: dict[str, Any], fault: Callable[[Detail], Any]) -> None:
    wrong = copy.deepcopy(told)
    fault(wrong["detail"])
    with pytest.raises(BadEvent):
        check(wrong)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("time", "2026-03-01T12:00:00Z"),
        ("account", 123456789012),
        ("id", "E" * 22),
        ("source", "sonant"),
        ("detail-type", "VoiceId Speaker"),
        ("resources", []),
    ],
)
def test_an_envelope_with_one_fault_is_noticed(told: dict[str, Any], member: str, value: object) -> None:
    with pytest.raises(BadEvent):
        check({**told, member: value})


def test_the_check_is_on_here_and_in_processes_started_from_here() -> None:
    assert outbox.document.checked  # type: ignore[attr-defined]
    asked = "from sonant.events import outbox; print(outbox.document.checked)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True\n", "")
