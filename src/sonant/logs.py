"""The log: one line an entry, as text or JSON, with times in UTC and the facts that belong to each entry.

Facts are names and values beside the message, such as the request's id. They hold generated ids, numbers and
fixed words: no customers' ids, no names, no scores, nothing of a voice (`tests/unit/core/test_logs.py`).
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TextIO

import orjson

#: Names of levels, from the one that logs most.
LEVELS = ("debug", "info", "warning", "error")
FORMS = ("text", "json")

#: The package's logger: other packages' loggers stay at warnings, whatever the level.
_OWN = "sonant"
_FACTS = "sonant_facts"
_NONE: Mapping[str, object] = MappingProxyType({})
_context: ContextVar[Mapping[str, object]] = ContextVar("sonant_log_facts", default=_NONE)


def configure(level: str, form: str, stream: TextIO | None = None) -> None:
    """Log entries from `level` on to `stream`, by default the standard error; the last call counts."""
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    for former in [one for one in root.handlers if isinstance(one, _Handler)]:
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger(_OWN).setLevel(level.upper())
    logging.captureWarnings(True)


def note(log: logging.Logger, level: int, message: str, **facts: object) -> None:
    """Log a message with facts; those whose value is None or empty are left out."""
    if log.isEnabledFor(level):
        given = {name: value for name, value in facts.items() if value is not None and value != ""}
        # Not by `log.log`, which looks for the caller's file and line in the stack: that costs as much again.
        log.handle(log.makeRecord(log.name, level, "", 0, message, (), None, extra={_FACTS: given}))


@contextmanager
def facts(**given: object) -> Iterator[None]:
    """Add facts to every entry that this thread or task logs within the block."""
    token = _context.set({**_context.get(), **given})
    try:
        yield
    finally:
        _context.reset(token)


def facts_of(record: logging.LogRecord) -> dict[str, object]:
    """Return the facts of an entry: those of the block that it was logged in, and its own."""
    return {**_context.get(), **getattr(record, _FACTS, {})}


class TextFormatter(logging.Formatter):
    """Writes `2026-11-30T20:51:55.123Z INFO sonant.gateway.server: message name=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """Format an entry. Control characters of the message are escaped: an entry begins with its time."""
        told = "".join(f" {name}={_shown(value)}" for name, value in facts_of(record).items())
        line = f"{_time(record)} {record.levelname} {record.name}: {_escaped(record.getMessage())}{told}"
        if record.exc_info:
            line += f"\n{self.formatException(record.exc_info)}"
        return line


class JsonFormatter(logging.Formatter):
    """Writes an object with time, level, logger, message, the facts, and the exception if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Format an entry as one line."""
        document: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
            "thread": record.threadName,
            **facts_of(record),
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(document, default=str).decode()


class _Handler(logging.StreamHandler[TextIO]):
    """The handler that `configure` adds, and by its class the one that it replaces."""


def _time(record: logging.LogRecord) -> str:
    """Write the time as RFC 3339 has it, in UTC with milliseconds."""
    seconds = int(record.created)
    return f"{_second(seconds)}.{int((record.created - seconds) * 1000):03d}Z"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    """Write a second of time; cached, because many entries have the same."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return json.dumps(value, default=str, ensure_ascii=False)
    if isinstance(value, int | float):
        return str(value)
    text = str(value)
    if text and text.isprintable() and " " not in text and '"' not in text and "=" not in text:
        return text
    return json.dumps(text, ensure_ascii=False)


def _escaped(message: str) -> str:
    if message.isprintable():
        return message
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in message)
