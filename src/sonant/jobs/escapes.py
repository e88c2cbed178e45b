"""Replace JSON escapes of lone surrogates by a noncharacter, before a parser reads them.

A UTF-16 surrogate has a meaning only in a pair. Parsers disagree about a lone one; ijson's reads it as a
question mark, or joins it with the next escape: a name would silently become another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

NO_CHARACTER = "\uffff"
"""Stands for a lone surrogate: a code point that Unicode will never assign to a character."""

_ESCAPED = rb"\uffff"

_HIGH = rb"\\u[dD][89abAB][0-9a-fA-F]{2}"
_LOW = rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_OTHER = rb"\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}"
_CUT = rb"\\(?:u[0-9a-fA-F]{0,3})?"
#: The longest text in which every surrogate is in a pair.
_WHOLE = re.compile(rb"(?:[^\\]++|\\[^u]|" + _OTHER + rb"|" + _HIGH + _LOW + rb")*+", re.DOTALL)
#: The end of a chunk that the next chunk decides about.
_UNDECIDED = re.compile(rb"(?:" + _HIGH + rb")?(?:" + _CUT + rb")?\Z")
_HALVES = re.compile(rb"(?:" + _LOW + rb"|" + _HIGH + rb"(?!" + _LOW + rb"|(?:" + _CUT + rb")?\Z))++")
_HALF_BYTES = len(_ESCAPED)


def whole_pairs(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Copy JSON text with `NO_CHARACTER` in place of each lone surrogate.

    Holds back at most the eleven bytes of an unfinished pair. What is no JSON escape passes as it is.
    """
    held, chunks = b"", iter(chunks)
    for chunk in chunks:
        data = held + chunk
        if b"\\" not in data:
            held = b""
            yield data
            continue
        parts, at = [], 0
        while True:
            whole = _WHOLE.match(data, at)
            end = at if whole is None else whole.end()
            parts.append(data[at:end])
            if _UNDECIDED.match(data, end):
                held = data[end:]
                break
            halves = _HALVES.match(data, end)
            if halves is None:  # no JSON escape at all: the parser will refuse it
                yield b"".join((*parts, data[end:]))
                yield from chunks
                return
            at = halves.end()
            parts.append(_ESCAPED * ((at - end) // _HALF_BYTES))
        yield b"".join(parts)
    yield held
