"""A server that stops gently: it says that it will, goes on for a while, and then ends."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from sonant.threads import start_once

if TYPE_CHECKING:
    import uvicorn

    from sonant.gateway.health import Health

log = logging.getLogger(__name__)

_LOOK_S = 0.2


def draining_server(
    config: uvicorn.Config,
    health: Health,
    open_streams: Callable[[], int],
    *,
    drain_s: float,
    streams_s: float,
) -> uvicorn.Server:
    """After SIGTERM it is not ready any more and answers for `drain_s` whatever still comes; then for up to
    `streams_s` until no call is listened to. A second signal, or SIGINT, ends it at once."""
    import uvicorn

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            gently = sig == signal.SIGTERM and drain_s + streams_s > 0 and not health.draining
            if not (gently and self._begin_to_drain()):
                super().handle_exit(sig, frame)

        def _begin_to_drain(self) -> bool:
            health.drain()
            try:
                start_once(self._drain, "draining", failed=lambda _: setattr(self, "should_exit", True))
            except RuntimeError as fault:
                log.warning("the service ends without draining: %s", fault)
                return False
            return True

        def _drain(self) -> None:
            log.info("draining for %g s, and up to %g s for live calls", drain_s, streams_s)
            time.sleep(drain_s)
            until_s = time.monotonic() + streams_s
            while time.monotonic() < until_s and open_streams() and not self.should_exit:
                time.sleep(_LOOK_S)
            self.should_exit = True

    return Server(config)
