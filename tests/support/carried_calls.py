"""Calls sent to a service as carriers send them."""

from __future__ import annotations

import http.client
import io
import json
import socket
import wave
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import soxr
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from numpy.typing import NDArray
from service_process import REGION, ServiceProcess
from signed_http import Signer
from waiting import ASK_S, PATIENCE_S, wait_until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

Samples = NDArray[np.int16]
UNSIGNED = "UNSIGNED-PAYLOAD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The HTTP response that refuses a WebSocket."""

    status: int
    fault: str
    message: str


def samples_of(recording: bytes) -> Samples:
    """Return the samples of a WAV file with one channel."""
    with wave.open(io.BytesIO(recording)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def at_16_khz(samples: Samples) -> Samples:
    return np.asarray(soxr.resample(samples, 8000, 16000))


def mulaw(samples: Samples) -> bytes:
    """Encode G.711 mu-law: eight segments, each with sixteen steps."""
    clipped = np.minimum(np.abs(samples.astype(np.int32)), 32635) + 132
    exponent = np.floor(np.log2(clipped)).astype(int) - 7
    mantissa = (clipped >> (exponent + 3)) & 15
    sign = np.where(samples < 0, 128, 0)
    return bytes((~(sign | (exponent << 4) | mantissa) & 255).astype(np.uint8))


class _Signer(SigV4QueryAuth):  # type: ignore[misc]
    """Signs with a time that may have passed."""

    age_s = 0

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        then = datetime.now(UTC) - timedelta(seconds=self.age_s)
        request.context["timestamp"] = then.strftime("%Y%m%dT%H%M%SZ")
        super()._modify_request_before_signing(request)


def stream_url(
    service: ServiceProcess,
    query: Mapping[str, str],
    *,
    credentials: Credentials | None = None,
    expires_s: int = 3600,
    age_s: int = 0,
    path: str = "/stream",
    region: str = REGION,
    origin: str = "",
    method: str = "GET",
) -> str:
    """Build a presigned WebSocket URL with botocore."""
    url = f"{origin or service.url}{path}?{urlencode(query, quote_via=quote)}"
    request = AWSRequest(method, url)
    signer = _Signer(credentials or service.credentials, "voiceid", region, expires=expires_s)
    signer.age_s = age_s
    signer.add_auth(request)
    return "ws" + str(request.url).removeprefix("http")


def opened(url: str, **how: Any) -> ClientConnection:
    connection: ClientConnection = connect(url, compression=None, proxy=None, open_timeout=PATIENCE_S, **how)
    return connection


def refused(url: str, **how: Any) -> Refused:
    """Open a URL that the service refuses, and return the refusal."""
    try:
        with opened(url, **how):
            raise AssertionError("the stream was accepted")
    except InvalidStatus as answer:
        body = json.loads(answer.response.body or b"{}")
        return Refused(
            status=answer.response.status_code,
            fault=body["__type"].rpartition("#")[2],
            message=body.get("Message", body.get("message", "")),
        )


def messages_until_closed(connection: ClientConnection) -> tuple[list[Any], int | None, str]:
    """Receive until the service closes; return the messages, the close code and its reason."""
    messages: list[Any] = []
    try:
        while True:
            messages.append(connection.recv(timeout=PATIENCE_S))
    except ConnectionClosed:
        return messages, connection.close_code, connection.close_reason or ""


def sent_and_closed(connection: ClientConnection, data: bytes, frame_bytes: int) -> tuple[int | None, str]:
    """Send audio at full speed, then the end; return the close code and its reason."""
    for place in range(0, len(data), frame_bytes):
        connection.send(data[place : place + frame_bytes])
    connection.send(json.dumps({"type": "end"}))
    _, code, reason = messages_until_closed(connection)
    return code, reason


def upload(
    service: ServiceProcess,
    query: Mapping[str, str],
    body: bytes | Iterator[bytes],
    content_type: str,
    *,
    sha256: str = UNSIGNED,
    credentials: Credentials | None = None,
) -> tuple[int, dict[str, Any]]:
    """POST audio, chunked if it comes in pieces; return status and response."""
    path = f"/stream?{urlencode(query, quote_via=quote)}"
    headers = {"Host": f"127.0.0.1:{service.port}", "Content-Type": content_type}
    headers["X-Amz-Content-SHA256"] = sha256
    request = AWSRequest(method="POST", url=service.url + path, headers=headers)
    Signer(credentials or service.credentials).add_auth(request)
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE_S)
    try:
        connection.request("POST", path, body=body, headers=dict(request.headers.items()))
        response = connection.getresponse()
        assert response.headers["x-amzn-RequestId"]
        return response.status, json.loads(response.read())
    finally:
        connection.close()


@contextmanager
def audiosocket(port: int, name: bytes) -> Iterator[socket.socket]:
    """Open an AudioSocket connection that has sent its UUID."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as line:
        line.sendall(b"\x01\x00\x10" + name)
        yield line


def evaluated(service: ServiceProcess, domain_id: str, name: str) -> dict[str, Any]:
    """Wait for a session's authentication decision and return the evaluation."""

    def decided() -> dict[str, Any] | None:
        try:
            found = service.voice_id.evaluate_session(DomainId=domain_id, SessionNameOrId=name)
        except service.voice_id.exceptions.ResourceNotFoundException:
            return None
        known = found.get("AuthenticationResult", {}).get("Decision") in ("ACCEPT", "REJECT")
        return dict(found) if known else None

    return wait_until(f"{name} is decided", decided, look_s=ASK_S) or {}
