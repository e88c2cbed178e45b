"""Calls that an open page repeats are summed in the audit trail."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from audit_testbed import READ, WRITE, call
from event_peers import NOON

from sonant.audit import chain
from sonant.audit.polls import MOST_POLLS, PollSums
from sonant.audit.record import Record
from sonant.audit.trail import Trail
from sonant.errors import ResourceNotFound
from sonant.settings import Audit

INTERVAL_S = 300.0


@pytest.fixture
def open_trail(tmp_path: Path) -> Iterator[Callable[..., Trail]]:
    opened: list[Trail] = []

    def make(**settings: Any) -> Trail:
        opened.append(Trail(tmp_path / "audit", Audit(**settings), region="us-east-1", clock=lambda: NOON))
        return opened[-1]

    yield make
    for trail in opened:
        trail.close()


def poll(second: int, **changes: Any) -> Record:
    return replace(call(second, READ, time=NOON + timedelta(seconds=second)), **{"polled": True, **changes})


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in chain.files(folder) for line in path.read_bytes().splitlines()]


def test_page_open_for_a_shift_leaves_a_record_each_interval(
    open_trail: Callable[..., Trail], tmp_path: Path
) -> None:
    """Given a page that asks every second, when a shift of eight hours ends, then 80 MB are 100 records."""
    sums = PollSums(INTERVAL_S)
    recorded = []
    for second in range(8 * 3600):
        recorded += sums.due(float(second))
        one = poll(second)
        if not sums.count(one, float(second)):
            recorded.append(one)
    recorded += sums.due(float("inf"))
    assert len(recorded) == 8 * 3600 / INTERVAL_S + 1
    assert sum(one.summed[0] if one.summed else 1 for one in recorded) == 8 * 3600, "and none is lost"
    trail = open_trail()
    for one in recorded:
        one.polled = False
        trail.add(one)
    trail.close()
    assert len(lines(tmp_path / "audit")) == len(recorded)
    assert sum(path.stat().st_size for path in chain.files(tmp_path / "audit")) < 200_000


def test_first_poll_is_recorded_at_once_and_the_rest_at_the_end(
    open_trail: Callable[..., Trail], tmp_path: Path
) -> None:
    trail = open_trail()
    for second in range(10):
        trail.add(poll(second))
    trail.close()
    first, sum_of_rest = lines(tmp_path / "audit")
    assert (first["requestID"], first.get("additionalEventData")) == ("request-0", None)
    assert sum_of_rest["requestID"] == "request-9"
    assert sum_of_rest["additionalEventData"] == {"summedCalls": 9, "firstEventTime": "2026-03-01T12:00:01Z"}
    assert sum_of_rest["eventTime"] == "2026-03-01T12:00:09Z"


@pytest.mark.parametrize(
    ("change", "records"),
    [
        ({"polled": False}, 10),
        ({"operation": WRITE}, 10),
        # a failed call changed nothing, so its repetitions are summed too
        ({"operation": WRITE, "error": ResourceNotFound("SESSION", "gone")}, 2),
        ({"operation": WRITE, "unchanged": True}, 2),
    ],
)
def test_only_polls_that_change_nothing_are_summed(
    open_trail: Callable[..., Trail], tmp_path: Path, change: dict[str, Any], records: int
) -> None:
    trail = open_trail()
    for second in range(10):
        trail.add(poll(second, **change))
    trail.close()
    assert len(lines(tmp_path / "audit")) == records


@pytest.mark.parametrize(
    "change",
    [
        {"principal_arn": "arn:aws:iam::123456789012:user/bob"},
        {"access_key_id": "AKIAOTHER"},
        {"source_ip": "192.0.2.8"},
        {"parameters": {"DomainId": "e"}},
        {"error": ResourceNotFound("SESSION", "gone")},
    ],
)
def test_polls_that_differ_are_not_summed_together(change: dict[str, Any]) -> None:
    sums = PollSums(INTERVAL_S)
    assert not sums.count(poll(0), 0.0)
    assert sums.count(poll(1), 1.0)
    assert not sums.count(poll(2, **change), 2.0)


def test_interval_of_zero_sums_nothing(open_trail: Callable[..., Trail], tmp_path: Path) -> None:
    trail = open_trail(sum_polls_s=0.0)
    for second in range(10):
        trail.add(poll(second))
    trail.close()
    assert len(lines(tmp_path / "audit")) == 10


def test_different_polls_are_bounded_in_memory() -> None:
    sums = PollSums(INTERVAL_S)
    for number in range(MOST_POLLS + 5):
        sums.count(poll(0, parameters={"DomainId": str(number)}), 0.0)
    assert not sums.count(poll(1, parameters={"DomainId": str(MOST_POLLS + 1)}), 1.0), "recorded one by one"
    assert sums.count(poll(1, parameters={"DomainId": "1"}), 1.0)
