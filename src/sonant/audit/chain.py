"""The audit trail on disk: numbered files of JSON lines, each chained to the one before by its hash.

    00000001-2026-11-22.jsonl
        {..., "previousHash": "<hash of the line before>", "hash": "<SHA-256 of this line without `hash`>"}

The first line of a file has the last hash of the file before; the very first has 64 zeros. A line that was
changed, removed, inserted or moved breaks the chain at its position. Whoever can write the files can compute
such hashes, so lines are also sealed: they are numbered and have a message authentication
code with a key of their own (`chain_keys`).

        {..., "sequence": 7, "previousHash": "...", "hash": "...", "mac": "<HMAC-SHA256 of the hash>"}

The first line of a section of keys has the member `auditSection`, which says what its key is derived from.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from sonant.audit import chain_keys
from sonant.audit.key_files import Section

BEGINNING = "0" * 64
"""The previous hash of the very first line."""

_HASH_CHARACTERS = 64
_BEFORE_HASH = b',"hash":"'
_AFTER_HASH = b'"}'
#: Bytes that the hash adds to a line.
_HASH_BYTES = len(_BEFORE_HASH) + _HASH_CHARACTERS + len(_AFTER_HASH)
_BEFORE_MAC = b'","mac":"'
#: Bytes that the code adds to a line with a hash.
_MAC_BYTES = len(_BEFORE_MAC) + _HASH_CHARACTERS
#: The member of a section's first line.
SECTION = "auditSection"

#: Longest line that is read; records are much shorter.
MAX_LINE_BYTES = 1 << 21


def seal(document: dict[str, Any], previous: str) -> tuple[bytes, str]:
    """Return a document as a line of the chain, and the line's hash."""
    document["previousHash"] = previous
    try:
        body = orjson.dumps(document)
    except TypeError:  # a value that JSON cannot represent: the call is recorded without its members
        document |= {"requestParameters": None, "responseElements": None}
        body = orjson.dumps(document)
    own = hashlib.sha256(body).hexdigest()
    return body[:-1] + _BEFORE_HASH + own.encode() + _AFTER_HASH + b"\n", own


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a sealed chain goes on."""

    chain_id: str
    root: str
    """Id of the root of `key`."""
    head: str
    """Hash of the last line."""
    sequence: int
    """Number of the next line."""
    key: bytes = field(repr=False)
    """Key of the next line."""
    mac: str = ""
    """Code of the last line."""
    section: Section | None = None
    """The section that the next line begins."""
    own_key: bool = False
    """Whether that line has the section's first key; else the line after it is the first to have it."""


def seal_next(document: dict[str, Any], at: Position) -> tuple[bytes, Position]:
    """Return a document as a sealed line, and where the chain goes on after it."""
    section = at.section
    if section is not None:
        document[SECTION] = dict(section.members)
    document["sequence"] = at.sequence
    line, own = seal(document, at.head)
    mac = chain_keys.line_mac(at.key, own)
    sealed = line[: -len(_AFTER_HASH) - 1] + _BEFORE_MAC + mac.encode() + _AFTER_HASH + b"\n"
    after = Position(
        chain_id=at.chain_id,
        root=at.root if section is None else section.members["key"],
        head=own,
        sequence=at.sequence + 1,
        key=chain_keys.next_key(at.key) if section is None or at.own_key else section.key,
        mac=mac,
    )
    return sealed, after


def file_name(number: int, day: str) -> str:
    """Return the name of a file of the trail."""
    return f"{number:08d}-{day}.jsonl"


def files(folder: Path) -> list[Path]:
    """Return the trail's files in order."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix == ".jsonl" and path.stem[:8].isdigit())


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """The position at which the chain is broken. Lines are counted from 1."""

    file: str
    line: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The result of a check of the whole trail."""

    files: int
    lines: int
    first_previous: str
    """The previous hash of the oldest line; `BEGINNING` unless older files were removed."""
    head: str
    """The last line's hash."""
    broken: Break | None
    has_expected: bool
    """Whether the expected hash is in the chain."""


def verify(folder: Path, expected: str | None = None) -> Verification:
    """Check every line of every file, up to the first break. `expected`: a hash that must be in the chain."""
    expected = BEGINNING if expected is None else expected
    previous: str | None = None
    first_previous, count, found_expected, number_before = BEGINNING, 0, expected == BEGINNING, 0
    found = files(folder)
    broken: Break | None = None
    for path in found:
        number = int(path.name[:8])
        if number_before and number != number_before + 1:
            broken = Break(
                file=path.name, line=1, reason=f"file {number_before + 1:08d} is missing before it"
            )
            break
        number_before = number
        for line_number, line in enumerate(lines(path), 1):
            reason, names, own = _check_line(line, previous)
            if reason:
                broken = Break(file=path.name, line=line_number, reason=reason)
                break
            if previous is None:
                first_previous = names
            previous, count = own, count + 1
            found_expected = found_expected or own == expected
        if broken is not None:
            break
    return Verification(
        files=len(found),
        lines=count,
        first_previous=first_previous,
        head=previous or BEGINNING,
        broken=broken,
        has_expected=found_expected,
    )


