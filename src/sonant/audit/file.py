"""Appends to a chain of the audit trail, syncs it, and truncates it after a failed write."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from sonant.audit import chain
from sonant.audit.chain import Position
from sonant.audit.key_files import ChainState, KeyFiles, Section
from sonant.audit.names import chain_name
from sonant.errors import SetupError
from sonant.storage.files import sync_folder

log = logging.getLogger(__name__)

#: Records a chain by name and id before its first sealed line is written.
Announce = Callable[[str, str], None]


class ChainFile:
    """The last file of a chain. To be used by one thread."""

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        keys: KeyFiles | None = None,
        announce: Announce | None = None,
    ) -> None:
        """Without `keys`, lines are chained and not sealed, as those of earlier releases.

        Raises SetupError when the folder cannot be used or its last line is damaged.
        """
        self._folder, self._max_bytes, self._keys = folder, max_bytes, keys
        self._name, self._announce = chain_name(folder), announce
        self._descriptor = -1
        self._number, self._day = 0, ""
        self._size = self._committed_size = 0
        self._head = self._committed_head = chain.BEGINNING
        self._at: Position | None = None
        self._committed_at: Position | None = None
        self.unsynced = self._truncation_due = False
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._open_last()
            if keys is not None:
                self._committed_at = self._at = self._open_seal(keys)
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
        self._follow_service_key()
        if self._at is not None and self._at.section is not None:
            # The key of a section that has begun is nowhere but here: it is stored with the first line.
            self._append(documents[:1])
            self.sync()
            self.commit()
            documents = documents[1:]
        self._append(documents)
        self.unsynced = True

    def commit(self) -> None:
        """Make `undo` keep what has been written."""
        self._committed_size, self._committed_head = self._size, self._head
        self._committed_at = self._at

    def sync(self) -> None:
        """Make what has been written survive a power cut, and overwrite its keys. Raises OSError."""
        os.fsync(self._descriptor)
        self._store_key()
        self.unsynced = False

    def undo(self) -> None:
        """Remove the bytes of a failed write, now or before the next write."""
        if self._descriptor >= 0:
            try:
                os.ftruncate(self._descriptor, self._committed_size)
            except OSError:
                self._truncation_due = True
        self._size, self._head, self._at = self._committed_size, self._committed_head, self._committed_at

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

    def _append(self, documents: Sequence[dict[str, object]]) -> None:
        lines, head, at = [], self._head, self._at
        for document in documents:
            if at is None:
                line, head = chain.seal(document, head)
            else:
                line, at = chain.seal_next(document, at)
                head = at.head
            lines.append(line)
        view = memoryview(b"".join(lines))
        size = len(view)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._size += size
        self._head, self._at = head, at

    # --- the seal

    def _open_seal(self, keys: KeyFiles) -> Position:
        """Return where the sealed chain goes on. Raises OSError, and ValueError for lines that do not fit."""
        try:
            state, root = keys.read(self._name), keys.root
        except ValueError as fault:
            log.error("a key of the audit trail %s is damaged (%s): a new section begins", self._name, fault)
            return self._new_section(keys)
        if state is None:
            return self._new_section(keys)
        at = self._after_state(state)
        if at is None:
            return self._new_section(keys)
        if root != at.root:
            return replace(at, section=keys.begin_section(state.chain_id))
        return at

    def _follow_service_key(self) -> None:
        """Begin a section when the service's own key was renewed while this file is open."""
        at, keys = self._at, self._keys
        if at is None or keys is None or at.section is not None or not keys.is_replaced(at.root):
            return
        self._committed_at = self._at = replace(at, section=keys.begin_section(at.chain_id))

    def _new_section(self, keys: KeyFiles) -> Position:
        """Begin a section that no key links to what is there: the first of a chain, or after a lost key."""
        last = self._last_line()
        if last is not None and last.mac:
            log.error(
                "the key of the audit trail %s is missing: a new section begins, which `sonant audit verify` "
                "reports",
                self._name,
            )
        section = keys.begin_section()
        members = {**section.members, "since": chain.first_previous(self._folder)}
        if self._announce is not None:
            self._announce(self._name, members["chain"])
        return Position(
            chain_id=members["chain"],
            root=members["key"],
            head=self._head,
            sequence=1 if last is None else last.sequence + 1,
            key=section.key,
            section=Section(members=members, key=section.key),
            own_key=True,
        )

    def _after_state(self, state: ChainState) -> Position | None:
        """Follow the lines that were written after the state was stored, as a crash leaves them.

        A chain whose end is missing goes on where the state says: the gap is for `verify` to report. Returns
        None when the key of a later line is not known. Raises LineFault for lines that do not fit.
        """
        at = Position(
            chain_id=state.chain_id,
            root=state.root,
            head=state.head,
            sequence=state.sequence,
            key=state.key,
            mac=state.mac,
        )
        last = self._last_line()
        if last is None or last.sequence < state.sequence:
            if self._head != state.head:
                log.error(
                    "the audit trail %s does not end with the line that its key file names: see "
                    "`sonant audit verify`",
                    self._name,
                )
                self._committed_head = self._head = state.head
            return at
        for line in self._lines_from(state.sequence):
            if line.section is not None:
                return None
            at = chain.follow(at, line)
        return at

    def _last_line(self) -> chain.Line | None:
        for path in reversed(chain.files(self._folder)):
            found = chain.last_line(path)
            if found is not None:
                return found
        return None

    def _lines_from(self, sequence: int) -> list[chain.Line]:
        """Return the lines from a number on, in order; there are few. Raises LineFault."""
        following: list[chain.Line] = []
        for path in reversed(chain.files(self._folder)):
            found = [line for line in map(chain.read_line, chain.lines(path)) if line.sequence >= sequence]
            following = [*found, *following]
            if not found or found[0].sequence == sequence:
                break
        return following

    def _store_key(self) -> None:
        """Overwrite the keys of the lines that are on the disk."""
        at = self._at
        if self._keys is None or at is None or at.section is not None:
            return
        state = ChainState(
            chain_id=at.chain_id,
            root=at.root,
            sequence=at.sequence,
            head=at.head,
            mac=at.mac,
            key=at.key,
        )
        self._keys.write(self._name, state)

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
