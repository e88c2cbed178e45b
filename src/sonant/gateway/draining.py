"""Graceful shutdown: the server reports that it is not ready, answers for a while, and then stops."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from sonant import systemd
from sonant.threads import start_once

if TYPE_CHECKING:
    import uvicorn

    from sonant.gateway.health import Health

log = logging.getLogger(__name__)

_POLL_S = 0.2

LoopFailureHandler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]


def draining_server(
    config: uvicorn.Config,
    health: Health,
    open_streams: Callable[[], int],
    *,
    drain_s: float,
    streams_s: float,
    on_loop_failure: LoopFailureHandler | None = None,
) -> uvicorn.Server:
    """Make a uvicorn server that drains after SIGTERM, and reports to systemd, if that has started it.

    `on_loop_failure` handles what its event loop reports.

    It reports that it is not ready, still answers requests for `drain_s`, and then waits for up to
    `streams_s` until no stream is open. A second signal, or SIGINT, stops it at once.
    """
    import uvicorn

    class Server(uvicorn.Server):
        watchdog = systemd.Watchdog()

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                systemd.notify(systemd.READY)

        async def on_tick(self, counter: int) -> bool:
            self.watchdog()  # in the event loop: one that hangs sends no sign of life
            return await super().on_tick(counter)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            systemd.notify(systemd.STOPPING)
            await super().shutdown(sockets)

        async def serve(self, sockets: list[socket.socket] | None = None) -> None:
            if on_loop_failure is not None:
                asyncio.get_running_loop().set_exception_handler(on_loop_failure)
            await super().serve(sockets)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            gracefully = sig == signal.SIGTERM and drain_s + streams_s > 0 and not health.draining
            if not (gracefully and self._begin_draining()):
                super().handle_exit(sig, frame)

        def _begin_draining(self) -> bool:
            health.drain()
            try:
                start_once(self._drain, "draining", failed=lambda _: setattr(self, "should_exit", True))
            except RuntimeError as fault:
                log.warning("the service stops without draining: %s", fault)
                return False
            return True

        def _drain(self) -> None:
            log.info("draining for %g s, and up to %g s more for live calls", drain_s, streams_s)
            time.sleep(drain_s)
            deadline_s = time.monotonic() + streams_s
            while time.monotonic() < deadline_s and open_streams() and not self.should_exit:
                time.sleep(_POLL_S)
            self.should_exit = True

    return Server(config)
