"""The sink `webhook`: events by signed HTTP POST.

    POST <url>
    X-Sonant-Timestamp: 1700000000
    X-Sonant-Signature: v1=<hex of HMAC-SHA256(secret, timestamp + "." + body)>

The body is a JSON array of documents. Any response from 200 to 299 accepts all of them. Every other response,
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

from sonant.addresses import is_link_local, is_loopback
from sonant.errors import SetupError
from sonant.events.sinks import SinkFault
from sonant.settings import Settings
from sonant.threads import start_once

TIMESTAMP_HEADER = "X-Sonant-Timestamp"
SIGNATURE_HEADER = "X-Sonant-Signature"
MIN_SECRET_CHARACTERS = 16


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Return the value of the signature header."""
    return "v1=" + hmac.digest(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hex()


class WebhookSink:
    """Posts batches to one URL. Each request has its own connection and `time_limit_s` in all.

    `http` is for this machine alone. Link-local addresses, where clouds keep the credentials of machines, are
    refused; a name is checked by the address that it leads to, before anything is sent.

    The constructor raises SetupError for a URL that cannot be used and for a secret that is too short.
    `settings` are the names of the settings of both.
    """

    name = "webhook"

    def __init__(
        self,
        url: str,
        *,
        secret: str,
        time_limit_s: float,
        now_s: Callable[[], float] = time.time,
        settings: tuple[str, str] = ("events.webhook_url", "events.webhook_secret"),
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.fragment:
            raise SetupError(
                f"setting {settings[0]} must be an http or https URL without a user or a fragment"
            )
        try:
            self._port = parts.port
        except ValueError:
            raise SetupError(f"setting {settings[0]} has an invalid port") from None
        if len(secret) < MIN_SECRET_CHARACTERS:
            raise SetupError(f"setting {settings[1]} must have at least {MIN_SECRET_CHARACTERS} characters")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise SetupError(
                f"setting {settings[0]} is http to {parts.hostname}, another machine: what is sent there "
                "could be read and changed on the way; use https"
            )
        if is_link_local(parts.hostname):
            raise SetupError(
                f"setting {settings[0]} names {parts.hostname}, a link-local address, which is refused"
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
        """Do nothing: no connection is open between deliveries."""

    def _check_peer(self, connected: socket.socket) -> None:
        """Raise SinkFault for an address that the host's name may not lead to. Nothing has been sent yet."""
        address = str(connected.getpeername()[0])
        if is_link_local(address):
            raise SinkFault(f"the webhook's host {self._host} leads to {address}, a link-local address")
        if self._tls is None and not is_loopback(address):
            raise SinkFault(f"the webhook's host {self._host} leads to {address}: http is for loopback only")

    def _post(self, body: bytes, headers: dict[str, str]) -> int:
        if self._tls is None:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=self._time_limit_s)
        else:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=self._time_limit_s, context=self._tls
            )
        timed_out, done = threading.Event(), threading.Event()

        def close_when_late() -> None:
            # The socket's own time limit starts again with every byte: a slow server could take for ever.
            if done.wait(self._time_limit_s):
                return
            timed_out.set()
            open_socket = connection.sock
            if open_socket is not None:
                with contextlib.suppress(OSError):
                    open_socket.shutdown(socket.SHUT_RDWR)

        start_once(close_when_late, "webhook time limit", failed=lambda _: None)
        try:
            connection.connect()
            self._check_peer(connection.sock)
            if timed_out.is_set():  # there was no socket to close yet
                raise TimeoutError
            connection.request("POST", self._target, body, headers)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException) as fault:
            if timed_out.is_set() or isinstance(fault, TimeoutError):
                reason = f"no answer within {self._time_limit_s:g} s"
            else:
                reason = type(fault).__name__
            raise SinkFault(f"the webhook cannot be reached: {reason}") from None
        finally:
            done.set()
            connection.close()


def build(settings: Settings) -> WebhookSink:
    """Make the sink that the settings describe. Raises SetupError."""
    events = settings.events
    return WebhookSink(
        events.webhook_url, secret=events.webhook_secret, time_limit_s=events.webhook_time_limit_s
    )


BACK_END = build
