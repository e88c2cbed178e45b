"""The checks of responses detect faults in status, headers and body."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from client_faults import STATUS
from signed_http import JSON_1_0
from strict_answers import GATEWAY, GATEWAY_STATUS, MODELLED, OPERATIONS, Exchange, answer_faults

from sonant.gateway.models import load_models
from sonant.gateway.protocol import compile_output
from sonant.gateway.samples import sample

REQUEST_ID = "12345678-1234-4234-8234-123456789abc"
DESCRIBE = "VoiceID.DescribeWatchlist"


def answered(target: str | None, status: int, body: bytes | Any, kind: str = JSON_1_0) -> Exchange:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = (
        ("content-type", kind),
        ("content-length", str(len(raw))),
        ("x-amzn-requestid", REQUEST_ID),
    )
    return Exchange(method="POST", path="/", target=target, status=status, headers=headers, body=raw)


def sampled(target: str) -> Exchange:
    shape = load_models().operations[target].output_shape
    return answered(target, 200, compile_output(shape)(None if shape is None else sample(shape)))


@pytest.mark.parametrize("target", OPERATIONS)
def test_a_valid_answer_of_each_operation_passes(target: str) -> None:
    assert answer_faults(sampled(target)) == []


@pytest.mark.parametrize("name", STATUS)
def test_a_valid_modelled_error_passes(name: str) -> None:
    body = {"__type": f"{MODELLED}#{name}", "Message": "why"}
    for target in (None, DESCRIBE):
        if target is None or name in {shape.name for shape in OPERATIONS[target].error_shapes}:
            assert answer_faults(answered(target, STATUS[name], body)) == []


@pytest.mark.parametrize("name", GATEWAY_STATUS)
def test_a_valid_gateway_error_passes(name: str) -> None:
    words = {} if name == "UnknownOperationException" else {"message": "why"}
    body = {"__type": f"{GATEWAY}#{name}", **words}
    assert answer_faults(answered("VoiceID.Nonsense", GATEWAY_STATUS[name], body)) == []


def test_only_the_exact_unknown_route_answer_passes() -> None:
    right = answered(None, 404, b"<UnknownOperationException/>\n", "text/plain")
    assert answer_faults(right) == []
    assert answer_faults(replace(right, status=400))
    assert answer_faults(answered(None, 404, b"<UnknownOperationException/>", "text/plain"))
    assert answer_faults(answered(None, 404, b"<UnknownOperationException/>\n"))


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/metrics", "/sign-in", "/console/style.css"])
def test_console_pages_are_not_checked(path: str) -> None:
    page = Exchange(method="GET", path=path, target=None, status=200, headers=(), body=b"<html>")
    assert answer_faults(page) == []


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"DefaultWatchlist": 0}, "Watchlist.DefaultWatchlist: 0 is no boolean"),
        ({"Description": None}, "Watchlist.Description: null is sent; what is absent is left out"),
        ({"CreatedAt": "2026-01-01"}, "Watchlist.CreatedAt: '2026-01-01' is no finite number"),
        ({"Colour": "red"}, "Watchlist.Colour: Watchlist has no such member"),
        ({"WatchlistId": "short"}, "Watchlist.WatchlistId: 'short' is 5 long, not from 22 to 22"),
    ],
)
def test_a_wrong_value_is_detected(wrong: dict[str, Any], told: str) -> None:
    right = json.loads(sampled(DESCRIBE).body)["Watchlist"]
    found = answer_faults(answered(DESCRIBE, 200, {"Watchlist": {**right, **wrong}}))
    assert found == [f"{DESCRIBE}, 200: {told}"]


WRONG_ERRORS: list[tuple[int, Any]] = [
    (400, {"Message": "why"}),
    (400, {"__type": "ValidationException", "Message": "why"}),
    (400, {"__type": f"{MODELLED}#ValidationException", "message": "why"}),
    (400, {"__type": f"{MODELLED}#ValidationException"}),
    (400, {"__type": f"{MODELLED}#ValidationException", "Message": ""}),
    (400, {"__type": f"{MODELLED}#ValidationException", "Message": "why", "ResourceType": "DOMAIN"}),
    (400, {"__type": f"{MODELLED}#ConflictException", "Message": "why"}),  # not one of a Describe
    (404, {"__type": f"{MODELLED}#ValidationException", "Message": "why"}),
    (404, {"__type": f"{MODELLED}#ResourceNotFoundException", "Message": "why", "ResourceType": "PERSON"}),
    (404, {"__type": f"{MODELLED}#ResourceNotFoundException", "Message": "why", "ResourceType": None}),
    (400, {"__type": f"{MODELLED}#SerializationException", "Message": "why"}),
    (400, {"__type": f"{GATEWAY}#SerializationException"}),
    (400, {"__type": f"{GATEWAY}#SerializationException", "Message": "why"}),
    (400, {"__type": f"{GATEWAY}#SerializationException", "message": None}),
    (403, {"__type": f"{GATEWAY}#InvalidSignatureException", "message": "why"}),
    (400, {"__type": f"{GATEWAY}#UnknownOperationException", "message": "why"}),
    (400, {"__type": f"{GATEWAY}#NonsenseException", "message": "why"}),
    (400, []),
    (400, b""),
    (400, b'{"__type": "x", "__type": "x"}'),
]


@pytest.mark.parametrize(("status", "body"), WRONG_ERRORS)
def test_a_wrong_error_is_detected(status: int, body: Any) -> None:
    assert answer_faults(answered(DESCRIBE, status, body))


def test_a_success_without_request_is_detected() -> None:
    assert answer_faults(answered(None, 200, {}))
    assert answer_faults(answered("VoiceID.DeleteDomain", 200, {}))
    assert answer_faults(answered("VoiceID.TagResource", 200, b""))


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/json"},
        {"content-type": None},
        {"content-length": "7"},
        {"content-length": None},
        {"x-amzn-requestid": None},
        {"x-amzn-requestid": "7"},
        {"x-amzn-requestid": REQUEST_ID.upper()},
    ],
)
def test_a_wrong_header_is_detected(headers: dict[str, str | None]) -> None:
    right = sampled(DESCRIBE)
    changed = {**dict(right.headers), **headers}
    given = tuple((name, value) for name, value in changed.items() if value is not None)
    assert answer_faults(replace(right, headers=given))
    assert answer_faults(replace(right, headers=(*right.headers, right.headers[2])))
