"""A webhook and helpers for tests of a running service's events."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from service_process import ServiceProcess, running
from waiting import wait_until

__all__ = ["SECRET", "Receiver", "ServiceProcess", "kill_runner", "receiving", "running"]

SECRET = "a-secret-of-the-webhook"


def kill_runner(service: ServiceProcess) -> None:
    """Kill the runner as no program can prevent, and see that another takes its place."""
    lock = service.data / "runner.lock"
    pid = int(lock.read_text())
    os.kill(pid, signal.SIGKILL)
    wait_until("another runner starts", lambda: lock.read_text() not in ("", str(pid)))


class Receiver:
    """A webhook's other side. `status` is what it answers; `meanwhile` runs before it does."""

    def __init__(self) -> None:
        self.status = 200
        self.meanwhile: Callable[[], None] = lambda: None
        self.taken: list[dict[str, Any]] = []
        self.offered = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                expected = hmac.new(
                    SECRET.encode(), self.headers["X-Sonant-Timestamp"].encode() + b"." + body, hashlib.sha256
                )
                assert self.headers["X-Sonant-Signature"] == "v1=" + expected.hexdigest()
                documents = json.loads(body)
                receiver.offered += len(documents)
                status = receiver.status
                if status == 200:
                    receiver.taken += documents
                receiver.meanwhile()
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                pass

            def handle(self) -> None:
                with suppress(ConnectionError):  # the runner was killed
                    super().handle()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"

    @property
    def ids(self) -> list[str]:
        """Source ids in the order of their first arrival."""
        return list(dict.fromkeys(one["detail"]["sourceId"] for one in self.taken))


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    threading.Thread(target=receiver.server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        receiver.server.server_close()