class LineFault(ValueError):
    """A line that is not one of the chain. `reason` is one of the names in `verification`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line whose hash fits."""

    own: str
    previous: str
    mac: str = ""
    """Empty for a line that is not sealed."""
    sequence: int = 0
    section: dict[str, str] | None = None


def read_line(line: bytes) -> Line:
    """Read a line and check its hash. Raises LineFault."""
    if not line.endswith(b"\n"):
        raise LineFault("damaged-line", "the line is incomplete or longer than any record")
    line, mac = line[:-1], ""
    if line[-_MAC_BYTES - len(_AFTER_HASH) :].startswith(_BEFORE_MAC):
        mac = line[-_HASH_CHARACTERS - len(_AFTER_HASH) : -len(_AFTER_HASH)].decode("latin-1")
        line = line[: -_MAC_BYTES - len(_AFTER_HASH)] + _AFTER_HASH
    own = line[-len(_AFTER_HASH) - _HASH_CHARACTERS : -len(_AFTER_HASH)].decode("latin-1")
    if len(line) <= _HASH_BYTES or line[-_HASH_BYTES:] != _BEFORE_HASH + own.encode("latin-1") + _AFTER_HASH:
        raise LineFault("damaged-line", "the line does not end with its hash")
    body = line[:-_HASH_BYTES] + b"}"
    if hashlib.sha256(body).hexdigest() != own:
        raise LineFault("changed-line", "the line was changed: its hash does not fit")
    try:
        members = orjson.loads(body)
        previous = str(members["previousHash"])
        section = None if SECTION not in members else {k: str(v) for k, v in members[SECTION].items()}
        sequence = int(members["sequence"]) if mac else 0
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LineFault("damaged-line", "the line is not a record") from None
    return Line(own=own, previous=previous, mac=mac, sequence=sequence, section=section)


def follow(at: Position, line: Line) -> Position:
    """Return the position after a sealed line, which begins no section. Raises LineFault if it does not
    fit."""
    if line.sequence != at.sequence or line.previous != at.head:
        raise LineFault("missing-lines", f"line {line.sequence} does not follow line {at.sequence - 1}")
    if not hmac.compare_digest(line.mac, chain_keys.line_mac(at.key, line.own)):
        raise LineFault("wrong-seal", f"the code of line {line.sequence} is not the one of its key")
    return replace(
        at,
        head=line.own,
        sequence=at.sequence + 1,
        key=chain_keys.next_key(at.key),
        mac=line.mac,
    )


def _check_line(line: bytes, previous: str | None) -> tuple[str, str, str]:
    """Return what is wrong with a line (empty: nothing), its previous hash and its own hash."""
    try:
        found = read_line(line)
    except LineFault as fault:
        return str(fault), "", ""
    if previous is not None and found.previous != previous:
        return "a line before it was removed, inserted or moved: it has another previous hash", "", ""
    return "", found.previous, found.own


def lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES):
            yield line


def last_line(path: Path) -> Line | None:
    """Return a file's last complete line, or None. Raises LineFault for a damaged one."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - MAX_LINE_BYTES))
        found = file.read().splitlines(keepends=True)
    whole = [line for line in found if line.endswith(b"\n")]
    return read_line(whole[-1]) if whole else None


def last_hash(path: Path) -> str | None:
    """Return the hash of a file's last complete line, or None. Raises LineFault for a damaged one."""
    found = last_line(path)
    return None if found is None else found.own


def first_previous(folder: Path) -> str:
    """Return the previous hash of a chain's oldest line. Raises LineFault for a damaged one."""
    for path in files(folder):
        for line in lines(path):
            return read_line(line).previous
    return BEGINNING


def records(
    folder: Path, *, since: datetime | None, operation: str | None, principal: str | None
) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield matching records, oldest first, with their lines.

    `principal` is an ARN, an access key id, or a part of either. Skips lines that are no JSON: `verify`
    reports them.
    """
    start = None if since is None else f"{since:%Y-%m-%dT%H:%M:%SZ}"
    for path in files(folder):
        if start is not None and path.stem[9:] < start[:10]:
            continue
        for line in lines(path):
            try:
                record = json.loads(line)
                identity = record["userIdentity"]
                fits = (
                    (start is None or record["eventTime"] >= start)
                    and (operation is None or record["eventName"].lower() == operation.lower())
                    and (
                        principal is None
                        or principal in identity.get("arn", "") + " " + identity.get("accessKeyId", "")
                    )
                )
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            if fits:
                yield record, line
