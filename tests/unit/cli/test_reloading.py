"""SIGHUP: what is read again and used, what waits for a restart, and settings that cannot be read."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sonant.cli.reloading import RELOADED, reload_on_hangup, reload_settings
from sonant.errors import SetupError
from sonant.settings import Gateway, Log, Metrics, Settings
from sonant.settings.listing import core_settings

BEFORE = Settings(data=Path("/data"))


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("sonant")
    handlers, levels = list(root.handlers), (root.level, own.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    own.setLevel(levels[1])
    logging.captureWarnings(False)


@pytest.fixture
def hangup() -> Iterator[None]:
    """The handler of SIGHUP is the former one afterwards."""
    former = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, former)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_the_level_is_used_at_once_and_others_wait(caplog: pytest.LogCaptureFixture) -> None:
    after = replace(BEFORE, log=Log(level="debug"), gateway=Gateway(port=9000, threads=4))
    assert reload_settings(lambda: after, BEFORE, None) == after
    assert logging.getLogger("sonant").level == logging.DEBUG
    assert told(caplog) == [
        "the settings were read again; these take effect with the next start: gateway.port, gateway.threads"
    ]


def test_the_same_settings_are_read_without_a_remark(caplog: pytest.LogCaptureFixture) -> None:
    assert reload_settings(lambda: BEFORE, BEFORE, None) == BEFORE
    assert told(caplog) == ["the settings were read again"]


def test_settings_that_cannot_be_read_leave_the_former_ones(caplog: pytest.LogCaptureFixture) -> None:
    def load() -> Settings:
        raise SetupError("sonant.toml: gateway.port is 'x'")

    assert reload_settings(load, BEFORE, None) is BEFORE
    assert told(caplog) == [
        "the settings were not read again, the former ones stay: sonant.toml: gateway.port is 'x'"
    ]


def test_reloaded_settings_exist() -> None:
    assert set(RELOADED) <= set(core_settings())


@pytest.mark.usefixtures("hangup")
def test_a_hangup_reloads_a_service_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    found = iter((replace(BEFORE, log=Log(level="error")), BEFORE))
    reload_on_hangup(lambda: next(found), BEFORE, None)
    signal.raise_signal(signal.SIGHUP)
    assert logging.getLogger("sonant").level == logging.ERROR
    signal.raise_signal(signal.SIGHUP)
    assert logging.getLogger("sonant").level == logging.INFO


@pytest.mark.usefixtures("hangup")
def test_a_second_hangup_still_names_what_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    changed = replace(BEFORE, gateway=Gateway(port=9000))
    found = iter((changed, changed, BEFORE))
    reload_on_hangup(lambda: next(found), BEFORE, None)
    for _ in range(3):
        signal.raise_signal(signal.SIGHUP)
    waits = "the settings were read again; these take effect with the next start: gateway.port"
    assert told(caplog) == [waits, waits, "the settings were read again"]


@pytest.mark.parametrize(
    "changed",
    [
        replace(BEFORE, metrics=Metrics(token="a token of some length")),
        replace(BEFORE, carriers={"telnyx_token": "another token of some length"}),
    ],
)
def test_a_changed_secret_waits_and_is_not_told(changed: Settings, caplog: pytest.LogCaptureFixture) -> None:
    before = replace(BEFORE, carriers={"telnyx_token": "a token of some length"})
    if not changed.carriers:
        changed = replace(changed, carriers=before.carriers)
    reload_settings(lambda: changed, before, None)
    (message,) = told(caplog)
    assert message.endswith(("next start: metrics.token", "next start: live.telnyx_token"))
    assert "of some length" not in message


@pytest.mark.usefixtures("hangup")
def test_no_fault_of_a_reload_stops_the_service(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def load() -> Settings:
        raise RecursionError("nested too deeply")

    monkeypatch.setattr(sys, "stdin", None)
    reload_on_hangup(load, BEFORE, None)
    signal.raise_signal(signal.SIGHUP)
    assert told(caplog) == ["the settings were not read again, the former ones stay"]


@pytest.mark.usefixtures("hangup")
def test_the_end_of_its_terminal_stops_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    received: list[int] = []
    former = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        monkeypatch.setattr(sys, "stdin", Terminal())
        reload_on_hangup(lambda: BEFORE, BEFORE, None)
        signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGTERM, former)
    assert received == [signal.SIGTERM]
