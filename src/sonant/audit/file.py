"""Appends to a chain of the audit trail, syncs it, and truncates it after a failed write."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from sonant.audit import chain
from sonant.errors import SetupError
from sonant.storage.files import sync_folder


class ChainFile:
    """The last file of a chain. To be used by one thread."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Raises SetupError when the folder cannot be used or its last line is damaged."""
        self._folder, self._max_bytes = folder, max_bytes
        self._descriptor = -1
        self._number, self._day = 0, ""
        self._size = self._committed_size = 0
        self._head = self._committed_head = chain.BEGINNING
        self.unsynced = self._truncation_due = False
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._open_last()
        except OSError as fault:
            raise SetupError(f"the audit trail in {folder} cannot be used: {fault.strerror}") from None
        except ValueError as fault:
            raise SetupError(
                f"the audit trail in {folder} is damaged at its end ({fault}): see `sonant audit verify`, "
                "then keep the folder elsewhere to begin a new trail"
            ) from None

    def write(self, documents: list[dict[str, object]], now: datetime) -> None:
        """Append records. Raises OSError; `undo` then restores the state of the last `commit`."""
        if self._truncation_due:
            os.ftruncate(self._descriptor, self._committed_size)
            self._truncation_due = False
        day = f"{now.astimezone(UTC):%Y-%m-%d}"
        if self._descriptor < 0 or day != self._day or self._size >= self._max_bytes:
            self._start_file(day)
        lines, head = [], self._head
        for document in documents:
            line, head = chain.seal(document, head)
            lines.append(line)
        view = memoryview(b"".join(lines))
        size = len(view)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._size += size
        self._head = head
        self.unsynced = True

    def commit(self) -> None:
        """Make `undo` keep what has been written."""
        self._committed_size, self._committed_head = self._size, self._head

    def sync(self) -> None:
        """Make what has been written survive a power cut. Raises OSError."""
        os.fsync(self._descriptor)
        self.unsynced = False

    def undo(self) -> None:
        """Remove the bytes of a failed write, now or before the next write."""
        if self._descriptor >= 0:
            try:
                os.ftruncate(self._descriptor, self._committed_size)
            except OSError:
                self._truncation_due = True
        self._size, self._head = self._committed_size, self._committed_head

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open_last(self) -> None:
        found = chain.files(self._folder)
        if not found:
            return
        last = found[-1]
        self._number, self._day = int(last.name[:8]), last.stem[9:]
        self._descriptor = os.open(last, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW)
        _remove_incomplete_line(self._descriptor)
        self._committed_size = self._size = os.fstat(self._descriptor).st_size
        for path in reversed(found):  # a file that was never written to has no hash
            own = chain.last_hash(path)
            if own is not None:
                self._committed_head = self._head = own
                return

    def _start_file(self, day: str) -> None:
        if self._descriptor >= 0 and self.unsynced:
            self.sync()
        path = self._folder / chain.file_name(self._number + 1, day)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
        self.close()
        self._descriptor, self._number, self._day = descriptor, self._number + 1, day
        self._size = self._committed_size = 0
        sync_folder(self._folder)


def _remove_incomplete_line(descriptor: int) -> None:
    """Remove a line without an end: its process died before a call was answered for it."""
    size = os.fstat(descriptor).st_size
    start = max(0, size - chain.MAX_LINE_BYTES)
    tail = os.pread(descriptor, size - start, start)
    end = start + tail.rfind(b"\n") + 1
    if end < size:
        os.ftruncate(descriptor, end)
