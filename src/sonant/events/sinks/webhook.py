"""Events by HTTP POST, signed.

    POST <url>
    X-Sonant-Timestamp: 1700000000
    X-Sonant-Signature: v1=<hex of HMAC-SHA256(secret, timestamp + "." + body)>

The body is a JSON array of documents. Any answer from 200 to 299 takes all of them; every other answer,
redirects included, is a failure, and the same documents come again.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from sonant.errors import SetupError
from sonant.events.sinks import SinkFault
from sonant.threads import start_once

TIMESTAMP_HEADER = "X-Sonant-Timestamp"
SIGNATURE_HEADER = "X-Sonant-Signature"
LEAST_SECRET_CHARACTERS = 16


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """The value of the signature header."""
    return "v1=" + hmac.digest(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hex()


class WebhookSink:
    """Posts batches to one URL; each request has a connection of its own and `time_limit_s` in all.

    Raises SetupError for a URL that is not plain http(s) and for a secret that is too short.
    """

    name = "webhook"

    def __init__(
        self, url: str, *, secret: str, time_limit_s: float, now_s: Callable[[], float] = time.time
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.fragment:
            raise SetupError(
                "setting events.webhook_url must be an http or https URL without a user or a fragment"
            )
        try:
            self._port = parts.port
        except ValueError:
            raise SetupError("setting events.webhook_url has a port that is none") from None
        if len(secret) < LEAST_SECRET_CHARACTERS:
            raise SetupError(
                f"setting events.webhook_secret must have at least {LEAST_SECRET_CHARACTERS} characters"
            )
        self._host = parts.hostname
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._secret, self._time_limit_s, self._now_s = secret, time_limit_s, now_s

    def deliver(self, documents: Sequence[bytes]) -> int:
        body = b"[" + b",".join(documents) + b"]"
        timestamp = str(int(self._now_s()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "sonant",
            TIMESTAMP_HEADER: timestamp,
            SIGNATURE_HEADER: signature(self._secret, timestamp, body),
        }
        status = self._post(body, headers)
        if not 200 <= status < 300:
            raise SinkFault(f"the webhook answered {status}")
        return len(documents)

    def close(self) -> None:
        """Nothing is held open between deliveries."""

    def _post(self, body: bytes, headers: dict[str, str]) -> int:
        if self._tls is None:
            peer = http.client.HTTPConnection(self._host, self._port, timeout=self._time_limit_s)
        else:
            peer = http.client.HTTPSConnection(
                self._host, self._port, timeout=self._time_limit_s, context=self._tls
            )
        late, done = threading.Event(), threading.Event()

        def cut() -> None:
            # The socket's own time limit begins anew with every byte: a peer that drips could go on for ever.
            if done.wait(self._time_limit_s):
                return
            late.set()
            open_socket = peer.sock
            if open_socket is not None:
                with contextlib.suppress(OSError):
                    open_socket.shutdown(socket.SHUT_RDWR)

        start_once(cut, "webhook time limit", failed=lambda _: None)
        try:
            peer.connect()
            if late.is_set():  # there was nothing to cut yet
                raise TimeoutError
            peer.request("POST", self._target, body, headers)
            return peer.getresponse().status
        except (OSError, http.client.HTTPException) as fault:
            if late.is_set() or isinstance(fault, TimeoutError):
                why = f"no answer within {self._time_limit_s:g} s"
            else:
                why = type(fault).__name__
            raise SinkFault(f"the webhook cannot be reached: {why}") from None
        finally:
            done.set()
            peer.close()
