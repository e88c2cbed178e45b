"""Delivers events from the outbox to the sinks, at least once and in order.

Each sink has its own thread and cursor, so that a slow or unreachable one does not delay the others. The
cursor advances after the delivery: after a crash in between, events are delivered again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

from sonant.backoff import Backoff
from sonant.errors import DatabaseUnavailable, SonantError
from sonant.events import outbox
from sonant.events.sinks import Sink, SinkFault
from sonant.settings import Events
from sonant.storage.database.engine import Database
from sonant.threads import start_loop

log = logging.getLogger(__name__)

#: A process that has not renewed its lease for this time counts as dead; longer than a delivery.
LEASE = timedelta(seconds=120)
#: How long `stop` waits for running deliveries.
STOP_S = 5.0


class Dispatcher:
    """Delivers to all sinks. To be started in the process that runs jobs."""

    def __init__(
        self,
        *,
        database: Database,
        sinks: Sequence[Sink],
        settings: Events,
        owner: str,
        alone: bool,
        clock: Callable[[], datetime],
    ) -> None:
        """`owner` names this process in leases. `alone`: no other process uses this database."""
        self._sinks = sinks
        self._stop = threading.Event()
        deliveries = [Delivery(sink, database, settings, owner, clock) for sink in sinks]
        self._loops: list[tuple[Callable[[], None], str]] = [
            (partial(delivery.run, self._stop, alone), f"events {sink.name}")
            for sink, delivery in zip(sinks, deliveries, strict=True)
        ]
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start one thread for each sink, and one that purges old events."""
        for work, name in self._loops:
            self._threads.append(start_loop(work, name))

    def stop(self) -> None:
        """Stop all threads and close the sinks."""
        self._stop.set()
        for thread in self._threads:
            thread.join(STOP_S)
        for sink in self._sinks:
            sink.close()


class Delivery:
    """Delivers events to one sink."""

    def __init__(
        self, sink: Sink, database: Database, settings: Events, owner: str, clock: Callable[[], datetime]
    ) -> None:
        self._sink, self._database, self._settings = sink, database, settings
        self._owner, self._clock = owner, clock
        self._pauses = Backoff(settings.retry_first_s, settings.retry_most_s)
        self._lease_until_s: float | None = None  # by the monotonic clock

    def run(self, stop: threading.Event, alone: bool) -> None:
        """Deliver until `stop` is set. After any error it continues after a pause."""
        registered = False
        while not stop.is_set():
            try:
                if not registered:
                    self._register(alone)
                    registered = True
                pause_s = self.deliver_batch()
                self._pauses.reset()
            except SonantError as fault:
                pause_s = self._pauses.next_s()
                log.warning("events for %s: %s; next attempt in %.1f s", self._sink.name, fault, pause_s)
            except Exception:  # no error may end deliveries for good
                pause_s = self._pauses.next_s()
                log.exception("events for %s: next attempt in %.1f s", self._sink.name, pause_s)
            stop.wait(pause_s)
        if registered:
            with suppress(DatabaseUnavailable), self._database.write() as connection:
                outbox.release(connection, self._sink.name, self._owner)

    def deliver_batch(self) -> float:
        """Deliver one batch; return the pause before the next one, in seconds. Raises SinkFault."""
        if not self._acquire_lease():
            return LEASE.total_seconds() / 4
        with self._database.read() as connection:
            after = outbox.cursor(connection, self._sink.name)
            batch = outbox.events_after(connection, after, self._settings.batch)
        if not batch:
            return self._settings.poll_s
        delivered = self._sink.deliver([event.document for event in batch])
        if not delivered:
            raise SinkFault("no event was accepted")
        with self._database.write() as connection:
            last = batch[delivered - 1].sequence
            if not outbox.advance_cursor(connection, self._sink.name, self._owner, last):
                self._lease_until_s = None  # another process delivers now, and delivers these again
        if delivered < len(batch):
            raise SinkFault(f"only {delivered} of {len(batch)} events were accepted")
        return 0.0

    def _register(self, alone: bool) -> None:
        with self._database.write() as connection:
            outbox.add_sink(connection, self._sink.name)
            if alone:  # the process of an old lease is dead
                outbox.release(connection, self._sink.name)

    def _acquire_lease(self) -> bool:
        now_s, lease_s = time.monotonic(), LEASE.total_seconds()
        if self._lease_until_s is not None and now_s < self._lease_until_s - lease_s / 2:
            return True
        with self._database.write() as connection:
            acquired = outbox.acquire_lease(connection, self._sink.name, self._owner, self._clock(), LEASE)
        self._lease_until_s = now_s + lease_s if acquired else None
        return acquired
