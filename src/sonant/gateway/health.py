"""Health endpoints for orchestrators and load balancers: is the service alive, and should it get requests?

They need no credentials, so they reveal nothing but the answer. The reason for a failure is in the log, and
in the answer for those who may know it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from sonant.errors import SonantError
from sonant.gateway.thread_pool import ThreadPool
from sonant.runner_state import RunnerState

log = logging.getLogger(__name__)

#: How long a result is reused, so that frequent probes cost the database nothing.
CACHE_S = 1.0
#: A check that takes longer than this counts as failed.
ANSWER_S = 2.0


class Health:
    """`GET /health`: the event loop runs. `GET /health/ready`: requests can be answered and are welcome."""

    def __init__(
        self,
        check: Callable[[], None],
        monotonic_s: Callable[[], float],
        runner: Callable[[], RunnerState] | None = None,
        *,
        answer_s: float = ANSWER_S,
        may_know: Callable[[Request], bool] = lambda _: False,
    ) -> None:
        """`check` raises a SonantError when requests cannot be answered. It runs in a thread of its own, one
        call at a time, and may hang: after `answer_s` the service counts as not ready.

        `runner` gives the state of the job runner that this service supervises, if it does. `may_know` says
        whether a request gets the reason why the service is not ready.
        """
        self._runner, self._may_know = runner, may_know
        self._check, self._monotonic_s, self._answer_s = check, monotonic_s, answer_s
        self._checking: asyncio.Future[None] | None = None
        self._threads = ThreadPool(1, "readiness", most_waiting=1)
        self._lock = asyncio.Lock()
        self._fault: str | None = None
        """Why requests cannot be answered, as of the last check; None if they can."""
        self._checked_s = float("-inf")
        self.draining = False
        """Whether the service is about to stop: it answers requests and wants no more of them."""

    def drain(self) -> None:
        """Answer from now on that the service is not ready."""
        self.draining = True

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/health", self._alive, methods=["GET"]),
            Route("/health/ready", self._ready, methods=["GET"]),
        ]

    async def _alive(self, _request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def _ready(self, request: Request) -> JSONResponse:
        if self.draining:
            return JSONResponse({"status": "draining"}, 503)
        fault = await self._present_fault() or self._runner_fault()
        if fault is None:
            return JSONResponse({"status": "ready"})
        told = {"reason": fault} if self._may_know(request) else {}
        return JSONResponse({"status": "unavailable", **told}, 503)

    def _runner_fault(self) -> str | None:
        """Say why jobs that are accepted now would not be run; None if they would."""
        state = None if self._runner is None else self._runner()
        if state is None or not state.missing:
            return None
        why = f": {state.problem}" if state.problem else ""
        return f"no runner has been able to do jobs for {state.down_s or 0.0:.0f} s{why}"

    async def _present_fault(self) -> str | None:
        async with self._lock:
            if self._monotonic_s() - self._checked_s >= CACHE_S:
                fault = await self._find_fault()
                if fault != self._fault:
                    log.warning("%s", "ready again" if fault is None else f"not ready: {fault}")
                self._fault, self._checked_s = fault, self._monotonic_s()
            return self._fault

    async def _find_fault(self) -> str | None:
        """Why requests cannot be answered; None if they can. While a check hangs no other is begun."""
        hung = self._checking is not None
        if self._checking is None:
            self._checking = asyncio.ensure_future(self._threads.run(self._check))
        done, _ = await asyncio.wait({self._checking}, timeout=0 if hung else self._answer_s)
        if not done:
            return f"the check of the database took more than {self._answer_s:g} s"
        checked, self._checking = self._checking, None
        fault = checked.exception()
        if fault is not None and not isinstance(fault, SonantError):
            log.error("the readiness check failed", exc_info=fault)
        return None if fault is None else str(fault)
