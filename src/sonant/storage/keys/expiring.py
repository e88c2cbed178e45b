"""Hold secrets in memory for a limited time, whether or not anybody asks for them again."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from sonant.threads import start_once

T = TypeVar("T")

#: Shortest pause between two looks at what has expired, and longest between two at what is no longer good.
_LEAST_PAUSE_S, LOOK_S = 0.01, 0.25


class ExpiringItems(Generic[T]):
    """Items by key, each for `lifetime_s` seconds from the moment that `put` is given.

    Safe for several threads. A thread of its own removes items whose time is over; it ends with the last one,
    and the next `put` starts it again.
    """

    def __init__(
        self,
        lifetime_s: float,
        most: int,
        timer: Callable[[], float] = time.monotonic,
        is_good: Callable[[Hashable, T], bool] | None = None,
    ) -> None:
        """Hold at most `most` items; the oldest go first. `timer` gives seconds.

        `is_good` says whether an item may stay; the thread asks four times a second.
        """
        self._lifetime_s, self._most, self._timer = lifetime_s, most, timer
        self._is_good = is_good
        self._items: OrderedDict[Hashable, tuple[T, float]] = OrderedDict()
        self._lock = threading.Lock()
        self._purger: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._items)

    def values(self) -> list[T]:
        """Return the items in memory, expired or not."""
        with self._lock:
            return [item for item, _ in self._items.values()]

    def get(self, key: Hashable) -> T | None:
        """Return the item of a key; None when there is none or its time is over."""
        with self._lock:
            held = self._items.get(key)
            if held is None:
                return None
            if self._timer() - held[1] < self._lifetime_s:
                return held[0]
            del self._items[key]
            return None

    def put(self, key: Hashable, item: T, since_s: float) -> None:
        """Hold an item whose time runs from `since_s`, by the timer."""
        with self._lock:
            self._items[key] = (item, since_s)
            self._items.move_to_end(key)
            while len(self._items) > self._most:
                self._items.popitem(last=False)
            # After a fork the thread is the parent's, and no longer alive here.
            if self._purger is None or not self._purger.is_alive():
                self._purger = start_once(self._purge, "secrets in memory", failed=self._clear)

    def pop(self, key: Hashable) -> None:
        """Remove the item of a key, if there is one."""
        with self._lock:
            self._items.pop(key, None)

    def remove_expired(self) -> float | None:
        """Remove items whose time is over. Returns the seconds until the next one's; None without items."""
        with self._lock:
            now_s = self._timer()
            for key in [key for key, (_, at_s) in self._items.items() if now_s - at_s >= self._lifetime_s]:
                del self._items[key]
            if not self._items:
                self._purger = None
                return None
            return min(at_s for _, at_s in self._items.values()) + self._lifetime_s - now_s

    def remove_bad(self) -> None:
        """Remove items that may not stay."""
        if self._is_good is None:
            return
        with self._lock:
            held = list(self._items.items())
        for key, (item, since_s) in held:
            if self._is_good(key, item):
                continue
            with self._lock:
                if self._items.get(key) == (item, since_s):
                    del self._items[key]

    def _purge(self) -> None:
        while (pause_s := self.remove_expired()) is not None:
            if self._is_good is not None:
                pause_s = min(pause_s, LOOK_S)
            time.sleep(max(_LEAST_PAUSE_S, pause_s))
            self.remove_bad()

    def _clear(self, _fault: Exception) -> None:
        with self._lock:
            self._items.clear()
            self._purger = None
