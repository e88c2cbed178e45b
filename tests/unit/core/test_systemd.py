"""What systemd is told: over a real socket, with a clock that the test moves."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sonant import systemd


@pytest.fixture(params=["a file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """A socket as systemd has it, and the environment that names it."""
    name = f"@sonant-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name[1:] if name.startswith("@") else name)
        listening.setblocking(False)
        yield listening, {"NOTIFY_SOCKET": name}


def received(listening: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(listening.recv(4096).decode())
        except BlockingIOError:
            return found


def test_states_are_sent_in_one_message(manager: tuple[socket.socket, dict[str, str]]) -> None:
    listening, environment = manager
    systemd.notify(systemd.READY, "STATUS=fine", environment=environment)
    assert received(listening) == ["READY=1\nSTATUS=fine"]


def test_a_reload_has_its_time(
    manager: tuple[socket.socket, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    listening, environment = manager
    monkeypatch.setitem(os.environ, "NOTIFY_SOCKET", environment["NOTIFY_SOCKET"])
    systemd.notify_reloading()
    (message,) = received(listening)
    first, second = message.split("\n")
    assert first == "RELOADING=1"
    assert second.removeprefix("MONOTONIC_USEC=").isdigit()


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nowhere/at/all"}])
def test_without_systemd_nothing_happens(environment: dict[str, str]) -> None:
    systemd.notify(systemd.READY, environment=environment)


def test_signs_of_life_come_twice_in_the_interval(manager: tuple[socket.socket, dict[str, str]]) -> None:
    listening, environment = manager
    now_s = [100.0]
    watchdog = systemd.Watchdog(lambda: now_s[0], {**environment, "WATCHDOG_USEC": "60000000"})
    for at_s, sent in ((100.0, 1), (100.1, 0), (129.9, 0), (130.0, 1), (200.0, 1), (229.0, 0)):
        now_s[0] = at_s
        watchdog()
        assert received(listening) == ["WATCHDOG=1"] * sent


@pytest.mark.parametrize(
    "more", [{}, {"WATCHDOG_USEC": ""}, {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid() + 1)}]
)
def test_no_sign_of_life_is_sent_without_a_watchdog_of_this_process(
    manager: tuple[socket.socket, dict[str, str]], more: dict[str, str]
) -> None:
    listening, environment = manager
    systemd.Watchdog(lambda: 0.0, {**environment, **more})()
    assert received(listening) == []
