"""Traces: spans of requests, jobs and recordings, sent to an OpenTelemetry collector.

Without the setting `traces.endpoint` there is no tracer, no span is begun, and OpenTelemetry is not imported.
A span holds what a line of the log may hold: fixed words, numbers and generated ids. Worker processes only
measure (`jobs.work_time`); who gave them the work begins and ends their spans, so they need no connection.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from sonant.errors import SetupError
from sonant.settings import Traces

#: What a span may be described by; None leaves the attribute out.
Attributes = Mapping[str, str | int | float | None]

EXTRA = "traces need OpenTelemetry: pip install 'sonant[otel]'"


class Span(Protocol):
    """A span that was begun. Its methods may be called in any thread and never block."""

    @property
    def context(self) -> str:
        """The span as the parent of others, in the form of the header `traceparent`."""
        ...

    @property
    def trace_id(self) -> str: ...

    @property
    def recorded(self) -> bool:
        """Whether the span is sent; what only describes it need not be computed otherwise."""
        ...

    def child(self, name: str, *, started_ns: int | None = None, **attributes: str | int | float) -> Span:
        """Begin a span under this one; `started_ns` is its start by the wall clock, by default now."""
        ...

    def describe(self, attributes: Attributes) -> None:
        """Add attributes."""
        ...

    def end(self, *, error: str = "", failed: bool = False, ended_ns: int | None = None) -> None:
        """End the span, with a code of what went wrong; `failed` if that was a failure of Sonant's own."""
        ...


class Tracer(Protocol):
    """Begins the first spans of a process, and sends all of them."""

    def begin(
        self,
        name: str,
        *,
        parent: Mapping[str, str] | None = None,
        server: bool = False,
        attributes: Attributes | None = None,
    ) -> Span:
        """Begin a span. `parent` holds the headers `traceparent` and `tracestate` of another process, if any.

        Without a parent the tracer draws whether the trace is sent; else the parent has decided.
        """
        ...

    def close(self) -> None:
        """Send what waits, for two seconds at most."""
        ...


_current: ContextVar[Span | None] = ContextVar("sonant_span", default=None)


@contextmanager
def current(span: Span) -> Iterator[None]:
    """Make a span the current one of this thread or task, within the block."""
    token = _current.set(span)
    try:
        yield
    finally:
        _current.reset(token)


def current_span() -> Span | None:
    """Return the span of the request that this thread works on; None without one."""
    return _current.get()


def build_tracer(settings: Traces, process: str) -> Tracer | None:
    """Build the tracer of a process, such as `service`; None when traces are off. Raises SetupError."""
    if not settings.endpoint:
        return None
    try:
        from sonant.traces.otlp import OtlpTracer
    except ImportError:
        raise SetupError(EXTRA) from None
    return OtlpTracer(settings, process)
