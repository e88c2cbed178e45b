"""Database work of live calls, in a thread of its own: in order, and again while the database fails.

Each errand is one short transaction. One that fails keeps no other waiting.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from sonant.errors import DatabaseUnavailable, KeysUnreachable, SetupError
from sonant.storage.database.errors import error_text
from sonant.threads import start_loop

log = logging.getLogger(__name__)

#: Pauses before an errand is tried again, each twice the one before.
RETRY_FIRST_S = 0.1
ATTEMPTS = 7
#: Faults that may be over at the next try.
AGAIN = (SQLAlchemyError, SetupError, DatabaseUnavailable, KeysUnreachable)
#: Turns lie at least so far apart, however often they are asked for.
TURN_LEAST_S = 0.1

Step = Callable[[], None]


class _Errand:
    __slots__ = ("attempts", "failed", "name", "run")

    def __init__(self, name: str, run: Step, failed: Step) -> None:
        self.name, self.run, self.failed, self.attempts = name, run, failed, 0


class RetryQueue:
    """`put`, `hurry` and `again` may be called from any thread and never wait."""

    def __init__(self, name: str, turn: Step | None = None) -> None:
        """`turn` is done between the errands when `hurry` or `again` asks for it."""
        self._turn = turn
        self._condition = threading.Condition()
        self._ready: deque[_Errand] = deque()
        self._later: list[tuple[float, int, _Errand]] = []
        self._number = 0
        self._next_turn = float("inf")
        self._last_turn = float("-inf")
        self._closing = False
        self._thread = start_loop(self._run, name)

    def put(self, name: str, run: Step, failed: Step) -> None:
        """Have `run` done; `failed` is called instead when it cannot be."""
        with self._condition:
            self._ready.append(_Errand(name, run, failed))
            self._condition.notify()

    def hurry(self) -> None:
        """Do the next turn now."""
        self.again(0.0)

    def again(self, after_s: float) -> None:
        """Do the next turn after so long, or earlier if that was asked for."""
        with self._condition:
            due = max(time.monotonic() + after_s, self._last_turn + TURN_LEAST_S)
            self._next_turn = min(self._next_turn, due)
            self._condition.notify()

    def close(self, wait_s: float) -> None:
        """Do what has been put, each errand once at most, and end."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join(wait_s)

    def _run(self) -> None:
        while (step := self._next()) is not None:
            step()

    def _next(self) -> Step | None:
        with self._condition:
            while True:
                now = time.monotonic()
                while self._later and (self._closing or self._later[0][0] <= now):
                    self._ready.append(heapq.heappop(self._later)[2])
                if self._turn is not None and self._next_turn <= now and not self._closing:
                    self._last_turn = now
                    self._next_turn = float("inf")
                    return self._do_turn
                if self._ready:
                    errand = self._ready.popleft()
                    return lambda: self._do(errand)
                if self._closing:
                    return None
                due = min(self._next_turn, self._later[0][0] if self._later else float("inf"))
                self._condition.wait(None if due == float("inf") else max(0.0, due - now))

    def _do(self, errand: _Errand) -> None:
        try:
            errand.run()
            return
        except AGAIN as fault:
            errand.attempts += 1
            again = errand.attempts < ATTEMPTS and not self._closing
            what = "trying again" if again else "given up"
            log.warning("live calls: %s: %s; %s", errand.name, error_text(fault) or fault, what)
            if again:
                due = time.monotonic() + RETRY_FIRST_S * 2 ** (errand.attempts - 1)
                with self._condition:
                    self._number += 1
                    heapq.heappush(self._later, (due, self._number, errand))
                return
        except Exception:
            log.exception("live calls: %s: internal failure", errand.name)
        _quietly(errand.failed)

    def _do_turn(self) -> None:
        assert self._turn is not None
        _quietly(self._turn)


def _quietly(step: Step) -> None:
    try:
        step()
    except AGAIN as fault:
        log.warning("live calls: %s", error_text(fault) or fault)
    except Exception:
        log.exception("live calls: internal failure")
