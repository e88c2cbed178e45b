"""Data keys that were opened a moment ago, so that not every call of the API is one to a key service too."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

#: Opened data keys held at once; each is one domain's.
_MOST = 256


class OpenedKeys:
    """Holds each data key for a short time, in memory. Safe for several threads."""

    def __init__(self, keep_s: float, timer: Callable[[], float] = time.monotonic) -> None:
        """`keep_s`: for how long; 0 holds none. `timer` gives seconds."""
        self._keep_s, self._timer = keep_s, timer
        self._held: OrderedDict[Hashable, tuple[bytes, float]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, place: Hashable, ask: Callable[[], bytes]) -> bytes:
        """What is held for `place`, else what `ask` gives; what that raises is not held."""
        now = self._timer()
        with self._lock:
            held = self._held.get(place)
            if held is not None and now - held[1] < self._keep_s:
                return held[0]
            self._held.pop(place, None)
        plaintext = ask()
        if self._keep_s > 0:
            with self._lock:
                # Counted from before the question: what the answer tells is no newer.
                self._held[place] = (plaintext, now)
                while len(self._held) > _MOST:
                    self._held.popitem(last=False)
        return plaintext
