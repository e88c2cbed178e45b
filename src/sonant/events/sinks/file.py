"""The sink `file`: events as lines of JSON in a file that is rotated by size."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sonant.events.sinks import SinkFault, events_folder
from sonant.settings import Settings

#: End of the file that is searched for an incomplete line; documents are far shorter.
_TAIL_BYTES = 1 << 20


class FileSink:
    """Appends to `path`; at `max_bytes` it becomes `path.1`, that one `path.2`, up to `keep` of them.

    Delivered events are on the disk. An incomplete line of a crash is removed before the next is written; its
    event was not counted as delivered and comes again.
    """

    name = "file"

    def __init__(self, path: Path, *, max_bytes: int, keep: int) -> None:
        self._path, self._max_bytes, self._keep = path, max_bytes, keep

    def deliver(self, documents: Sequence[bytes]) -> int:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._path.exists() and self._path.stat().st_size >= self._max_bytes:
                self._rotate()
            self._append(b"".join(document + b"\n" for document in documents))
        except OSError as fault:
            raise SinkFault(f"{self._path} cannot be written: {fault.strerror}") from None
        return len(documents)

    def close(self) -> None:
        """Do nothing: no file is open between deliveries."""

    def _append(self, lines: bytes) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, 0o600)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            size = _end_of_last_line(descriptor)
            os.ftruncate(descriptor, size)
            try:
                view = memoryview(lines)
                while view:
                    view = view[file.write(view) or 0 :]
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise

    def _rotate(self) -> None:
        for number in range(self._keep, 0, -1):
            older = self._rotated(number)
            if number == self._keep:
                older.unlink(missing_ok=True)
            elif older.exists():
                older.rename(self._rotated(number + 1))
        if self._keep:
            self._path.rename(self._rotated(1))
        else:
            self._path.unlink()

    def _rotated(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def _end_of_last_line(descriptor: int) -> int:
    """Return the position after the last complete line."""
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, min(size, _TAIL_BYTES), max(0, size - _TAIL_BYTES))
    return size - (len(tail) - (tail.rfind(b"\n") + 1))


def build(settings: Settings) -> FileSink:
    """Make the sink that the settings describe."""
    events = settings.events
    return FileSink(
        events_folder(settings.data) / "events.jsonl", max_bytes=events.file_max_bytes, keep=events.file_keep
    )


BACK_END = build
