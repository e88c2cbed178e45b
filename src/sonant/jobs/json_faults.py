"""Locate and name the fault of a JSON file that is parsed as a stream.

The parser's own message quotes the file, which may hold customers' ids, and gives no position. So two more
parsers follow one block behind: when the first one fails, the second takes the same block in small pieces,
and the third takes the piece with the fault byte by byte. Messages describe the characters there and quote
none of the file's text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

from ijson.common import JSONError

#: What ijson raises for a file that is not JSON in UTF-8.
PARSE_ERRORS = (JSONError, UnicodeDecodeError, ValueError)

#: Each call of a parser reads a long token again from its start: 64 KiB in single bytes took 16 s.
_PIECE_BYTES = 512
_START_BYTES = 64
_CONTEXT_BYTES = 256

#: Formats that are taken for JSON by mistake: their first bytes, and what to do.
_FORMATS = (
    (b"\x1f\x8b", "it is compressed with gzip: store the unpacked file"),
    (b"PK\x03\x04", "it is a ZIP archive or a spreadsheet: store the JSON file itself"),
    (b"BZh", "it is compressed with bzip2: store the unpacked file"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with Zstandard: store the unpacked file"),
    (b"\xfd7zXZ\x00", "it is compressed with xz: store the unpacked file"),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7-Zip archive: store the JSON file itself"),
    (b"%PDF", "it is a PDF document"),
    (b"RIFF", "it is a recording: name the manifest's object, not a recording's"),
)
_UTF_16_OR_32 = "it is text in {}: save it as UTF-8"


class JsonParser(Protocol):
    """A parser that takes a file in blocks, as ijson's `basic_parse_coro` returns."""

    def send(self, data: bytes, /) -> Any: ...

    def close(self) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonFault:
    """The place and the cause of a fault."""

    byte: int
    """Position in the file of the byte that cannot be read, counted from 0; the file's size at its end."""
    line: int
    """Its line, counted from 1."""
    cause: str
    """What is wrong there, and what to do."""

    def describe(self, request: int) -> str:
        """Describe place and cause; `request` counts from 1, 0 stands for none."""
        within = f", request {request}" if request else ""
        return f"at byte {self.byte} (line {self.line}{within}) {self.cause}"


class FaultLocator:
    """Follows a parser through a file and locates the byte at which it fails."""

    def __init__(self, open_parser: Callable[[Any], JsonParser]) -> None:
        """`open_parser` opens a parser that sends its events to the given target."""
        events = SimpleNamespace(send=deque[Any](maxlen=0).append)  # drops them
        self._by_pieces, self._by_bytes = open_parser(events), open_parser(events)
        self._block = b""  # the one that the first parser works on
        self._passed = 0
        self._lines = 1
        self._before = self._start = b""

    def push(self, block: bytes) -> None:
        """Take the next block of the file, before the parser gets it."""
        if len(self._start) < _START_BYTES:
            self._start = (self._start + block)[:_START_BYTES]
        if self._block:  # an empty block would be the end of the file
            self._by_pieces.send(self._block)
            self._by_bytes.send(self._block)
            self._advance(self._block)
        self._block = block

    def skip(self, count: int) -> None:
        """Count bytes that no parser gets."""
        self._passed += count

    def locate(self) -> JsonFault:
        """Locate the fault in the last block, or at the end of the file."""
        return self._locate(lambda before, after: name_cause(self._start, before, after))

    def locate_trailing(self) -> JsonFault:
        """Locate what follows the end of the file's only value."""
        return self._locate(name_trailing)

    def _locate(self, name: Callable[[bytes, bytes], str]) -> JsonFault:
        block = self._block
        at = self._failing_byte(block)
        known = self._before + block  # a token may begin in the block before
        start = token_start(known[: len(self._before) + at], block[at : at + 1])
        return JsonFault(
            byte=self._passed - len(self._before) + start,
            line=self._lines + block.count(b"\n", 0, at) - known.count(b"\n", start, len(self._before) + at),
            cause=name(known[max(0, start - _CONTEXT_BYTES) : start], known[start : start + _CONTEXT_BYTES]),
        )

    def _failing_byte(self, block: bytes) -> int:
        start = _first_refused(self._by_pieces, block, 0, _PIECE_BYTES)
        if start:
            self._by_bytes.send(block[:start])
        return _first_refused(self._by_bytes, block, start, 1)

    def _advance(self, block: bytes) -> None:
        self._passed += len(block)
        self._lines += block.count(b"\n")
        self._before = (self._before + block)[-_CONTEXT_BYTES:]


def _first_refused(parser: JsonParser, block: bytes, start: int, size: int) -> int:
    """Send what follows `start` in pieces; find where the first piece that is refused begins."""
    for at in range(start, len(block), size):
        try:
            parser.send(block[at : at + size])
        except PARSE_ERRORS:
            return at
    return len(block)


