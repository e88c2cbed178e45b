"""Whether the service lives, and whether it should be sent calls: for orchestrators and load balancers.

Anybody may ask, so nothing but the two answers is told; what is wrong stands in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from sonant.errors import DatabaseUnavailable
from sonant.events.runner_state import RunnerState

log = logging.getLogger(__name__)

#: An answer is given again for so long, so that questions cost the database nothing.
CACHE_S = 1.0


class Health:
    """`GET /health`: the event loop turns. `GET /health/ready`: calls can be answered and are welcome."""

    def __init__(
        self,
        check: Callable[[], None],
        monotonic_s: Callable[[], float],
        runner: Callable[[], RunnerState] | None = None,
    ) -> None:
        """`check` raises DatabaseUnavailable; it is called in a thread, one call at a time.

        `runner` tells at once how the runner is that this service looks after, if it does.
        """
        self._runner = runner
        self._check, self._monotonic_s = check, monotonic_s
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
                try:
                    await run_in_threadpool(self._check)
                    self._well = True
                except DatabaseUnavailable as fault:
                    if self._well:
                        log.warning("not ready: %s", fault)
                    self._well = False
                self._looked_s = self._monotonic_s()
            return self._well
