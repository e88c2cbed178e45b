"""The line of each request in the log: what it holds, which requests have one, and what no line holds."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from operations_testbed import Operations, operations_on

from sonant import logs
from sonant.errors import ResourceNotFound, Throttling, WireError
from sonant.gateway.models import load_models
from sonant.gateway.request_context import RequestContext
from sonant.gateway.request_log import RequestLog, trace_of
from sonant.gateway.server import Gateway
from sonant.gateway.throttle import Throttle
from sonant.operations import OPERATIONS
from sonant.operations.service import Caller
from sonant.settings import Gateway as GatewaySettings
from sonant.storage.repositories import access

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
CUSTOMER, NAME = "customer-4711", "the name of a domain"


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """The log as JSON, all levels."""
    root, own, text = logging.getLogger(), logging.getLogger("sonant"), io.StringIO()
    before, level = list(root.handlers), own.level
    logs.configure("debug", "json", text)
    yield text
    root.handlers[:] = before
    own.setLevel(level)
    logging.captureWarnings(False)


def lines(written: io.StringIO) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in written.getvalue().splitlines()]
    return [line for line in found if line["message"] == "request"]


def request(*headers: tuple[bytes, bytes], error: WireError | None = None, **more: Any) -> RequestContext:
    made = RequestContext(method="POST", path=b"/", query=b"", headers=headers, source_ip="192.0.2.1", **more)
    made.error = error
    return made


@pytest.fixture
def testbed(tmp_path: Path) -> Iterator[Operations]:
    made = operations_on(tmp_path / "data")
    yield made
    made.close()


@pytest.fixture
def gateway(testbed: Operations) -> Iterator[Gateway]:
    made = Gateway(
        load_models(),
        OPERATIONS,
        testbed.service,
        None,  # type: ignore[arg-type]  # callers of `call_internal` are signed in
        Throttle({}, lambda: 0.0),
        GatewaySettings(),
        request_log=RequestLog(share=1.0),
    )
    yield made
    made.close()


def call(gateway: Gateway, testbed: Operations, operation: str, **parameters: Any) -> dict[str, Any]:
    arn = f"arn:aws:iam::{testbed.settings.account}:user/sonant"
    with testbed.store.database.read() as connection:
        principal = access.find_principal(connection, arn)
    assert principal is not None
    answer = gateway.call_internal(
        Caller(principal=principal, region=testbed.settings.region),
        "AKIA0",
        operation,
        parameters,
        headers=(),
        source_ip="192.0.2.1",
        secure=True,
    )
    found: dict[str, Any] = json.loads(answer or b"{}")
    return found


def test_a_call_has_a_line_with_its_ids_and_outcome(
    gateway: Gateway, testbed: Operations, written: io.StringIO
) -> None:
    domain_id = testbed.new_domain()
    call(gateway, testbed, "DescribeDomain", DomainId=domain_id)
    call(gateway, testbed, "DescribeSpeaker", DomainId=domain_id, SpeakerId=CUSTOMER)
    first, second = lines(written)
    assert first["level"] == "INFO"
    assert (first["operation"], first["status"], first["domain"]) == ("DescribeDomain", 200, domain_id)
    assert first["principal"] == f"arn:aws:iam::{testbed.settings.account}:user/sonant"
    assert (first["account"], first["region"]) == (testbed.settings.account, testbed.settings.region)
    assert (first["source_ip"], "error" in first) == ("192.0.2.1", False)
    assert isinstance(first["ms"], float)
    assert (second["status"], second["error"]) == (404, "ResourceNotFoundException")
    assert first["request_id"] != second["request_id"]


def test_no_line_holds_a_customers_id_or_a_name(
    gateway: Gateway, testbed: Operations, written: io.StringIO
) -> None:
    domain_id = testbed.new_domain()
    call(gateway, testbed, "OptOutSpeaker", DomainId=domain_id, SpeakerId=CUSTOMER)
    call(gateway, testbed, "DescribeSpeaker", DomainId=domain_id, SpeakerId=CUSTOMER)
    call(gateway, testbed, "StartSession", DomainId=domain_id, SessionName="s" + CUSTOMER, SpeakerId=CUSTOMER)
    call(gateway, testbed, "CreateWatchlist", DomainId=domain_id, Name=NAME, Description=CUSTOMER)
    call(gateway, testbed, "DeleteSpeaker", DomainId=domain_id, SpeakerId=CUSTOMER)
    call(gateway, testbed, "DescribeSpeaker", DomainId=domain_id, SpeakerId=CUSTOMER)
    assert len(lines(written)) == 6
    assert CUSTOMER not in written.getvalue()
    assert NAME not in written.getvalue()


def test_a_started_session_is_named_by_its_generated_id(
    gateway: Gateway, testbed: Operations, written: io.StringIO
) -> None:
    domain_id = testbed.new_domain()
    answer = call(gateway, testbed, "StartSession", DomainId=domain_id, SessionName="a-session")
    (line,) = lines(written)
    assert line["session"] == answer["Session"]["SessionId"]


@pytest.mark.parametrize(
    ("share", "drawn", "error", "polled", "logged"),
    [
        (1.0, 0.999, None, False, True),
        (0.0, 0.0, None, False, False),
        (0.25, 0.24, None, False, True),
        (0.25, 0.25, None, False, False),
        (0.0, 0.5, ResourceNotFound("DOMAIN"), False, True),
        (1.0, 0.0, None, True, False),
        (0.0, 0.5, Throttling(), True, True),
    ],
)
def test_which_requests_are_logged(
    written: io.StringIO, share: float, drawn: float, error: WireError | None, polled: bool, logged: bool
) -> None:
    made = request(error=error, polled=polled)
    RequestLog(share=share, draw=lambda: drawn).write(made, 0.0123)
    assert [line["ms"] for line in lines(written)] == ([12.3] if logged else [])


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"01-{TRACE}-{SPAN}-00-what-later-versions-add", True),
        (f"ff-{TRACE}-{SPAN}-01", False),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE.upper()}-{SPAN}-01", False),
        (f"00-{TRACE}-{SPAN}", False),
        ("", False),
    ],
)
def test_the_trace_context_of_the_caller_is_logged(written: io.StringIO, header: str, found: bool) -> None:
    made = request((b"traceparent", header.encode()))
    assert trace_of(made.headers) == ((TRACE, SPAN) if found else None)
    RequestLog(share=1.0).write(made, 0.0)
    (line,) = lines(written)
    assert (line.get("trace_id"), line.get("parent_span_id")) == ((TRACE, SPAN) if found else (None, None))
