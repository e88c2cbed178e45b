"""The audio queue between a carrier and the listener thread, and the end of a stream from either side.

The carrier's side only stores what came; the listener thread processes it (see `listener`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from sonant.sessions.calls import EndReason, StreamEnded, StreamFault

log = logging.getLogger(__name__)

#: Longest audio that may wait for the listener, in seconds.
ROOM_S = 10.0
RATES_HZ = range(8_000, 48_001)

Samples = NDArray[np.int16]


class Stream:
    """One call's audio. `push`, `end` and `room_s` never block, so the event loop may call them."""

    def __init__(
        self,
        session_id: str,
        clock: Callable[[], datetime],
        wake: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`wake` wakes the listener thread."""
        self.session_id = session_id
        self._clock, self._wake, self._monotonic = clock, wake, monotonic
        self._lock = threading.Lock()
        self._waiting: list[Samples] = []
        self._count = 0
        self._rate_hz = 0
        self._started_at: datetime | None = None
        self._opened_s = self._last_audio_s = monotonic()
        self._end_reason: EndReason | None = None
        self._ended_by_service = False
        self._callbacks: list[Callable[[EndReason], None]] = []
        self._drained = threading.Condition(self._lock)
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._in_work = False  # samples were taken that are not processed, or a result is not stored
        self._closed = False
        self.connected = False
        """Whether a connection is open that is closed within seconds when it is dead: then silence is a pause
        of the call. Set by the carrier's side."""
        self.results_lost = False
        """Whether a result could not be stored, so that the session is incomplete."""
        self.heard_s = self.net_speech_s = 0.0
        """Audio processed and net speech found so far, in seconds; set by the listener."""

    # --- the carrier's side

    def push(self, samples: Samples, rate_hz: int) -> None:
        """Append audio of the caller, in order; int16, [n], kept and not copied.

        Raises StreamFault, and takes nothing, when the stream has ended, the rate changes or is not in
        RATES_HZ, or more audio would wait than ROOM_S.
        """
        with self._lock:
            if self._end_reason is not None:
                raise StreamEnded(self._end_reason)
            if rate_hz != self._rate_hz or not rate_hz:
                self._set_rate(rate_hz)
            if not len(samples):
                return
            if self._count + len(samples) > ROOM_S * rate_hz:
                raise StreamFault(
                    f"more than {ROOM_S:g} s of audio wait to be listened to", EndReason.OVERRUN
                )
            if self._started_at is None:
                self._started_at = self._clock()
            self._waiting.append(samples)
            self._count += len(samples)
            self._last_audio_s = self._monotonic()

    def _set_rate(self, rate_hz: int) -> None:
        if self._rate_hz:
            raise StreamFault("the sample rate changed within the stream")
        if rate_hz not in RATES_HZ:
            raise StreamFault(f"the sample rate must be {RATES_HZ[0]} to {RATES_HZ[-1]} Hz")
        self._rate_hz = rate_hz

    @property
    def room_s(self) -> float:
        """Seconds of audio that may be pushed now."""
        return ROOM_S - self._count / self._rate_hz if self._rate_hz else ROOM_S

    def end(self, reason: EndReason) -> None:
        """End the stream from the carrier's side. Audio pushed before is still processed; the first reason
        counts."""
        with self._lock:
            if self._end_reason is not None:
                return
            self._end_reason = reason
        self._wake()

    def on_end(self, callback: Callable[[EndReason], None]) -> None:
        """Call `callback` once, from any thread, when the service ends the stream; at once if it has. It is
        not called when the carrier ends the stream itself."""
        with self._lock:
            if not self._ended_by_service:
                if self._end_reason is None:
                    self._callbacks.append(callback)
                return
            reason = self._end_reason
        assert reason is not None
        callback(reason)

    def wait_drained(self, timeout_s: float) -> bool:
        """Wait until all audio is processed and its results are stored; after `end`, until the end is stored
        as well. False after `timeout_s` seconds."""
        with self._drained:
            self._wake()
            return self._drained.wait_for(self._is_drained, timeout_s)

    async def drained(self) -> None:
        """Wait like `wait_drained`, without a time limit and without blocking a thread."""
        loop = asyncio.get_running_loop()
        while True:
            with self._lock:
                if self._is_drained():
                    return
                waiter = loop.create_future()
                self._waiters.append((loop, waiter))
            self._wake()
            await waiter

    def _is_drained(self) -> bool:
        return self._closed or (self._end_reason is None and not self._waiting and not self._in_work)

    # --- the listener's side

    @property
    def rate_hz(self) -> int:
        return self._rate_hz

    @property
    def waiting_s(self) -> float:
        """Seconds of audio that wait to be processed."""
        return self._count / self._rate_hz if self._rate_hz else 0.0

    @property
    def end_reason(self) -> EndReason | None:
        """Why the stream ended, None while it goes on."""
        return self._end_reason

    @property
    def started_at(self) -> datetime | None:
        """When the first audio came."""
        return self._started_at

    @property
    def silent_s(self) -> float:
        """Seconds since the last audio, or since the stream was opened."""
        return self._monotonic() - self._last_audio_s

    @property
    def age_s(self) -> float:
        """Seconds since the stream was opened."""
        return self._monotonic() - self._opened_s

    def take(self) -> Samples:
        """Take all audio that waits; int16, [n]."""
        with self._lock:
            if not self._waiting:
                return np.empty(0, np.int16)
            waiting, self._waiting, self._count = self._waiting, [], 0
            self._in_work = True
        return waiting[0] if len(waiting) == 1 else np.concatenate(waiting)

    def mark_processed(self) -> None:
        """Note that the audio taken is processed and all its results are stored."""
        with self._lock:
            if self._in_work:
                self._in_work = False
                self._notify_waiters()

    def stop(self, reason: EndReason) -> None:
        """End the stream from the service's side and inform the carrier."""
        with self._lock:
            if self._end_reason is not None:
                return
            self._end_reason, self._ended_by_service = reason, True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback(reason)
            except Exception:
                log.exception("session %s: the carrier could not be informed of the end", self.session_id)
        self._wake()

    def fail(self, reason: EndReason) -> None:
        """End the stream because a result cannot be stored. A carrier that has ended the stream already, and
        waits until all is stored, finds `results_lost`."""
        self.results_lost = True
        self.stop(reason)

    def close(self) -> None:
        """Note that the end is stored: nothing more will happen."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            self._count = 0
            self._notify_waiters()

    def _notify_waiters(self) -> None:
        self._drained.notify_all()
        waiters, self._waiters = self._waiters, []
        for loop, waiter in waiters:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nothing waits there any more
                loop.call_soon_threadsafe(_set_done, waiter)


def _set_done(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