def token_start(before: bytes, failing: bytes) -> int:
    """Find the position in `before` at which the token begins that a parser refused at the byte `failing`.

    The parser reads a token to its end before it refuses it: a string to its closing quotation mark, a number
    to the character behind it, a word to its first wrong letter, a character to its first wrong byte.
    """
    if not failing:
        return len(before)
    lead = len(before.rstrip(_UTF_8_TAIL)) - 1
    if before[-1:] >= b"\x80" and not _is_utf_8(before[lead:]):
        return max(lead, 0)
    if failing == b'"':
        end = len(before)
        while (found := before.rfind(b'"', 0, end)) > 0 and _escaping(before[:found]):
            end = found
        return max(found, 0)
    if failing.isalpha():
        return len(before.rstrip(_LETTERS))
    ahead = before.rstrip(_NUMBER + b"eE")
    # A number may be longer than what is remembered of it: then it begins where that begins.
    return len(ahead) if ahead.rstrip()[-1:] in (b"", b":", b",", b"[") else len(before)


def name_cause(start: bytes, before: bytes, after: bytes) -> str:
    """Name the cause of a fault from the file's first bytes, and those before and from the fault on.

    Nothing `after` means that the file ends there.
    """
    return (
        _name_format(start)
        or (_name_early_end(start) if not after else "")
        or _name_character(before, after)
        or f"there is {_character(after)}, which JSON does not allow there"
    )


def name_trailing(before: bytes, after: bytes) -> str:
    """Name what follows the end of the file's object."""
    if before.rstrip().endswith(b"}") and after.lstrip().startswith(b"{"):
        return (
            "a second object begins behind the end of the first, as in a file with one object a line (JSON "
            "Lines): put all requests into one list of one object"
        )
    return f"{_character(after)} stands behind the end of the object"


def _name_format(start: bytes) -> str:
    for magic, cause in _FORMATS:
        if start.startswith(magic):
            return cause
    if encoding := _wide_encoding(start):
        return _UTF_16_OR_32.format(encoding)
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<body")):
        return "it is a page of HTML, perhaps an error message that was stored instead of the manifest"
    if text.startswith(b"<"):
        return "it is XML or HTML: the manifest must be JSON"
    return ""


def _wide_encoding(start: bytes) -> str:
    """Name UTF-16 or UTF-32 by its byte order mark, or by the zero bytes of its ASCII characters."""
    if start.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")) or start[:3] == b"\x00\x00\x00":
        return "UTF-32"
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    zeros = [start[first:32:2].count(0) for first in (0, 1)]
    return "UTF-16" if len(start) >= 2 and max(zeros) >= len(start[:32]) // 2 > 0 else ""


def _name_early_end(start: bytes) -> str:
    if not start:
        return "the file is empty"
    if not start.strip() and len(start) < _START_BYTES:
        return "the file holds nothing but spaces and line breaks"
    return "the file ends before all brackets and strings are closed: it is cut off, or one is missing"


def _name_character(before: bytes, after: bytes) -> str:
    last, here = before.rstrip()[-1:], after.lstrip()[:1] or after[:1]
    if here in (b"]", b"}") and last == b",":
        return f"there is a comma before {here.decode()}: remove the comma"
    if here == b",":
        return "there is a comma with no value before it: remove the comma"
    if here in (b"'", b"`") or after.startswith((b"\xe2\x80\x98", b"\xe2\x80\x99")):
        return "there is a single quotation mark: JSON's strings stand in double ones (\")"
    if after.startswith((b"\xe2\x80\x9c", b"\xe2\x80\x9d")):
        return "there is a typographic quotation mark: JSON's are plain (\")"
    if here == b"#" or after.lstrip().startswith((b"//", b"/*")):
        return "there is a comment: JSON has none"
    if here in (b'"', b"{", b"[") and (last in (b'"', b"}", b"]") or last.isalnum()):
        return "there is no comma or colon between two values: add it"
    if after[:1] < b" ":
        return "there is a line break or another control character in a string: write an escape, such as \\n"
    if _escaping(before):
        return "there is a backslash before a character that it cannot escape: write two, \\\\"
    if after[:1] >= b"\x80":
        return (
            "there is a byte that is not UTF-8, as in text saved in Latin-1 or Windows-1252: save it as UTF-8"
        )
    return _name_word(after)


def _name_word(after: bytes) -> str:
    word = after[: len(after) - len(after.lstrip(_LETTERS))]
    if word in (b"None", b"True", b"False", b"NaN", b"Infinity", b"undefined"):
        return f"there is {word.decode()}, which is no JSON: use null, true, false or a number"
    if word:
        return "there is a word without quotation marks (fields and texts have double ones)"
    if after[:1] in _NUMBER:
        return "there is a number of more than 64 bits, or in a form that JSON does not allow"
    return ""


_UTF_8_TAIL, _NUMBER = bytes(range(0x80, 0xC0)), b"0123456789+-."
_LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _escaping(before: bytes) -> bool:
    return (len(before) - len(before.rstrip(b"\\"))) % 2 == 1


def _is_utf_8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _character(after: bytes) -> str:
    """Describe one byte without quoting text: punctuation is shown, the rest named by its kind."""
    one = after[:1]
    if one.isdigit():
        return "a digit"
    if one.isalpha():
        return "a letter"
    return f"the character {one.decode()}" if b" " < one < b"\x7f" else f"the byte 0x{after[0]:02X}"
