"""The audit trail on disk: numbered files of JSON lines, each chained to the one before by its hash.

    00000001-2026-11-22.jsonl
        {..., "previousHash": "<hash of the line before>", "hash": "<SHA-256 of this line without `hash`>"}

The first line of a file has the last hash of the file before; the very first has 64 zeros. A line that was
changed, removed, inserted or moved breaks the chain at its position. A chain cannot show that lines at its
end were removed: store its last hash elsewhere from time to time, and let `verify` look for it.
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
"""The previous hash of the very first line."""

_HASH_CHARACTERS = 64
_BEFORE_HASH = b',"hash":"'
_AFTER_HASH = b'"}'
#: Bytes that the hash adds to a line.
_SEAL_BYTES = len(_BEFORE_HASH) + _HASH_CHARACTERS + len(_AFTER_HASH)

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
    first_previous, lines, found_expected, number_before = BEGINNING, 0, expected == BEGINNING, 0
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
        for line_number, line in enumerate(_lines(path), 1):
            reason, names, own = _check_line(line, previous)
            if reason:
                broken = Break(file=path.name, line=line_number, reason=reason)
                break
            if previous is None:
                first_previous = names
            previous, lines = own, lines + 1
            found_expected = found_expected or own == expected
        if broken is not None:
            break
    return Verification(
        files=len(found),
        lines=lines,
        first_previous=first_previous,
        head=previous or BEGINNING,
        broken=broken,
        has_expected=found_expected,
    )


def _check_line(line: bytes, previous: str | None) -> tuple[str, str, str]:
    """Return what is wrong with a line (empty: nothing), its previous hash and its own hash."""
    if not line.endswith(b"\n"):
        return "the line is incomplete or longer than any record", "", ""
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
        return "a line before it was removed, inserted or moved: it has another previous hash", "", ""
    return "", names, own


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES):
            yield line


def last_hash(path: Path) -> str | None:
    """Return the hash of a file's last complete line, or None. Raises ValueError for a damaged line."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - MAX_LINE_BYTES))
        lines = file.read().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n")]
    if not whole:
        return None
    reason, _, own = _check_line(whole[-1], None)
    if reason:
        raise ValueError(reason)
    return own


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
        for line in _lines(path):
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
