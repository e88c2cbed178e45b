"""The table of connections: which one is closed when there is no room, and which never is."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
from typing import Any

import pytest

from sonant.addresses import parse_networks
from sonant.errors import SetupError
from sonant.gateway.connections import REPORT_S, ConnectionLimits, ConnectionTable, Loss
from sonant.gateway.descriptors import (
    FEWEST,
    MOST_BY_DEFAULT,
    descriptors_in_use,
    plan_connections,
    raise_descriptor_limit,
    reserve,
)
from sonant.settings import Gateway, Settings


class Line:
    """A connection that notes whether it was closed."""

    def __init__(self) -> None:
        self.dropped = False

    def drop(self) -> None:
        self.dropped = True


class Table(ConnectionTable):
    """A table whose clock is moved by hand."""

    def __init__(self, most: int, most_per_address: int | None = None, highest_descriptor: int = 99) -> None:
        limits = ConnectionLimits(
            most=most, most_per_address=most_per_address or most, highest_descriptor=highest_descriptor
        )
        self.now_s = 0.0
        super().__init__(limits, lambda: self.now_s)

    def opened(self, *addresses: str) -> list[Line]:
        lines = []
        for address in addresses:
            lines.append(Line())
            assert self.admit(lines[-1], address, 5)
        return lines


def test_room_is_made_by_the_connection_that_keeps_waiting_longest() -> None:
    table = Table(3)
    first, second, third = table.opened("a", "a", "a")
    table.waits(first)  # its response is done: the others were silent all the time
    (fourth,) = table.opened("a")
    assert [line.dropped for line in (first, second, third, fourth)] == [False, True, False, False]
    assert (table.open, table.losses[Loss.DROPPED]) == (3, 1)


def test_a_connection_whose_request_is_answered_is_never_closed() -> None:
    table = Table(2)
    lines = table.opened("a", "a")
    for line in lines:
        table.busy(line)
    assert not table.admit(Line(), "b", 5)
    assert table.losses[Loss.REFUSED] == 1
    table.closed(lines[0])
    table.opened("b")


def test_an_address_with_too_many_makes_room_among_its_own() -> None:
    table = Table(10, most_per_address=2)
    other, first, _, _ = table.opened("b", "a", "a", "a")
    assert first.dropped
    assert not other.dropped


def test_a_trusted_proxy_has_no_limit_of_its_own() -> None:
    table = ConnectionTable(
        ConnectionLimits(
            most=10, most_per_address=2, highest_descriptor=99, proxies=parse_networks("10.0.0.0/8")
        )
    )
    lines = [Line() for _ in range(4)]
    assert all(table.admit(line, "10.0.0.7", 9) for line in lines)
    assert not any(line.dropped for line in lines)


def test_the_address_with_most_makes_room_for_all() -> None:
    table = Table(4)
    honest, *greedy = table.opened("b", "a", "a", "a")
    table.opened("c")
    assert greedy[0].dropped
    assert not honest.dropped


def test_a_descriptor_of_the_reserve_shows_that_few_are_left() -> None:
    table = Table(100, highest_descriptor=50)
    (silent,) = table.opened("a")
    assert table.admit(Line(), "b", 51)
    assert silent.dropped


def test_without_a_descriptor_to_accept_with_a_waiting_one_is_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    table = Table(100)
    silent, answered = table.opened("a", "a")
    table.busy(answered)
    loop = asyncio.new_event_loop()
    try:
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                table.on_loop_failure(loop, {"message": "accept", "exception": OSError(errno.EMFILE, "none")})
            assert (silent.dropped, answered.dropped) == (True, False)
            assert (table.losses[Loss.DROPPED], table.losses[Loss.REFUSED]) == (1, 2)
            assert len(caplog.messages) == 1
            table.on_loop_failure(loop, {"message": "something else", "exception": OSError(errno.EPIPE, "x")})
            assert "something else" in caplog.messages[-1]
    finally:
        loop.close()


def test_losses_are_reported_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    table = Table(10)
    with caplog.at_level(logging.WARNING):
        for _ in range(500):
            table.note(Loss.ABORTED)
        table.note(Loss.TOO_SLOW)
        assert len(caplog.messages) == 1
        table.now_s = REPORT_S
        table.note(Loss.ABORTED)
    assert caplog.messages == [
        "connections lost: 1 aborted; 0 are open",
        "connections lost: 500 aborted, 1 too slow; 0 are open",
    ]
    assert table.losses == {Loss.DROPPED: 0, Loss.REFUSED: 0, Loss.TOO_SLOW: 1, Loss.ABORTED: 501}


def test_what_was_closed_is_forgotten() -> None:
    table = Table(2)
    for _ in range(5):
        (line,) = table.opened("a")
        table.busy(line)
        table.closed(line)
        table.closed(line)
    assert table.open == 0


@pytest.mark.parametrize(
    ("descriptors", "settings", "most", "per_address"),
    [
        (1_000_000, {}, MOST_BY_DEFAULT, MOST_BY_DEFAULT // 2),
        (1_000_000, {"max_connections": 50_000}, 50_000, 25_000),
        (1_000_000, {"max_connections": 500, "max_connections_per_address": 9_999}, 500, 500),
        (1_000_000, {"max_connections_per_address": 7}, MOST_BY_DEFAULT, 7),
    ],
)
def test_connections_follow_settings_and_descriptors(
    descriptors: int, settings: dict[str, Any], most: int, per_address: int
) -> None:
    planned = plan_connections(Settings(gateway=Gateway(**settings)), descriptors)
    assert (planned.most, planned.most_per_address) == (most, per_address)


def test_the_limit_of_descriptors_is_raised_as_far_as_the_system_allows() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(600, before[0]), before[1]))
    try:
        raised = raise_descriptor_limit()
        assert raised == resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= before[0]
        assert 3 <= (descriptors_in_use() or 3) < raised
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_few_descriptors_leave_fewer_connections_and_keep_the_reserve() -> None:
    kept = reserve(Settings())
    planned = plan_connections(Settings(), 1024)
    assert planned.most == planned.highest_descriptor == 1024 - kept
    with pytest.raises(SetupError, match=rf"{FEWEST + kept}, or lower gateway\.max_connections"):
        plan_connections(Settings(), kept + FEWEST - 1)
    wanted = Settings(gateway=Gateway(max_connections=2000))
    with pytest.raises(SetupError, match=f"connections may take {1024 - kept}; 2000 are wanted"):
        plan_connections(wanted, 1024)
