"""HTTP requests signed by botocore's signer, with full control over what is sent."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from service_process import REGION, ServiceProcess
from waiting import PATIENCE_S

JSON_1_0 = "application/x-amz-json-1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response that has the headers of every response."""

    status: int
    content_type: str
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def fault(self) -> str:
        """The last part of an error's `__type`."""
        assert self.content_type == JSON_1_0
        return str(self.json["__type"].rpartition("#")[2])

    @property
    def message(self) -> str | None:
        members: dict[str, str] = self.json
        return members.get("message", members.get("Message"))


class Signer(SigV4Auth):  # type: ignore[misc]  # botocore has no types
    """Botocore's signer with a time of signing and headers to leave unsigned."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        service: str = "voiceid",
        region: str = REGION,
        age_s: float = 0.0,
        unsigned: Sequence[str] = (),
    ) -> None:
        super().__init__(credentials, service, region)
        self._time = datetime.now(UTC) - timedelta(seconds=age_s)
        self._unsigned = frozenset(unsigned)

    def add_auth(self, request: AWSRequest) -> None:
        request.context["timestamp"] = self._time.strftime("%Y%m%dT%H%M%SZ")
        self._modify_request_before_signing(request)
        text = self.string_to_sign(request, self.canonical_request(request))
        self._inject_signature_to_request(request, self.signature(text, request))

    def headers_to_sign(self, request: AWSRequest) -> Any:
        headers = super().headers_to_sign(request)
        for name in self._unsigned:
            del headers[name]
        return headers


def headers_for(
    service: ServiceProcess,
    target: str | None,
    body: bytes = b"",
    *,
    signer: SigV4Auth | None = None,
    content_type: str | None = JSON_1_0,
    more: Mapping[str, str] | None = None,
    path: str = "/",
    method: str = "POST",
) -> dict[str, str]:
    """The headers of a signed request."""
    given = {"Host": f"127.0.0.1:{service.port}", **(more or {})}
    if target is not None:
        given["X-Amz-Target"] = target
    if content_type is not None:
        given["Content-Type"] = content_type
    request = AWSRequest(method=method, url=service.url + path, data=body, headers=given)
    (signer or Signer(service.credentials)).add_auth(request)
    return dict(request.headers.items())


class QuerySigner(SigV4QueryAuth):  # type: ignore[misc]  # botocore has no types
    """Botocore's presigner with the hash of a body, which it would otherwise move into the query."""

    def __init__(self, credentials: Credentials, body: bytes, expires_s: int) -> None:
        super().__init__(credentials, "voiceid", REGION, expires=expires_s)
        self._hash = hashlib.sha256(body).hexdigest()

    def payload(self, request: AWSRequest) -> str:
        return self._hash


def presigned_path(service: ServiceProcess, target: str, body: bytes, *, expires_s: int = 60) -> str:
    """The path and query of a request signed in its query string; its target header is signed too."""
    request = AWSRequest(
        method="POST",
        url=f"{service.url}/",
        headers={"Host": f"127.0.0.1:{service.port}", "X-Amz-Target": target},
    )
    QuerySigner(service.credentials, body, expires_s).add_auth(request)
    return str(request.url).removeprefix(service.url)


def answer_of(connection: http.client.HTTPConnection) -> Answer:
    """Read a response and check the headers that every response has."""
    response = connection.getresponse()
    body = response.read()
    request_id = response.headers["x-amzn-RequestId"]
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", request_id), request_id
    assert uuid.UUID(request_id)
    assert response.headers["Content-Length"] == str(len(body)) or response.status == 200
    return Answer(status=response.status, content_type=response.headers["Content-Type"], body=body)


def exchange(
    service: ServiceProcess,
    headers: Sequence[tuple[str, str]] | Mapping[str, str],
    body: bytes = b"",
    *,
    method: str = "POST",
    path: str = "/",
) -> Answer:
    """Send one request unchanged and read its response."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE_S)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
        names = {name.lower() for name, _ in pairs}
        if "host" not in names:
            pairs.append(("Host", f"127.0.0.1:{service.port}"))
        if not names & {"content-length", "transfer-encoding"}:
            pairs.append(("Content-Length", str(len(body))))
        for name, value in pairs:
            connection.putheader(name, value)
        connection.endheaders(body or None)
        return answer_of(connection)
    finally:
        connection.close()


def call(service: ServiceProcess, target: str | None, body: bytes | Any = b"{}", **signing: Any) -> Answer:
    """Send a signed request; `body` is bytes or a value for JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return exchange(service, headers_for(service, target, raw, **signing), raw)
