"""Limit the connections of a process, in all and from one address, so that honest callers are answered.

Where there is no room for a new connection, the one is closed that has kept the service waiting longest: one
that is silent, or has sent a part of a request. No connection is closed whose request is being answered, or
which carries a call. So whoever holds thousands of connections loses them, and whoever sends a request at
once is answered.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from sonant.addresses import Network, is_in, parse_address

log = logging.getLogger(__name__)

_NO_DESCRIPTOR = frozenset((errno.EMFILE, errno.ENFILE))
#: Reports of the log are at least this far apart.
REPORT_S = 60.0


class Loss(Enum):
    """Why a connection was lost; the values are labels of the metric `sonant_connections_lost`."""

    DROPPED = "dropped"
    """Closed while it kept the service waiting, to make room for another."""
    REFUSED = "refused"
    """Not accepted: all others were in use."""
    TOO_SLOW = "too_slow"
    """Its request did not arrive, or its response was not read, within the time limit."""
    ABORTED = "aborted"
    """Closed by its client in the middle of a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """How many connections a process may have."""

    most: int
    most_per_address: int
    highest_descriptor: int
    """A connection with a higher file descriptor shows that few are left: the system gives the lowest."""
    proxies: tuple[Network, ...] = ()
    """Trusted proxies, which carry the connections of many clients: no limit for a single address."""

    def for_address(self, address: str) -> int:
        """Return how many connections an address may have."""
        return self.most if is_in(parse_address(address), self.proxies) else self.most_per_address


UNLIMITED = ConnectionLimits(most=1 << 31, most_per_address=1 << 31, highest_descriptor=1 << 31)


class CountedConnection(Protocol):
    """A connection that the table may close."""

    def drop(self) -> None:
        """Close the connection at once. It must not call the table."""
        ...


class _Address:
    """The connections from one address."""

    __slots__ = ("count", "waiting")

    def __init__(self) -> None:
        self.count = 0
        self.waiting: dict[CountedConnection, None] = {}  # the one that has kept waiting longest comes first


class ConnectionTable:
    """Counts connections and makes room for new ones. For the event loop's thread alone."""

    def __init__(self, limits: ConnectionLimits, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self.open = 0
        """Connections that are open now."""
        self._losses: Counter[Loss] = Counter()
        self._monotonic_s = monotonic_s
        self._addresses: dict[str, _Address] = {}
        self._address_of: dict[CountedConnection, str] = {}
        self._reported: Counter[Loss] = Counter()
        self._next_report_s = float("-inf")

    @property
    def losses(self) -> Mapping[Loss, int]:
        """How many connections were lost since the start, by reason."""
        return {loss: self._losses[loss] for loss in Loss}

    def admit(self, connection: CountedConnection, address: str, descriptor: int) -> bool:
        """Count a new connection, which keeps the service waiting until `busy`; False without room for it."""
        entry = self._addresses.get(address)
        if entry is not None and entry.count >= self.limits.for_address(address):
            admitted = self._drop_one(entry)
        elif self.open >= self.limits.most or descriptor > self.limits.highest_descriptor:
            admitted = self._drop_from_crowded()
        else:
            admitted = True
        if not admitted:
            self.note(Loss.REFUSED)
            return False
        entry = self._addresses.setdefault(address, _Address())
        entry.count += 1
        entry.waiting[connection] = None
        self._address_of[connection] = address
        self.open += 1
        return True

    def busy(self, connection: CountedConnection) -> None:
        """Note that the client has sent all that it has to: now it waits for the service."""
        address = self._address_of.get(connection)
        if address is not None:
            self._addresses[address].waiting.pop(connection, None)

    def waits(self, connection: CountedConnection) -> None:
        """Note that the service waits for the client, from now on."""
        address = self._address_of.get(connection)
        if address is not None:
            waiting = self._addresses[address].waiting
            waiting.pop(connection, None)
            waiting[connection] = None

    def closed(self, connection: CountedConnection) -> None:
        """Forget a connection."""
        address = self._address_of.pop(connection, None)
        if address is None:  # not admitted, or dropped
            return
        entry = self._addresses[address]
        entry.waiting.pop(connection, None)
        entry.count -= 1
        self.open -= 1
        if not entry.count:
            del self._addresses[address]

    def on_loop_failure(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle a failure that an event loop reports.

        Where a connection could not be accepted because no file descriptor was left, make room for it: a loop
        would go on trying, thousands of times a second, each time with a traceback in the log.
        """
        fault = context.get("exception")
        if not (isinstance(fault, OSError) and fault.errno in _NO_DESCRIPTOR):
            loop.default_exception_handler(context)
        elif not self._drop_from_crowded():
            self.note(Loss.REFUSED)

    def note(self, loss: Loss) -> None:
        """Count a lost connection, and report in the log how many there were, at most once a minute."""
        self._losses[loss] += 1
        now_s = self._monotonic_s()
        if now_s >= self._next_report_s:
            self._next_report_s = now_s + REPORT_S
            new = self._losses - self._reported
            self._reported = self._losses.copy()
            counts = ", ".join(f"{count} {one.value.replace('_', ' ')}" for one, count in new.items())
            log.warning("connections lost: %s; %d are open", counts, self.open)

    def _drop_from_crowded(self) -> bool:
        """Close a waiting connection of the address with most connections."""
        crowded = max(
            (one for one in self._addresses.values() if one.waiting), key=lambda one: one.count, default=None
        )
        return crowded is not None and self._drop_one(crowded)

    def _drop_one(self, entry: _Address) -> bool:
        connection = next(iter(entry.waiting), None)
        if connection is None:
            return False
        self.closed(connection)
        connection.drop()
        self.note(Loss.DROPPED)
        return True
