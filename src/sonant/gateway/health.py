"""Whether the service lives, and whether it should be sent calls: for orchestrators and load balancers.

Anybody may ask, so nothing but the two answers is told; what is wrong stands in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from queue import SimpleQueue

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from sonant.errors import SonantError
from sonant.runner_state import RunnerState
from sonant.threads import start_loop

log = logging.getLogger(__name__)

#: An answer is given again for so long, so that questions cost the database nothing.
CACHE_S = 1.0
#: Who has not found out in this time whether all is well is not well.
ANSWER_S = 2.0


class Health:
    """`GET /health`: the event loop turns. `GET /health/ready`: calls can be answered and are welcome."""

    def __init__(
        self,
        check: Callable[[], None],
        monotonic_s: Callable[[], float],
        runner: Callable[[], RunnerState] | None = None,
        *,
        answer_s: float = ANSWER_S,
    ) -> None:
        """`check` raises a SonantError when calls cannot be answered; it is called in a thread of its own,
        one call at a time, and may hang: whoever asks is told after `answer_s` that all is not well.

        `runner` tells at once how the runner is that this service looks after, if it does.
        """
        self._runner = runner
        self._check, self._monotonic_s, self._answer_s = check, monotonic_s, answer_s
        self._looking: asyncio.Future[None] | None = None
        self._thread = _OneThread()
        self._lock = asyncio.Lock()
        self._well, self._looked_s = False, float("-inf")
        self.draining = False
        """The service is about to stop: it answers what comes and wants no more of it."""

    def drain(self) -> None:
        self.draining = True

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/health", self._alive, methods=["GET"]),
            Route("/health/ready", self._ready, methods=["GET"]),
        ]

    async def _alive(self, _request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def _ready(self, _request: Request) -> JSONResponse:
        if self.draining:
            return JSONResponse({"status": "draining"}, 503)
        if not await self._is_well() or (self._runner is not None and self._runner().missing):
            return JSONResponse({"status": "unavailable"}, 503)
        return JSONResponse({"status": "ready"})

    async def _is_well(self) -> bool:
        async with self._lock:
            if self._monotonic_s() - self._looked_s >= CACHE_S:
                fault = await self._look()
                if fault is not None and self._well:
                    log.warning("not ready: %s", fault)
                self._well = fault is None
                self._looked_s = self._monotonic_s()
            return self._well

    async def _look(self) -> str | None:
        """Why calls cannot be answered, if so. A look that hangs is waited for once and not repeated."""
        hung = self._looking is not None
        if self._looking is None:
            self._looking = self._thread.run(self._check)
        done, _ = await asyncio.wait({self._looking}, timeout=0 if hung else self._answer_s)
        if not done:
            return f"a look at the database took more than {self._answer_s:g} s"
        looked, self._looking = self._looking, None
        fault = looked.exception()
        if fault is not None and not isinstance(fault, SonantError):
            log.error("readiness could not be found out", exc_info=fault)
        return None if fault is None else str(fault)


class _OneThread:
    """One thread, begun when first needed, that does not keep the process from ending: its work may hang."""

    def __init__(self) -> None:
        self._work: SimpleQueue[tuple[Callable[[], None], asyncio.Future[None]]] = SimpleQueue()
        self._begun = False

    def run(self, work: Callable[[], None]) -> asyncio.Future[None]:
        """The outcome of `work`, to be awaited in the running event loop."""
        if not self._begun:
            start_loop(self._run, "readiness")
            self._begun = True
        outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._work.put((work, outcome))
        return outcome

    def _run(self) -> None:
        while True:
            work, outcome = self._work.get()
            fault: Exception | None = None
            try:
                work()
            except Exception as caught:  # noqa: BLE001 - told to whoever waits
                fault = caught
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                outcome.get_loop().call_soon_threadsafe(_tell, outcome, fault)


def _tell(outcome: asyncio.Future[None], fault: Exception | None) -> None:
    if outcome.cancelled():
        return
    if fault is None:
        outcome.set_result(None)
    else:
        outcome.set_exception(fault)
