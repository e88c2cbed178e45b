"""The dispatcher: carries events from the outbox to the sinks, at least once and in order.

Each sink has a thread and a cursor of its own, so one that is slow or gone holds up no other. The cursor
moves after the delivery: whoever dies in between delivers again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

from sonant.errors import DatabaseUnavailable, SonantError
from sonant.events import outbox
from sonant.events.sinks import Sink, SinkFault
from sonant.settings import Events
from sonant.storage.database.engine import Database
from sonant.threads import start_loop

log = logging.getLogger(__name__)

#: A process that has not renewed its right to deliver for this long counts as dead; longer than a delivery.
LEASE = timedelta(seconds=120)
#: How long a stop waits for deliveries in hand.
STOP_S = 5.0


class Dispatcher:
    """Start it in the process that runs jobs. `alone`: no other process uses this database."""

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
        self._sinks = sinks
        self._stop = threading.Event()
        couriers = [Courier(sink, database, settings, owner, clock) for sink in sinks]
        self._loops: list[tuple[Callable[[], None], str]] = [
            (partial(courier.run, self._stop, alone), f"events {sink.name}")
            for sink, courier in zip(sinks, couriers, strict=True)
        ]
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        for work, name in self._loops:
            self._threads.append(start_loop(work, name))

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(STOP_S)
        for sink in self._sinks:
            sink.close()


class Courier:
    """Delivers to one sink."""

    def __init__(
        self, sink: Sink, database: Database, settings: Events, owner: str, clock: Callable[[], datetime]
    ) -> None:
        self._sink, self._database, self._settings = sink, database, settings
        self._owner, self._clock = owner, clock
        self._failures = 0
        self._held_until_s: float | None = None  # by the monotonic clock

    def run(self, stop: threading.Event, alone: bool) -> None:
        """Until `stop` is set; whatever goes wrong, it goes on after a pause."""
        known = False
        while not stop.is_set():
            try:
                if not known:
                    self._begin(alone)
                    known = True
                pause_s = self.turn()
                self._failures = 0
            except SonantError as fault:
                pause_s = self._pause_s()
                log.warning("events for %s: %s; next attempt in %.1f s", self._sink.name, fault, pause_s)
            except Exception:  # a fault of ours must not end deliveries for good
                pause_s = self._pause_s()
                log.exception("events for %s: next attempt in %.1f s", self._sink.name, pause_s)
            stop.wait(pause_s)
        if known:
            with suppress(DatabaseUnavailable), self._database.write() as connection:
                outbox.release(connection, self._sink.name, self._owner)

    def turn(self) -> float:
        """Deliver one batch; the pause before the next turn, in seconds. Raises SinkFault."""
        if not self._hold():
            return LEASE.total_seconds() / 4
        with self._database.read() as connection:
            after = outbox.cursor(connection, self._sink.name)
            batch = outbox.after(connection, after, self._settings.batch)
        if not batch:
            return self._settings.poll_s
        taken = self._sink.deliver([kept.document for kept in batch])
        if not taken:
            raise SinkFault("no event was taken")
        with self._database.write() as connection:
            if not outbox.move(connection, self._sink.name, self._owner, batch[taken - 1].sequence):
                self._held_until_s = None  # another process delivers now, and will deliver these once more
        if taken < len(batch):
            raise SinkFault(f"only {taken} of {len(batch)} events were taken")
        return 0.0

    def _begin(self, alone: bool) -> None:
        with self._database.write() as connection:
            outbox.add_sink(connection, self._sink.name)
            if alone:  # whoever held it is dead
                outbox.release(connection, self._sink.name)

    def _hold(self) -> bool:
        now_s, lease_s = time.monotonic(), LEASE.total_seconds()
        if self._held_until_s is not None and now_s < self._held_until_s - lease_s / 2:
            return True
        with self._database.write() as connection:
            held = outbox.hold(connection, self._sink.name, self._owner, self._clock(), LEASE)
        self._held_until_s = now_s + lease_s if held else None
        return held

    def _pause_s(self) -> float:
        pause_s = self._settings.retry_first_s * 2.0 ** min(self._failures, 30)
        self._failures += 1
        return min(pause_s, self._settings.retry_most_s)
