"""Health endpoints for orchestrators and load balancers: is the service alive, and should it get requests?

They need no credentials, so they reveal nothing but the answer; the reason for a failure is in the log.
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
    ) -> None:
        """`check` raises a SonantError when requests cannot be answered. It runs in a thread of its own, one
        call at a time, and may hang: after `answer_s` the service counts as not ready.

        `runner` gives the state of the job runner that this service supervises, if it does.
        """
        self._runner = runner
        self._check, self._monotonic_s, self._answer_s = check, monotonic_s, answer_s
        self._checking: asyncio.Future[None] | None = None
        self._threads = ThreadPool(1, "readiness", most_waiting=1)
        self._lock = asyncio.Lock()
        self._healthy, self._checked_s = False, float("-inf")
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

    async def _ready(self, _request: Request) -> JSONResponse:
        if self.draining:
            return JSONResponse({"status": "draining"}, 503)
        if not await self._is_healthy() or (self._runner is not None and self._runner().missing):
            return JSONResponse({"status": "unavailable"}, 503)
        return JSONResponse({"status": "ready"})

    async def _is_healthy(self) -> bool:
        async with self._lock:
            if self._monotonic_s() - self._checked_s >= CACHE_S:
                fault = await self._find_fault()
                if fault is not None and self._healthy:
                    log.warning("not ready: %s", fault)
                self._healthy = fault is None
                self._checked_s = self._monotonic_s()
            return self._healthy

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
