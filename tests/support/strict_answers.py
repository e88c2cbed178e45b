"""Checks every response of the service against the models: status, headers and each value of the body."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import botocore.loaders
from botocore.model import OperationModel, ServiceModel, Shape
from client_faults import STATUS
from signed_http import JSON_1_0
from strict_json import NotStrict, read_json
from strict_shapes import faults

from sonant.gateway.models import DATA_PATH
from sonant.web.console import PREFIXES

_BUILT_IN = botocore.loaders.Loader.BUILTIN_DATA_PATH


def _model(service: str, folder: str) -> ServiceModel:
    loader = botocore.loaders.Loader([folder], include_default_search_paths=False)
    return ServiceModel(loader.load_service_model(service, "service-2"), service)


_MODELS = (_model("voice-id", _BUILT_IN), _model("sonant", str(DATA_PATH)))
#: Every operation of both models, by target.
OPERATIONS: Mapping[str, OperationModel] = {
    f"{model.metadata['targetPrefix']}.{name}": model.operation_model(name)
    for model in _MODELS
    for name in model.operation_names
}
#: The errors of AWS's model, for responses without a known operation.
ERRORS: Mapping[str, Shape] = {shape.name: shape for shape in _MODELS[0].error_shapes}

MODELLED, GATEWAY = "com.amazonaws.voiceid", "com.amazon.coral.service"
#: Statuses of the gateway's own errors, which are in no model.
GATEWAY_STATUS = {
    "ExpiredTokenException": 400,
    "IncompleteSignatureException": 400,
    "InvalidSignatureException": 400,
    "MissingAuthenticationTokenException": 400,
    "RequestEntityTooLargeException": 413,
    "SerializationException": 400,
    "UnknownOperationException": 400,
    "UnrecognizedClientException": 400,
}
WITHOUT_MESSAGE = frozenset({"UnknownOperationException"})
NO_ROUTE = (404, "text/plain", b"<UnknownOperationException/>\n")
_PAGES = frozenset({("GET", "/health"), ("GET", "/health/ready"), ("GET", "/metrics")})
_STREAM = "/stream"
_UPLOADED = {"SessionId": str, "HeardSeconds": float, "NetSpeechSeconds": float}

#: The setting that the error for requests of other services names.
MISDIRECTED = b"AWS_ENDPOINT_URL_VOICE_ID"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A response, and what it depends on of its request."""

    method: str
    path: str
    target: str | None
    """The header X-Amz-Target."""
    status: int
    headers: tuple[tuple[str, str], ...]
    """Names in lower case."""
    body: bytes

    @property
    def judged(self) -> bool:
        """Whether it is a response of the API, not of the console, health or metrics."""
        if (self.method, self.path, self.status) == ("GET", "/", 303):
            return False  # a browser is sent to the console
        return (self.method, self.path) not in _PAGES and not self.path.startswith(PREFIXES)

    @property
    def error(self) -> str | None:
        """The name of its error, `unreadable` if it has none; None for a success."""
        if self.status == 200:
            return None
        try:
            return str(read_json(self.body)["__type"]).rpartition("#")[2]
        except (NotStrict, TypeError, KeyError):
            return "unreadable"

    def values(self, name: str) -> list[str]:
        return [value for known, value in self.headers if known == name]


def exchange_of(noted: Mapping[str, Any]) -> Exchange:
    """Make the exchange of a record of `answer_tap`."""
    headers = tuple((name, value) for name, value in noted["headers"])
    return Exchange(**{**noted, "headers": headers, "body": base64.b64decode(noted["body"])})


def answer_faults(exchange: Exchange) -> list[str]:
    """List the faults of a response by the models and AWS JSON 1.0."""
    if not exchange.judged:
        return []
    return [f"{exchange.target or exchange.path}, {exchange.status}: {fault}" for fault in _faults(exchange)]


def _faults(exchange: Exchange) -> Iterator[str]:
    yield from _header_faults(exchange)
    kind = ", ".join(exchange.values("content-type"))
    if (exchange.status, kind, exchange.body) == NO_ROUTE:
        return
    if exchange.status == 200 and exchange.path.startswith(_STREAM):
        yield from _upload_faults(kind, exchange.body)
        return
    if exchange.status == 400 and exchange.target not in OPERATIONS and MISDIRECTED in exchange.body:
        return  # in the form of another service's protocol, which `test_other_services` reads with its client
    if kind != JSON_1_0:
        yield f"the content type is {kind!r}"
    operation = OPERATIONS.get(exchange.target or "")
    if exchange.status == 200 and operation is None:
        yield "a success without an operation"
    elif exchange.status == 200 and operation is not None and operation.output_shape is None:
        if exchange.body:
            yield "a body, although the operation has no output"
    else:
        try:
            document = read_json(exchange.body)
        except NotStrict as fault:
            yield f"the body is no JSON: {fault}"
            return
        if exchange.status == 200 and operation is not None:
            yield from faults(operation.output_shape, document)
        else:
            yield from _error_faults(exchange, operation, document)


def _header_faults(exchange: Exchange) -> Iterator[str]:
    for name in ("content-type", "content-length", "x-amzn-requestid"):
        if len(exchange.values(name)) != 1:
            yield f"{len(exchange.values(name))} headers {name}"
    for value in exchange.values("content-length"):
        if value != str(len(exchange.body)):
            yield f"content-length is {value} for {len(exchange.body)} bytes"
    for value in exchange.values("x-amzn-requestid"):
        try:
            if str(uuid.UUID(value)) != value:
                yield f"the request id {value!r} is not written as a UUID is"
        except ValueError:
            yield f"the request id {value!r} is no UUID"


def _upload_faults(kind: str, body: bytes) -> Iterator[str]:
    """Uploads are no operation; docs/live.md has the form of their response."""
    if kind != "application/json":
        yield f"the content type is {kind!r}"
    document = read_json(body)
    if {name: type(value) for name, value in document.items()} != _UPLOADED:
        yield f"an upload's answer with the members {sorted(document)}"


def _error_faults(exchange: Exchange, operation: OperationModel | None, document: object) -> Iterator[str]:
    if type(document) is not dict or type(document.get("__type")) is not str:
        yield "an error without a __type"
        return
    namespace, _, name = document["__type"].rpartition("#")
    members = {member: value for member, value in document.items() if member != "__type"}
    if namespace == GATEWAY:
        elsewhere = name == "UnknownOperationException" and exchange.path != "/"  # that is said in words
        wanted = set() if name in WITHOUT_MESSAGE and not elsewhere else {"message"}
        if set(members) != wanted:
            yield f"{name} with the members {sorted(members)}"
        if any(type(value) is not str or not value for value in members.values()):
            yield f"{name} whose message is no text"
        status = GATEWAY_STATUS.get(name)
        status = 404 if elsewhere else status
    elif namespace == MODELLED:
        known = ERRORS if operation is None else {shape.name: shape for shape in operation.error_shapes}
        if name not in known:
            yield f"{name} is none of the operation's errors"
            return
        yield from faults(known[name], members)
        if "Message" not in members:
            yield f"{name} without a Message"
        status = STATUS[name]
    else:
        yield f"__type is {document['__type']!r}"
        return
    challenged = exchange.status == 401 and exchange.path.startswith(_STREAM)
    if exchange.status != status and not (challenged and exchange.values("www-authenticate")):
        yield f"{name} goes with the status {status}"
