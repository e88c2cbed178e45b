"""Put numbered frames of audio in order.

A carrier that sends frames over several of its own machines does not promise their order, and speech that is
put together wrongly scores as another voice. Frames that come in order are passed on at once; a gap is waited
for while a few later frames come, and then passed over.
"""

from __future__ import annotations

import heapq

#: Frames that wait for one before them: 200 ms of frames of 20 ms.
WINDOW_FRAMES = 10
_MOST_DIGITS = 15


def frame_number(value: object) -> int | None:
    """Read the number of a frame, a number or a text of digits; None for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return None


class FrameOrder:
    """Orders the frames of one stream. Frames that are repeated, or come too late, are dropped."""

    def __init__(self, window: int = WINDOW_FRAMES) -> None:
        self._window = window
        self._waiting: list[tuple[int, bytes]] = []
        """A heap."""
        self._next: int | None = None
        """Number of the frame that is passed on next; None before the first."""
        self._late = 0
        """Late frames in a row."""
        self._only: int | None = None
        """The number of all frames so far, while they have but one."""
        self._count = 0
        self._numbered = True

    def push(self, number: int | None, frame: bytes) -> list[bytes]:
        """Take a frame, and return those that are due, in order."""
        if number is None or not self._is_numbered(number):
            return [*self.flush(), frame]
        if self._next is None and number <= 1:
            self._next = number  # the first of a stream
        if self._next is not None and number < self._next:
            return self._take_late(number, frame)
        self._late = 0
        heapq.heappush(self._waiting, (number, frame))
        due: list[bytes] = []
        if len(self._waiting) > self._window:
            self._next = self._waiting[0][0]  # what is missing is not waited for any more
        self._pop_due(due)
        return due

    def flush(self) -> list[bytes]:
        """Return all frames that wait, in order, at the end of the stream."""
        due: list[bytes] = []
        while self._waiting:
            self._next = self._waiting[0][0]
            self._pop_due(due)
        return due

    def _is_numbered(self, number: int) -> bool:
        """Whether the numbers mean anything: a carrier that does not count gives all frames the same."""
        self._count += 1
        if self._count == 1:
            self._only = number
        elif self._count == 2 and number == self._only:
            self._numbered = False
        return self._numbered

    def _take_late(self, number: int, frame: bytes) -> list[bytes]:
        self._late += 1
        if self._late <= self._window:
            return []
        due = self.flush()  # the carrier has begun to count anew
        self._next, self._late = number + 1, 0
        return [*due, frame]

    def _pop_due(self, due: list[bytes]) -> None:
        waiting = self._waiting
        while waiting and self._next is not None and waiting[0][0] <= self._next:
            number, frame = heapq.heappop(waiting)
            if number == self._next:
                due.append(frame)
                self._next += 1
