"""Refused connections on record: the first at once, floods as sums, and none without a trace."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sonant.carriers.refusals import MANY, MOST_KINDS, SUM_S, RefusalReason, Refusals
from sonant.carriers.request import StreamRequest
from sonant.errors import AccessDenied, InvalidSignature, Throttling, UnknownRoute, Validation

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WRONG = AccessDenied("The token is not the one that was set.")


class Inline(Executor):
    """Runs what is submitted at once."""

    def submit(self, work: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        work(*arguments, **named)
        return Future()


class Full(Executor):
    def submit(self, work: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        raise Throttling("Rate exceeded")


class Recorded:
    """Refusals whose timers the test lets run."""

    def __init__(self, threads: Executor | None = None) -> None:
        self.records: list[Any] = []
        self.counts: list[tuple[str, str]] = []
        self.timers: list[Any] = []
        self.refusals = Refusals(
            lambda *record: self.records.append(record),
            lambda carrier, reason: self.counts.append((carrier, reason)),
            threads or Inline(),
            lambda seconds, task: self.timers.append((seconds, task)),
        )

    def note(self, address: str = "192.0.2.7", *, at_s: float = 0.0, **how: Any) -> None:
        request = StreamRequest(
            method="GET", raw_path=b"/stream/twilio", query=b"", headers=(), source_ip=address,
            secure=True, received_at=NOON + timedelta(seconds=at_s),
        )  # fmt: skip
        self.refusals.note("twilio", request, RefusalReason.AUTHENTICATION, WRONG, **how)

    def end_intervals(self) -> None:
        timers, self.timers = self.timers, []
        for seconds, task in timers:
            assert seconds == SUM_S
            task()


@pytest.fixture
def recorded():
    return Recorded()


def test_first_refusal_is_recorded_at_once(recorded, caplog):
    recorded.note()
    ((request, carrier, reason, error, summed),) = recorded.records
    assert (request.source_ip, carrier, reason, error, summed) == (
        "192.0.2.7", "twilio", "AUTHENTICATION", WRONG, None,
    )  # fmt: skip
    assert "twilio from 192.0.2.7 was refused (AUTHENTICATION): The token is not" in caplog.text
    assert recorded.counts == [("twilio", "AUTHENTICATION")]


def test_flood_is_summed_with_the_time_of_its_first(recorded, caplog):
    for second in range(500):
        recorded.note(at_s=second / 10)
    assert len(recorded.records) == 1
    assert len(recorded.counts) == 500, "metrics count each"
    assert len(caplog.records) == 1
    recorded.end_intervals()
    (_, (*_, summed)) = recorded.records
    assert summed == (499, NOON + timedelta(seconds=0.1))
    assert "499 more connections of twilio" in caplog.text
    recorded.end_intervals()
    recorded.end_intervals()
    assert recorded.timers == [], "a flood that has ended costs nothing"
    recorded.note()
    assert len(recorded.records) == 3


def test_kinds_are_told_apart(recorded):
    recorded.note("192.0.2.7")
    recorded.note("192.0.2.8")
    assert [record[0].source_ip for record in recorded.records] == ["192.0.2.7", "192.0.2.8"]


def test_flood_from_many_addresses_is_bounded(recorded):
    for number in range(2 * MOST_KINDS):
        recorded.note(f"10.0.{number // 256}.{number % 256}")
    assert len(recorded.records) == MOST_KINDS + 1
    assert len(recorded.timers) == MOST_KINDS + 1
    recorded.refusals.close()
    *_, (_, carrier, _, _, summed) = recorded.records
    assert (carrier, summed[0]) == ("twilio", MOST_KINDS - 1)
    assert MANY


def test_stop_records_what_was_counted(recorded):
    for _ in range(3):
        recorded.note()
    recorded.refusals.close()
    assert [record[4] and record[4][0] for record in recorded.records] == [None, 2]


def test_refusal_in_the_audit_trail_already_is_only_logged(recorded, caplog):
    recorded.note(recorded=True)
    recorded.note(recorded=True)
    recorded.end_intervals()
    assert (recorded.records, recorded.counts) == ([], [])
    assert "1 more connections" in caplog.text


def test_busy_threads_lose_no_log_line(caplog):
    recorded = Recorded(Full())
    recorded.note()
    assert "was refused" in caplog.text
    assert recorded.counts


def test_unverified_parts_of_a_request_are_not_logged(recorded, caplog):
    request = StreamRequest(
        method="GET", raw_path=b"/stream", query=b"", headers=(), source_ip="192.0.2.7", secure=True,
        received_at=NOON,
    )  # fmt: skip
    fault = InvalidSignature("The canonical string was: a stranger's text")
    recorded.refusals.note("websocket", request, RefusalReason.of(fault), fault)
    assert "InvalidSignatureException" in caplog.text
    assert "stranger" not in caplog.text


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (WRONG, RefusalReason.AUTHENTICATION),
        (InvalidSignature("no"), RefusalReason.AUTHENTICATION),
        (Throttling("busy"), RefusalReason.LIMIT),
        (Validation("what?"), RefusalReason.PARAMETERS),
        (UnknownRoute("nowhere"), RefusalReason.UNKNOWN_PATH),
    ],
)
def test_errors_have_their_reasons(error, reason):
    assert RefusalReason.of(error) is reason
