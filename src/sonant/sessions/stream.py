"""One call's stream as a carrier sees it: audio in, and the end, whoever makes it.

The carrier's side only puts down what came; a thread listens to it (see `listener`).
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

from sonant.sessions.calls import EndReason, StreamFault, StreamOver

log = logging.getLogger(__name__)

#: Audio that may wait to be listened to.
ROOM_S = 10.0
RATES_HZ = range(8_000, 48_001)

Samples = NDArray[np.int16]


class Stream:
    """`feed`, `end` and `room_s` are for the event loop and never wait."""

    def __init__(self, session_id: str, clock: Callable[[], datetime], wake: Callable[[], None]) -> None:
        """`rouse` tells the thread that listens to look at once."""
        self.session_id = session_id
        self._clock, self._rouse = clock, wake
        self._lock = threading.Lock()
        self._waiting: list[Samples] = []
        self._count = 0
        self._rate_hz = 0
        self._begun_at: datetime | None = None
        self._opened = self._last = time.monotonic()
        self._reason: EndReason | None = None
        self._by_service = False
        self._call_backs: list[Callable[[EndReason], None]] = []
        self._drained = threading.Condition(self._lock)
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._in_work = False  # samples were taken that are not listened to, or a hearing is not written
        self._over = False
        self.lost = False
        """Something that was heard cannot be stored: the session may know less than was brought."""
        self.heard_s = self.net_speech_s = 0.0
        """How far it has been listened to, and the speech found in it; kept up by the listener."""

    # --- the carrier's side

    def feed(self, samples: Samples, rate_hz: int) -> None:
        """Audio of the caller, in order; int16, [n], kept and not copied. Raises StreamFault, with nothing
        taken, when the stream has ended, the rate changes or is none of ours, or audio comes faster than it
        can be listened to."""
        with self._lock:
            if self._reason is not None:
                raise StreamOver(self._reason)
            if rate_hz != self._rate_hz or not rate_hz:
                self._take_rate(rate_hz)
            if not len(samples):
                return
            if self._count + len(samples) > ROOM_S * rate_hz:
                raise StreamFault(
                    f"more than {ROOM_S:g} s of audio wait to be listened to", EndReason.OVERRUN
                )
            if self._begun_at is None:
                self._begun_at = self._clock()
            self._waiting.append(samples)
            self._count += len(samples)
            self._last = time.monotonic()

    def _take_rate(self, rate_hz: int) -> None:
        if self._rate_hz:
            raise StreamFault("the sample rate changed within the stream")
        if rate_hz not in RATES_HZ:
            raise StreamFault(f"the sample rate must be {RATES_HZ[0]} to {RATES_HZ[-1]} Hz")
        self._rate_hz = rate_hz

    @property
    def room_s(self) -> float:
        """Seconds of audio that may be fed now."""
        return ROOM_S - self._count / self._rate_hz if self._rate_hz else ROOM_S

    def end(self, reason: EndReason) -> None:
        """No more audio will come; what has come is still listened to. The first reason counts."""
        with self._lock:
            if self._reason is not None:
                return
            self._reason = reason
        self._rouse()

    def on_end(self, call_back: Callable[[EndReason], None]) -> None:
        """Have the carrier told, once, from any thread, when it was not the carrier that ended the stream."""
        with self._lock:
            if not self._by_service:
                if self._reason is None:
                    self._call_backs.append(call_back)
                return
            reason = self._reason
        assert reason is not None
        call_back(reason)

    def wait_drained(self, timeout_s: float) -> bool:
        """Wait until all that was fed has been listened to and what came of it is stored; after `end`, until
        the end is stored as well. False when that took too long."""
        with self._drained:
            self._rouse()
            return self._drained.wait_for(self._is_drained, timeout_s)

    async def drained(self) -> None:
        """`wait_drained` for an event loop, however long it takes; holds no thread."""
        loop = asyncio.get_running_loop()
        while True:
            with self._lock:
                if self._is_drained():
                    return
                told = loop.create_future()
                self._waiters.append((loop, told))
            self._rouse()
            await told

    def _is_drained(self) -> bool:
        return self._over or (self._reason is None and not self._waiting and not self._in_work)

    # --- the listener's side

    @property
    def rate_hz(self) -> int:
        return self._rate_hz

    @property
    def waiting_s(self) -> float:
        return self._count / self._rate_hz if self._rate_hz else 0.0

    @property
    def reason(self) -> EndReason | None:
        """Why it ended, None while it goes on."""
        return self._reason

    @property
    def begun_at(self) -> datetime | None:
        """When the first audio came."""
        return self._begun_at

    @property
    def silent_s(self) -> float:
        """Since the last audio, or since the stream was opened."""
        return time.monotonic() - self._last

    @property
    def age_s(self) -> float:
        """Since the stream was opened."""
        return time.monotonic() - self._opened

    def take(self) -> Samples:
        """All that waits."""
        with self._lock:
            if not self._waiting:
                return np.empty(0, np.int16)
            waiting, self._waiting, self._count = self._waiting, [], 0
            self._in_work = True
        return waiting[0] if len(waiting) == 1 else np.concatenate(waiting)

    def settle(self) -> None:
        """What was taken is listened to, and all that came of it is stored."""
        with self._lock:
            if self._in_work:
                self._in_work = False
                self._tell_waiters()

    def stop(self, reason: EndReason) -> None:
        """The service ends the stream."""
        with self._lock:
            if self._reason is not None:
                return
            self._reason, self._by_service = reason, True
            told, self._call_backs = self._call_backs, []
        for call_back in told:
            try:
                call_back(reason)
            except Exception:
                log.exception("session %s: its carrier could not be told of the end", self.session_id)
        self._rouse()

    def lose(self, reason: EndReason) -> None:
        """The service ends the stream because of what it could not do. A carrier that has ended it already,
        and waits until all is stored, finds `lost`."""
        self.lost = True
        self.stop(reason)

    def over(self) -> None:
        """The end is stored: nothing more will happen."""
        with self._lock:
            self._over = True
            self._waiting.clear()
            self._count = 0
            self._tell_waiters()

    def _tell_waiters(self) -> None:
        self._drained.notify_all()
        waiters, self._waiters = self._waiters, []
        for loop, told in waiters:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_set, told)


def _set(told: asyncio.Future[None]) -> None:
    if not told.done():
        told.set_result(None)
