"""The audit trail on disk: numbered files of JSON lines, each line bound to the one before by its hash.

    00000001-2026-11-22.jsonl
        {..., "previousHash": "<hash of the line before>", "hash": "<SHA-256 of this line without `hash`>"}

The first line of a file names the last hash of the file before; the very first names 64 zeros. A line that
was changed, removed, put in or moved breaks the chain where it stands. That lines were cut off at the very
end no chain can show: note the last hash elsewhere from time to time and have it looked for.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

BEGINNING = "0" * 64
"""What the first line of all names as the hash before it."""

_HASH_CHARACTERS = 64
_BEFORE_HASH = b',"hash":"'
_AFTER_HASH = b'"}'
#: Bytes that a line's hash adds to it, line end included.
_SEAL_BYTES = len(_BEFORE_HASH) + _HASH_CHARACTERS + len(_AFTER_HASH)

#: Longest line that is read; records are bounded far below.
MOST_LINE_BYTES = 1 << 21


def seal(told: dict[str, Any], previous: str) -> tuple[bytes, str]:
    """A document as a line of the chain, and the line's hash."""
    told["previousHash"] = previous
    try:
        body = orjson.dumps(told)
    except TypeError:  # a value that JSON has no form for: the call is recorded without its members
        told |= {"requestParameters": None, "responseElements": None}
        body = orjson.dumps(told)
    own = hashlib.sha256(body).hexdigest()
    return body[:-1] + _BEFORE_HASH + own.encode() + _AFTER_HASH + b"\n", own


def file_name(number: int, day: str) -> str:
    return f"{number:08d}-{day}.jsonl"


def files(folder: Path) -> list[Path]:
    """The trail's files in their order."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix == ".jsonl" and path.stem[:8].isdigit())


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """Where the chain is broken. Lines are counted from 1."""

    file: str
    line: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a look at the whole trail found."""

    files: int
    lines: int
    first_previous: str
    """What the oldest line names as the hash before it; `BEGINNING` unless older files were taken away."""
    head: str
    """The last line's hash."""
    broken: Break | None
    saw_expected: bool
    """Whether the hash that was asked for is in the chain."""


def verify(folder: Path, expected: str | None = None) -> Verdict:
    """Check every line of every file, up to the first break. `expected`: a hash that must be in the chain."""
    expected = BEGINNING if expected is None else expected
    previous: str | None = None
    first_previous, lines, saw, number_before = BEGINNING, 0, expected == BEGINNING, 0
    found = files(folder)
    broken: Break | None = None
    for path in found:
        number = int(path.name[:8])
        if number_before and number != number_before + 1:
            broken = Break(file=path.name, line=1, why=f"file {number_before + 1:08d} is missing before it")
            break
        number_before = number
        for line_number, line in enumerate(_lines(path), 1):
            why, names, own = _look(line, previous)
            if why:
                broken = Break(file=path.name, line=line_number, why=why)
                break
            if previous is None:
                first_previous = names
            previous, lines = own, lines + 1
            saw = saw or own == expected
        if broken is not None:
            break
    return Verdict(
        files=len(found),
        lines=lines,
        first_previous=first_previous,
        head=previous or BEGINNING,
        broken=broken,
        saw_expected=saw,
    )


def _look(line: bytes, previous: str | None) -> tuple[str, str, str]:
    """What is wrong with a line (nothing: empty), the hash it names, its own hash."""
    if not line.endswith(b"\n"):
        return "the line is torn or longer than any record", "", ""
    line = line[:-1]
    own = line[-len(_AFTER_HASH) - _HASH_CHARACTERS : -len(_AFTER_HASH)].decode("latin-1")
    if len(line) <= _SEAL_BYTES or line[-_SEAL_BYTES:] != _BEFORE_HASH + own.encode("latin-1") + _AFTER_HASH:
        return "the line does not end with its hash", "", ""
    body = line[:-_SEAL_BYTES] + b"}"
    if hashlib.sha256(body).hexdigest() != own:
        return "the line was changed: its hash does not fit", "", ""
    try:
        names = str(json.loads(body)["previousHash"])
    except (ValueError, KeyError, TypeError):
        return "the line is not a record", "", ""
    if previous is not None and names != previous:
        return "a line before it was removed, put in or moved: it names another hash", "", ""
    return "", names, own


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while line := file.readline(MOST_LINE_BYTES):
            yield line


def last_hash(path: Path) -> str | None:
    """The hash of a file's last whole line, None for a file without one. Raises ValueError if it is none."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - MOST_LINE_BYTES))
        lines = file.read().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n")]
    if not whole:
        return None
    why, _, own = _look(whole[-1], None)
    if why:
        raise ValueError(why)
    return own


def records(
    folder: Path, *, since: datetime | None, operation: str | None, principal: str | None
) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Lines that fit, oldest first, with their bytes. `principal` is an ARN, an access key id, or part of
    either. Lines that are no JSON are passed over: `verify` tells of them."""
    moment = None if since is None else f"{since:%Y-%m-%dT%H:%M:%SZ}"
    for path in files(folder):
        if moment is not None and path.stem[9:] < moment[:10]:
            continue
        for line in _lines(path):
            try:
                told = json.loads(line)
                who = told["userIdentity"]
                fits = (
                    (moment is None or told["eventTime"] >= moment)
                    and (operation is None or told["eventName"].lower() == operation.lower())
                    and (
                        principal is None
                        or principal in who.get("arn", "") + " " + who.get("accessKeyId", "")
                    )
                )
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            if fits:
                yield told, line
