"""Reports to systemd that the service is ready, lives (watchdog), reloads or stops: sd_notify(3)."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

READY, STOPPING, _ALIVE = "READY=1", "STOPPING=1", "WATCHDOG=1"


def notify(*states: str, environment: Mapping[str, str] = os.environ) -> None:
    """Send states to systemd; does nothing where it has not started this process, or does not listen."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # an abstract socket
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)
        sender.sendto("\n".join(states).encode(), address)


def notify_reloading() -> None:
    """Report that settings are being read again; READY ends it."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


class Watchdog:
    """Tells systemd's watchdog, twice in its interval, that the caller runs. To be called often."""

    def __init__(
        self,
        monotonic_s: Callable[[], float] = time.monotonic,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._monotonic_s, self._environment = monotonic_s, environment
        interval = environment.get("WATCHDOG_USEC", "")
        meant = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._pause_s = int(interval) / 2e6 if interval.isdigit() and meant else None
        self._next_s = float("-inf")

    def __call__(self) -> None:
        """Send the sign of life when it is due; does nothing without a watchdog."""
        if self._pause_s is not None and self._monotonic_s() >= self._next_s:
            self._next_s = self._monotonic_s() + self._pause_s
            notify(_ALIVE, environment=self._environment)
