"""Send spans by OTLP over HTTP, with OpenTelemetry's SDK. Imported only when traces are on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sonant import __version__
from sonant.errors import SetupError
from sonant.settings import Traces
from sonant.threads import start_once
from sonant.traces import Attributes, Span

log = logging.getLogger(__name__)

#: Spans that wait to be sent, and those of one message. Further spans are dropped.
MOST_WAITING, MESSAGE_MOST = 4096, 512
#: How long spans wait for others, the longest time of one message, and of the last ones when a process ends.
SEND_AFTER_S, SEND_TIME_S, CLOSE_TIME_S = 1.0, 5.0, 2.0

_PROPAGATOR = TraceContextTextMapPropagator()


class OtlpTracer:
    """Begins spans, and sends them from a thread of its own; see `traces.Tracer`."""

    def __init__(self, settings: Traces, process: str) -> None:
        """Start the thread. Raises SetupError when the headers are not `name=value`."""
        # Its own lines would repeat with every message: the exporter below logs once.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        exporter = _Exporter(settings)
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(settings.share)),
            resource=Resource.create(
                {
                    "service.namespace": "sonant",
                    "service.name": f"sonant-{process}",
                    "service.version": __version__,
                }
            ),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                exporter,
                max_queue_size=MOST_WAITING,
                schedule_delay_millis=1000 * SEND_AFTER_S,
                max_export_batch_size=MESSAGE_MOST,
            )
        )
        self._tracer = self._provider.get_tracer("sonant", __version__)

    def begin(
        self,
        name: str,
        *,
        parent: Mapping[str, str] | None = None,
        server: bool = False,
        attributes: Attributes | None = None,
    ) -> Span:
        """Begin a span under a parent of another process, or as the first of a trace."""
        context = _PROPAGATOR.extract(dict(parent or {}), Context())
        kind = trace.SpanKind.SERVER if server else trace.SpanKind.INTERNAL
        span = self._tracer.start_span(name, context, kind, attributes=_given(attributes or {}))
        return _OtlpSpan(self._tracer, span)

    def close(self) -> None:
        """Send what waits. What an unreachable collector has not taken in two seconds is lost."""
        thread = start_once(self._provider.shutdown, "last traces", failed=lambda _: None)
        thread.join(CLOSE_TIME_S)


class _OtlpSpan:
    """See `traces.Span`."""

    __slots__ = ("_span", "_tracer")

    def __init__(self, tracer: trace.Tracer, span: trace.Span) -> None:
        self._tracer, self._span = tracer, span

    @property
    def context(self) -> str:
        found = self._span.get_span_context()
        return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"

    @property
    def trace_id(self) -> str:
        return f"{self._span.get_span_context().trace_id:032x}"

    @property
    def recorded(self) -> bool:
        return bool(self._span.is_recording())

    def child(self, name: str, *, started_ns: int | None = None, **attributes: str | int | float) -> Span:
        context = trace.set_span_in_context(self._span, Context())
        span = self._tracer.start_span(name, context, attributes=attributes, start_time=started_ns)
        return _OtlpSpan(self._tracer, span)

    def describe(self, attributes: Attributes) -> None:
        self._span.set_attributes(_given(attributes))

    def end(self, *, error: str = "", failed: bool = False, ended_ns: int | None = None) -> None:
        if error:
            self._span.set_attribute("error.type", error)
        if failed:
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end(ended_ns)


class _Exporter:
    """Sends spans, and logs once that the collector does not take them, and once that it does again.

    It has the methods of a `SpanExporter`, which the batch processor calls in its thread.
    """

    def __init__(self, settings: Traces) -> None:
        address = urlsplit(settings.endpoint)
        self._where = f"{address.hostname}:{address.port or (443 if address.scheme == 'https' else 80)}"
        self._failing = False
        self._exporter = OTLPSpanExporter(
            endpoint=settings.endpoint.rstrip("/") + "/v1/traces",
            headers=_headers(settings.headers),
            timeout=SEND_TIME_S,
            compression=Compression.Gzip,
        )

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(spans)
        except Exception:  # noqa: BLE001 - whatever it is, the collector has not taken them
            result = SpanExportResult.FAILURE
        failing = result is not SpanExportResult.SUCCESS
        if failing and not self._failing:
            log.warning("traces cannot be sent to %s; they are dropped until they can", self._where)
        elif self._failing and not failing:
            log.info("traces are sent to %s again", self._where)
        self._failing = failing
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return bool(self._exporter.force_flush(timeout_millis))


def _headers(text: str) -> dict[str, str]:
    """Read headers of the form `name=value,name=value`. Raises SetupError."""
    found = {}
    for pair in filter(None, (one.strip() for one in text.split(","))):
        name, equals, value = pair.partition("=")
        if not (name.strip() and equals):
            raise SetupError("setting traces.headers must be name=value, several separated by commas")
        found[name.strip()] = value.strip()
    return found


def _given(attributes: Attributes) -> dict[str, str | int | float]:
    return {name: value for name, value in attributes.items() if value is not None and value != ""}
