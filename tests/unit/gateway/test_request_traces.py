"""The spans of requests: what they hold, whose trace they belong to, and that they never cost an answer."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from operations_testbed import Operations, operations_on
from trace_collector import Collector, collecting
from waiting import in_time, wait_until

from sonant.errors import SetupError
from sonant.gateway.models import load_models
from sonant.gateway.request_context import RequestContext
from sonant.gateway.server import Gateway
from sonant.gateway.throttle import Throttle
from sonant.operations import OPERATIONS
from sonant.operations.service import Caller
from sonant.settings import Gateway as GatewaySettings
from sonant.settings import Settings, Traces, loading
from sonant.storage.repositories import access
from sonant.traces import Tracer, build_tracer, current_span, otlp

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CUSTOMER = "customer-4711"
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def testbed(tmp_path: Path) -> Iterator[Operations]:
    made = operations_on(tmp_path / "data")
    yield made
    made.close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans are sent soon, and given up soon."""
    monkeypatch.setattr(otlp, "SEND_AFTER_S", 0.05)
    monkeypatch.setattr(otlp, "SEND_TIME_S", 0.5)


@contextmanager
def tracing(endpoint: str, **more: Any) -> Iterator[Tracer]:
    tracer = build_tracer(Traces(endpoint=endpoint, **more), "service")
    assert tracer is not None
    yield tracer
    tracer.close()


@contextmanager
def gateway_of(testbed: Operations, tracer: Tracer | None) -> Iterator[Gateway]:
    made = Gateway(
        load_models(),
        OPERATIONS,
        testbed.service,
        None,  # type: ignore[arg-type]  # callers of `call_internal` are signed in
        Throttle({}, lambda: 0.0),
        GatewaySettings(),
        tracer=tracer,
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


def refused_request(gateway: Gateway, trace_parent: str) -> RequestContext:
    """A request that is no JSON, which is found out without a look at its signature."""
    request = RequestContext(
        method="POST",
        path=b"/",
        query=b"",
        headers=[
            (b"content-type", b"application/x-amz-json-1.0"),
            (b"x-amz-target", b"VoiceID.DescribeDomain"),
            (b"traceparent", trace_parent.encode("latin-1")),
        ],
        body=b"{",
    )
    assert asyncio.run(gateway.respond(request))[0] == 400
    return request


def test_a_request_has_a_span_named_by_its_operation(testbed: Operations, collector: Collector) -> None:
    headers = "x-tenant=calls, x-key = a=b"
    with tracing(collector.url, headers=headers) as tracer, gateway_of(testbed, tracer) as gateway:
        domain_id = testbed.new_domain()
        call(gateway, testbed, "OptOutSpeaker", DomainId=domain_id, SpeakerId=CUSTOMER)
        call(gateway, testbed, "DescribeSpeaker", DomainId=domain_id, SpeakerId="nobody")
    (good,), (bad,) = collector.named("OptOutSpeaker"), collector.named("DescribeSpeaker")
    assert (good.process, good.parent_id, good.kind, good.failed) == ("sonant-service", "", 2, False)
    assert good.attributes["http.response.status_code"] == 200
    assert (good.attributes["sonant.domain_id"], good.attributes["cloud.region"]) == (domain_id, "us-east-1")
    assert "error.type" not in good.attributes
    assert (bad.attributes["error.type"], bad.failed) == ("ResourceNotFoundException", False)
    assert good.trace_id != bad.trace_id
    assert good.ended_ns > good.started_ns
    assert CUSTOMER.encode() not in b"".join(collector.bodies)
    assert (collector.headers[0]["x-tenant"], collector.headers[0]["x-key"]) == ("calls", "a=b")


def test_a_callers_trace_goes_on_in_the_request(testbed: Operations, collector: Collector) -> None:
    with tracing(collector.url, share=0.0) as tracer, gateway_of(testbed, tracer) as gateway:
        request = refused_request(gateway, f"00-{TRACE}-{SPAN}-01")
    (span,) = collector.named("DescribeDomain")
    assert (span.trace_id, span.parent_id) == (TRACE, SPAN)
    assert span.attributes["error.type"] == "SerializationException"
    assert span.attributes["sonant.request_id"] == request.request_id


@pytest.mark.parametrize("header", [f"00-{TRACE}-{SPAN}-00", "", f"00-{'0' * 32}-{SPAN}-01", "\xff" * 900])
def test_a_trace_that_is_left_out_sends_nothing(
    testbed: Operations, collector: Collector, header: str
) -> None:
    with tracing(collector.url, share=0.0) as tracer, gateway_of(testbed, tracer) as gateway:
        request = refused_request(gateway, header)
        assert request.span is not None
        assert int(request.span.context[-2:], 16) % 2 == 0, "what comes of it is left out, too"
    assert collector.bodies == []


def test_a_collector_that_is_away_costs_no_answer(
    testbed: Operations, caplog: pytest.LogCaptureFixture
) -> None:
    def calls() -> None:
        with gateway_of(testbed, tracer) as gateway:
            domain_id = testbed.new_domain()
            for _ in range(5000):  # more than may wait
                tracer.begin("request").end()
            assert call(gateway, testbed, "DescribeDomain", DomainId=domain_id)["Domain"]

    with caplog.at_level(logging.INFO), tracing(NOWHERE) as tracer:
        in_time("calls are answered", calls)
        wait_until("it is logged", lambda: "traces cannot be sent" in caplog.text)
    lines = [record.getMessage() for record in caplog.records if "traces" in record.getMessage()]
    assert lines == ["traces cannot be sent to 127.0.0.1:9; they are dropped until they can"]
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]


def test_a_collector_that_comes_back_is_logged_once(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.status = 400
    with caplog.at_level(logging.INFO), tracing(collector.url) as tracer:
        tracer.begin("one").end()
        wait_until("it is logged", lambda: "cannot be sent" in caplog.text)
        collector.status = 200
        tracer.begin("two").end()
        collector.until("two")
        wait_until("it is logged", lambda: "again" in caplog.text)
    assert caplog.text.count("cannot be sent") == caplog.text.count("again") == 1


def test_without_an_endpoint_there_are_no_spans(testbed: Operations) -> None:
    assert build_tracer(Traces(), "service") is None
    with gateway_of(testbed, None) as gateway:
        assert refused_request(gateway, f"00-{TRACE}-{SPAN}-01").span is None
    assert current_span() is None


def test_without_an_endpoint_nothing_is_imported() -> None:
    code = (
        "import sys, sonant.cli.serve, sonant.cli.worker, sonant.assembly.worker_process;"
        "from sonant.settings import Traces; from sonant.traces import build_tracer;"
        "build_tracer(Traces(), 'service');"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sonant.traces.otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(SetupError, match=r"pip install 'sonant\[otel\]'"):
        build_tracer(Traces(endpoint=NOWHERE), "service")


@pytest.mark.parametrize("headers", ["key", "=value", "a=b,c"])
def test_headers_that_are_none_are_refused(headers: str) -> None:
    with pytest.raises(SetupError, match=r"traces\.headers"):
        build_tracer(Traces(endpoint=NOWHERE, headers=headers), "service")


@pytest.mark.parametrize("url", ["localhost:4318", "ftp://collector", "http://", "http://collector/?key=1"])
def test_an_endpoint_that_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(SetupError, match=r"traces\.endpoint"):
        loading.from_flags({"traces.endpoint": url})
    assert isinstance(loading.from_flags({"traces.endpoint": "https://collector:4318/otlp"}), Settings)
