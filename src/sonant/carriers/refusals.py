"""Record connections that are refused before a stream can be opened for them: in the log, the audit trail and
the metrics, with carrier, address and reason.

A carrier whose password is wrong tries again and again, and anybody can. The first refusal of a kind
(carrier, address, reason) is recorded at once. Those that follow are counted and, when the interval ends,
recorded as one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any, Protocol

from sonant.carriers.request import StreamRequest
from sonant.errors import (
    AccessDenied,
    GatewayError,
    ModelledError,
    Throttling,
    UnknownRoute,
    Validation,
    WireError,
)

log = logging.getLogger(__name__)

#: Refusals of one kind within so many seconds make one record, after the first.
SUM_S = 60.0
#: Kinds that are told apart at once; further addresses are recorded together.
MOST_KINDS = 1000
#: Shown for addresses that are recorded together.
MANY = "many addresses"


class RefusalReason(StrEnum):
    """Why a connection was refused before a stream could be opened for it."""

    AUTHENTICATION = "AUTHENTICATION"
    """A wrong or missing signature, password, key or token."""
    LIMIT = "LIMIT"
    """The service, the account or the address has as many connections as it may."""
    PARAMETERS = "PARAMETERS"
    """The request's parameters or headers cannot be used."""
    PROTOCOL = "PROTOCOL"
    """What came before the call was named violates the carrier's protocol."""
    NO_CALL = "NO_CALL"
    """No call was named in time."""
    UNKNOWN_PATH = "UNKNOWN_PATH"
    """There is no stream at the path, or its carrier is not configured."""
    FAILED = "FAILED"
    """The service failed."""

    @classmethod
    def of(cls, error: WireError) -> RefusalReason:
        """Return the reason that an error stands for."""
        match error:
            case UnknownRoute():
                return cls.UNKNOWN_PATH
            case AccessDenied() | GatewayError():
                return cls.AUTHENTICATION
            case Throttling():
                return cls.LIMIT
            case Validation():
                return cls.PARAMETERS
        return cls.FAILED


class RecordRefusal(Protocol):
    """Writes a refusal to the audit trail."""

    def __call__(
        self,
        request: StreamRequest,
        carrier: str,
        reason: str,
        error: WireError,
        summed: tuple[int, datetime] | None,
    ) -> None: ...


#: Calls a function after so many seconds, as the event loop's `call_later`.
CallLater = Callable[[float, Callable[[], None]], Any]


@dataclass(slots=True)
class _Kind:
    """Refusals of one kind since the last record."""

    count: int = 0
    first_at: datetime | None = None
    last: tuple[StreamRequest, WireError] | None = None
    recorded: bool = False
    """Whether the audit trail has them already."""


class Refusals:
    """Records refusals. To be used on the event loop."""

    def __init__(
        self,
        record: RecordRefusal,
        count: Callable[[str, str], None],
        threads: Executor,
        call_later: CallLater,
    ) -> None:
        """`record` may wait for the disk and runs in `threads`; `count` counts a carrier's refusal by reason
        in the metrics."""
        self._record, self._count = record, count
        self._threads, self._call_later = threads, call_later
        self._kinds: dict[tuple[str, str, RefusalReason], _Kind] = {}

    def note(
        self,
        carrier: str,
        request: StreamRequest,
        reason: RefusalReason,
        error: WireError,
        *,
        recorded: bool = False,
    ) -> None:
        """Record a refusal, at once or with those like it. `error` has a message that repeats nothing which
        was sent. `recorded`: the audit trail and the metrics have it already, so that it is only logged."""
        if not recorded:
            self._count(carrier, reason.value)
        key = (carrier, request.source_ip, reason)
        if key not in self._kinds and len(self._kinds) >= MOST_KINDS:
            key = (carrier, MANY, reason)
        found = self._kinds.get(key)
        if found is not None:
            found.count += 1
            found.first_at = found.first_at or request.received_at
            found.last = (request, error)
            found.recorded = recorded
            return
        self._kinds[key] = _Kind()
        self._call_later(SUM_S, partial(self._end_interval, key))
        log.warning(
            "a connection of %s from %s was refused (%s): %s",
            carrier or "no known carrier",
            request.source_ip or "an unknown address",
            reason.value,
            _shown(error),
        )
        if not recorded:
            self._write(request, carrier, reason, error, None)

    def close(self) -> None:
        """Record what has been counted."""
        for key in list(self._kinds):
            self._sum(key, self._kinds.pop(key))

    def _end_interval(self, key: tuple[str, str, RefusalReason]) -> None:
        """Record what was counted and go on counting; forget a kind that has not come again."""
        found = self._kinds.pop(key, None)
        if found is None or not found.count:
            return
        self._sum(key, found)
        self._kinds[key] = _Kind()
        self._call_later(SUM_S, partial(self._end_interval, key))

    def _sum(self, key: tuple[str, str, RefusalReason], found: _Kind) -> None:
        if found.last is None or found.first_at is None:
            return
        carrier, address, reason = key
        request, error = found.last
        log.warning(
            "%d more connections of %s from %s were refused (%s) within %g s",
            found.count,
            carrier or "no known carrier",
            address or "an unknown address",
            reason.value,
            SUM_S,
        )
        if not found.recorded:
            self._write(request, carrier, reason, error, (found.count, found.first_at))

    def _write(
        self,
        request: StreamRequest,
        carrier: str,
        reason: RefusalReason,
        error: WireError,
        summed: tuple[int, datetime] | None,
    ) -> None:
        # Where the threads are shut down or have too much to do, the log and the metrics have it.
        with suppress(Throttling, RuntimeError):
            self._threads.submit(self._record, request, carrier, reason.value, error, summed)


def _shown(error: WireError) -> str:
    """Return an error in words; the gateway's errors, but for unknown paths, repeat parts of a request."""
    told = isinstance(error, ModelledError | UnknownRoute)
    return error.message if told and error.message else error.code


def shown_carrier(path: str, known: Container[str]) -> str:
    """Return the name of a known carrier that an unknown path was meant for, empty for none."""
    name = path.rpartition("/")[2]
    return name if name in known else ""
