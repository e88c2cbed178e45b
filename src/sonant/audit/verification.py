"""Checks a chain of the audit trail against its keys and against what was recorded about it elsewhere."""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from sonant.audit import chain, chain_keys
from sonant.audit.chain import Line, LineFault
from sonant.audit.chain_keys import RootKey
from sonant.audit.key_files import ChainState

#: Missing lines over which keys are followed at most; a longer gap ends the check of a chain.
MOST_MISSING = 100_000_000


class Reason(StrEnum):
    """The kinds of faults of a trail, by the names that `sonant audit verify` prints."""

    CHANGED_LINE = "changed-line"
    DAMAGED_LINE = "damaged-line"
    WRONG_ORDER = "wrong-order"
    MISSING_LINES = "missing-lines"
    MISSING_FILE = "missing-file"
    MISSING_TAIL = "missing-tail"
    MISSING_CHAIN = "missing-chain"
    WRONG_SEAL = "wrong-seal"
    MISSING_SEAL = "missing-seal"
    UNLINKED_SECTION = "unlinked-section"
    MISSING_KEY_FILE = "missing-key-file"
    WRONG_KEY_FILE = "wrong-key-file"
    NOT_RECORDED = "not-recorded"
    CHANGED_RECORD = "changed-record"
    OTHER_HEAD = "other-head"
    UNREADABLE_HEADS = "unreadable-heads"
    UNKNOWN_KEY = "unknown-key"
    OTHER_KEY = "other-key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong with a chain."""

    reason: Reason
    message: str
    file: str = ""
    """Name of the file; empty for a fault of the whole chain."""
    line: int = 0
    """Counted from 1 in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The last line of a chain at some time, as it was recorded outside of the chain's files."""

    source: str
    """What recorded it, for messages."""
    chain_id: str
    name: str
    sequence: int
    """Number of the line, from 1."""
    head: str
    """Hash of the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """Files that were removed with a statement: what the oldest line that is left must follow."""

    last_hash: str
    last_sequence: int
    """0 when the removed lines were not sealed."""
    section: Mapping[str, str] | None
    """The section of the next line; None when the removed lines were not sealed."""
    section_sequence: int
    """Number of the first line that has the first key of that section."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known about a chain besides its lines."""

    roots: Mapping[str, RootKey] = field(default_factory=dict)
    """By id."""
    state: ChainState | None = None
    state_fault: str = ""
    """What is wrong with the key file."""
    heads: Sequence[Head] = ()
    removed: Sequence[Removed] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainReport:
    """The result of the check of one chain."""

    name: str
    folder: Path
    files: int
    lines: int
    sealed: int
    """Lines with a code that was found right."""
    head: str
    first_previous: str
    """The previous hash of the oldest line; `chain.BEGINNING` unless older files were removed."""
    chain_ids: frozenset[str]
    roots: tuple[str, ...]
    """Ids of the roots of the sections, in order."""
    next_state: ChainState | None = field(repr=False)
    """Where the chain goes on, as its key file should say; None for one that is not sealed or not known."""
    hashes: frozenset[str]
    """Of the hashes that were asked for, those that are in the chain."""
    faults: tuple[Fault, ...]


def check_chain(
    folder: Path, name: str, evidence: Evidence, expected: frozenset[str] = frozenset()
) -> ChainReport:
    """Check every line of a chain, as far as it can be followed. `expected` are hashes to look for."""
    return _Check(folder, name, evidence, expected).report()


class _Stopped(Exception):
    """The chain cannot be followed any further."""


