"""Jumps of the wall clock are detected."""

from datetime import UTC, datetime, timedelta

import pytest

from sonant.storage.times import ClockWatch

START = datetime(2026, 1, 1, tzinfo=UTC)


class Clocks:
    def __init__(self) -> None:
        self.wall, self.time_s = START, 1000.0

    def pass_(self, seconds: float, *, wall: float | None = None) -> None:
        self.time_s += seconds
        self.wall += timedelta(seconds=seconds if wall is None else wall)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def watch(clocks: Clocks) -> ClockWatch:
    return ClockWatch(lambda: clocks.wall, lambda: clocks.time_s)


def test_clock_without_jumps_is_steady(clocks, watch):
    for _ in range(100):
        clocks.pass_(3600, wall=3605)
        assert watch.steady_s() == float("inf")


@pytest.mark.parametrize("hours", [25, -25, 0.1])
def test_after_a_jump_it_is_steady_for_as_long_as_time_has_passed(clocks, watch, hours):
    clocks.pass_(1, wall=hours * 3600)
    assert watch.steady_s() == 0
    clocks.pass_(1800)
    assert watch.steady_s() == 1800


def test_coming_back_is_a_jump_as_well(clocks, watch):
    clocks.pass_(1, wall=25 * 3600)
    watch.steady_s()
    clocks.pass_(15, wall=-25 * 3600)
    assert watch.steady_s() == 0
