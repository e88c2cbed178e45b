"""Clients without manners: connections that send nothing, or a part of a request, and are held open."""

from __future__ import annotations

import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from waiting import PATIENCE_S, wait_until

#: What one connection after the other sends, and then no more.
BEGINNINGS = (
    b"",
    b"POST /sign-in HT",
    b"POST / HTTP/1.1\r\nHost: x\r\n",
    b"POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\naccess",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: 9\r\n\r\n{",
)
#: Connections that are opened at a time for those that were closed, and the pause after it.
AGAIN, _PAUSE_S = 200, PATIENCE_S / 300
#: Descriptors that a test needs for itself.
_OWN = 500


def descriptors_for(wanted: int) -> int:
    """Raise this process's limit of descriptors for so many connections; how many it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted + _OWN if hard == resource.RLIM_INFINITY else min(hard, wanted + _OWN)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return min(wanted, most - _OWN)


@contextmanager
def held_connections(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Hold so many connections to a port, and open others for those that are closed: AGAIN at a time."""
    held: list[socket.socket] = []
    leaving, there = threading.Event(), threading.Event()

    def open_some(most: int) -> None:
        for number in range(most):
            with suppress(OSError):
                one = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
                one.setblocking(False)
                held.append(one)
                one.send(BEGINNINGS[number % len(BEGINNINGS)])

    def attack() -> None:
        open_some(count)
        there.set()
        while not leaving.wait(_PAUSE_S):
            held[:] = [one for one in held if not _ended(one)]
            open_some(min(AGAIN, count - len(held)))

    attacker = threading.Thread(target=attack, daemon=True)
    attacker.start()
    try:
        wait_until("the attack is there", there.is_set)
        yield held
    finally:
        leaving.set()
        attacker.join(PATIENCE_S)
        for one in held:
            one.close()


def _ended(one: socket.socket) -> bool:
    """Whether the service has closed a connection; if so, it is closed here, too."""
    try:
        ended = not one.recv(65536)
    except BlockingIOError:
        return False
    except OSError:
        ended = True
    if ended:
        one.close()
    return ended