class _Check:
    """The check of one chain, while it runs."""

    def __init__(self, folder: Path, name: str, evidence: Evidence, expected: frozenset[str]) -> None:
        self._folder, self._name, self._evidence, self._expected = folder, name, evidence, expected
        self._faults: list[Fault] = []
        self._file, self._line_number = "", 0
        self._first: Line | None = None
        self._head, self._sequence = chain.BEGINNING, 0  # of the last line; 0 for one that is not sealed
        self._key: bytes | None = None  # of the next line; None where it cannot be known
        self._sealing = self._gap = False
        self._lines = self._sealed = 0
        self._sections: list[Mapping[str, str]] = []
        self._since = self._mac = ""
        self._found: set[str] = set()
        self._heads: dict[int, list[Head]] = {}
        for head in evidence.heads:
            self._heads.setdefault(head.sequence, []).append(head)

    def report(self) -> ChainReport:
        files = chain.files(self._folder)
        try:
            self._check_files(files)
        except _Stopped:
            pass
        else:
            self._check_beginning()
            self._check_end()
        return ChainReport(
            name=self._name,
            folder=self._folder,
            files=len(files),
            lines=self._lines,
            sealed=self._sealed,
            head=self._head,
            first_previous=chain.BEGINNING if self._first is None else self._first.previous,
            chain_ids=frozenset(section["chain"] for section in self._sections if "chain" in section),
            roots=tuple(section.get("key", "") for section in self._sections),
            next_state=self._next_state(),
            hashes=frozenset(self._found),
            faults=tuple(self._faults),
        )

    def _next_state(self) -> ChainState | None:
        if self._key is None or not self._sections:
            return None
        section = self._sections[-1]
        return ChainState(
            chain_id=section.get("chain", ""),
            root=section.get("key", ""),
            sequence=self._sequence + 1,
            head=self._head,
            mac=self._mac,
            key=self._key,
        )

    def _check_files(self, files: Sequence[Path]) -> None:
        before = 0
        for path in files:
            self._file, self._line_number = path.name, 1
            number = int(path.name[:8])
            if before and number != before + 1:
                self._add(Reason.MISSING_FILE, f"file {before + 1:08d} is missing before it")
                if not self._sealing:
                    raise _Stopped
                self._gap = True
            before = number
            for line in self._read(path):
                self._check_line(line)
                self._lines += 1
        self._file, self._line_number = "", 0

    def _read(self, path: Path) -> Iterator[Line]:
        for self._line_number, content in enumerate(chain.lines(path), 1):
            try:
                yield chain.read_line(content)
            except LineFault as fault:
                raise self._stop(Reason(fault.reason), str(fault)) from None

    def _check_line(self, line: Line) -> None:
        if self._first is None:
            self._first = line
            self._resume(line)
        elif line.previous != self._head and not (line.mac and self._sealing):
            raise self._stop(
                Reason.WRONG_ORDER,
                "a line before it was removed, inserted or moved: it has another previous hash",
            )
        if line.mac:
            self._check_sealed(line)
        elif self._sealing:
            raise self._stop(Reason.MISSING_SEAL, "the line is not sealed, though lines before it are")
        self._head, self._sequence, self._mac = line.own, line.sequence, line.mac
        if line.own in self._expected:
            self._found.add(line.own)
        if line.mac and line.sequence in self._heads:
            self._heads[line.sequence] = [
                head for head in self._heads[line.sequence] if not self._agrees(head, line)
            ]

    def _agrees(self, head: Head, line: Line) -> bool:
        """Compare a recorded head with the line of its number. Returns whether it is one of this chain."""
        chain_ids = [section.get("chain", "") for section in self._sections]
        if head.chain_id not in chain_ids:
            return False
        if head.chain_id != chain_ids[-1] or head.head != line.own:
            self._add(Reason.OTHER_HEAD, f"{head.source} has another hash of line {line.sequence}")
        return True

    def _resume(self, line: Line) -> None:
        """Take up the key where a statement of removed files says that the chain goes on."""
        for removed in self._evidence.removed:
            if removed.last_hash == line.previous and removed.section is not None:
                self._sealing, self._sequence, self._head = True, removed.last_sequence, removed.last_hash
                self._begin(removed.section)
                if self._key is not None:
                    self._key = chain_keys.evolve(self._key, line.sequence - removed.section_sequence)

    def _check_sealed(self, line: Line) -> None:
        first = not self._sealing
        if first:
            if line.section is None:
                # The lines before it are gone with the key: nothing of the rest can be proven.
                raise self._stop(
                    Reason.MISSING_FILE,
                    f"line {line.sequence} is the oldest, and no statement says that those before it were "
                    f"removed; the line before had the hash {line.previous}",
                )
            self._sealing = True
            self._since = line.section.get("since", "")
            self._begin(line.section)
        else:
            self._check_order(line)
        fits = self._key is not None and self._fits(self._key, line)
        if not fits and not first and self._begins_unlinked(line):
            fits = True
        elif not fits and self._key is not None:
            raise self._stop(
                Reason.WRONG_SEAL,
                "the code is not the one of the line's key: the line was changed, or lines were removed and "
                "chained anew",
            )
        elif line.section is not None and not first:
            self._sealed += fits
            self._begin(line.section)
            return
        if fits and self._key is not None:
            self._sealed += 1
            self._key = chain_keys.next_key(self._key)

    def _check_order(self, line: Line) -> None:
        missing = line.sequence - self._sequence - 1
        if missing == 0 and line.previous == self._head:
            self._gap = False
            return
        if not 0 < missing <= MOST_MISSING:
            raise self._stop(
                Reason.WRONG_ORDER,
                "a line before it was removed, inserted or moved: it has another previous hash"
                if missing == 0
                else f"line {line.sequence} stands after line {self._sequence}",
            )
        if not self._gap:
            self._add(
                Reason.MISSING_LINES,
                f"lines {self._sequence + 1} to {line.sequence - 1} are missing before it",
            )
        self._gap = False
        if self._key is not None:
            self._key = chain_keys.evolve(self._key, missing)

    def _begins_unlinked(self, line: Line) -> bool:
        """Take up a section that begins with its own key. Returns whether the line does that."""
        key = None if line.section is None else self._first_key(line.section)
        if line.section is None or key is None or not self._fits(key, line):
            return False
        self._key = key
        self._add(
            Reason.UNLINKED_SECTION,
            "a new section begins without the key of the line before: the key file was missing, and lines "
            "before it may have been removed",
        )
        self._sections.append(line.section)
        return True

    def _begin(self, section: Mapping[str, str]) -> None:
        self._sections.append(section)
        self._key = self._first_key(section)
        if self._key is None:
            self._add(
                Reason.UNKNOWN_KEY,
                f"the lines from here on are sealed with the key {section.get('key', '')}, which is not "
                "here: name its file with --key",
            )

    def _first_key(self, section: Mapping[str, str]) -> bytes | None:
        root = self._evidence.roots.get(section.get("key", ""))
        if root is None:
            return None
        try:
            return root.first_key(section.get("start", ""))
        except ValueError:
            return None

    def _check_beginning(self) -> None:
        """Report older lines that are missing without a statement."""
        if self._first is None or not self._sealing:
            return
        previous = self._first.previous
        known = {removed.last_hash for removed in self._evidence.removed}
        if previous in known or previous == (self._since or chain.BEGINNING):
            return
        self._add(
            Reason.MISSING_FILE,
            "the oldest lines are missing, and no statement says that they were removed: the line before "
            f"had the hash {previous}",
        )

    def _check_end(self) -> None:
        state = self._evidence.state
        chain_ids = {section.get("chain", "") for section in self._sections}
        left = [head for heads in self._heads.values() for head in heads]
        counted = [(head.sequence, head.source) for head in left if head.sequence > self._sequence]
        if self._lines and (others := [head for head in left if head.chain_id not in chain_ids]):
            self._add(
                Reason.MISSING_CHAIN,
                f"{others[-1].source} knows a chain of this name with {max(one.sequence for one in others)} "
                "lines that is not here: it was deleted, and another was begun",
            )
            counted = [(head.sequence, head.source) for head in left if head.chain_id in chain_ids]
            counted = [one for one in counted if one[0] > self._sequence]
        if state is not None and state.sequence - 1 > self._sequence:
            counted.append((state.sequence - 1, "the key file"))
        if counted:
            most, source = max(counted)
            if self._lines == 0:
                self._add(Reason.MISSING_CHAIN, f"there are no lines, and {source} counts {most}")
            else:
                self._add(
                    Reason.MISSING_TAIL,
                    f"the last line is number {self._sequence}, and {source} counts {most}: lines were cut "
                    "off at the end",
                )
        elif state is not None and state.sequence - 1 == self._sequence and not self._goes_on_with(state):
            self._add(Reason.WRONG_KEY_FILE, "the key file is not the one of the last line")
        if self._evidence.state_fault:
            self._add(Reason.WRONG_KEY_FILE, f"the key file is damaged: {self._evidence.state_fault}")
        elif self._sealing and state is None:
            self._add(
                Reason.MISSING_KEY_FILE, "the lines are sealed, and the file with the next key is missing"
            )

    def _goes_on_with(self, state: ChainState) -> bool:
        return state.head == self._head and (self._key is None or state.key == self._key)

    @staticmethod
    def _fits(key: bytes, line: Line) -> bool:
        return hmac.compare_digest(line.mac, chain_keys.line_mac(key, line.own))

    def _add(self, reason: Reason, message: str) -> None:
        self._faults.append(Fault(reason=reason, message=message, file=self._file, line=self._line_number))

    def _stop(self, reason: Reason, message: str) -> _Stopped:
        self._add(reason, message)
        return _Stopped()
