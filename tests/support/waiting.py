"""Waiting for what happens elsewhere. No other file of the tests looks at a clock, or sleeps.

A test says what it waits for, not how long that takes: a busy machine makes it slow, never wrong.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

PATIENCE_S = 300.0
"""After so long something hangs. The ceiling of every wait; nothing that works comes near it."""

_LOOK_S = 0.01
ASK_S = 0.05
"""Between two looks that are calls of a service: more of them would slow down what they wait for."""

Found = TypeVar("Found")


def wait_until(
    what: str | Callable[[], object],
    holds: Callable[[], Any],
    patience_s: float = PATIENCE_S,
    *,
    look_s: float = _LOOK_S,
) -> Any:
    """What `holds` returns, as soon as that is true; AssertionError with `what` when it never is.

    `what` may be a function, asked when all is lost, of what is there instead.
    """
    give_up = time.monotonic() + patience_s
    while not (found := holds()):
        if time.monotonic() > give_up:
            raise AssertionError(f"waited {patience_s:g} s in vain for: {what() if callable(what) else what}")
        time.sleep(look_s)
    return found


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and waits for its parent to notice does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def in_time(what: str, work: Callable[[], Found]) -> Found:
    """What `work` returns or raises; AssertionError with `what` when it never does.

    For what must not wait at all: put the time that it must not wait for out of all proportion.
    """
    done: Future[Found] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as fault:  # noqa: BLE001 - raised again in the test's own thread
            done.set_exception(fault)

    threading.Thread(target=run, daemon=True).start()
    wait_until(what, done.done)
    return done.result()


def dawdle(seconds: float) -> None:
    """Take so long: for the other side of a conversation, a peer or a worker that is made up.

    Not for a test to wait with, and nothing may hang on how long it took: `wait_until` says what is awaited.
    """
    time.sleep(seconds)


async def until(what: str, holds: Callable[[], Any]) -> Any:
    """`wait_until` in an event loop."""
    give_up = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        if time.monotonic() > give_up:
            raise AssertionError(f"waited {PATIENCE_S:g} s in vain for: {what}")
        await asyncio.sleep(_LOOK_S)
    return found
