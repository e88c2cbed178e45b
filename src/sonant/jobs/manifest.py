"""Read the manifest: a stream of bytes becomes a stream of entries.

Memory holds one entry at a time, and a digest of each RequestId to find one that is used twice.

A fault of the whole file raises JobFault; a fault of one entry becomes a BadRequest. Field rules (lengths,
patterns) come from the service model; the caller passes them in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import ijson
from ijson.common import JSONError

from sonant.errors import SetupError
from sonant.events.error_info import ErrorInfo
from sonant.jobs.escapes import NO_CHARACTER, whole_pairs
from sonant.jobs.faults import JobFault

VERSION = "1.0"
MAX_REQUEST_ID = 256
MAX_CHANNEL = 1
MAX_PARTS, MAX_PARTS_ON_AVERAGE = 10_000, 200
"""JSON names, values and brackets that one request may consist of, and that a request of a full manifest may
have on average; a legal one of ten files has 68. Bounds the memory and the time that a hostile file costs."""

#: The C parser is required: ijson's pure Python one is fifteen times slower.
_BACK_END = "yajl2_c"

_NO_TEXT = "holds half a surrogate pair, or another code point that is no character"

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Limits and field checks. A check returns the fault of a text, or an empty string."""

    job: str
    """The name of the job type in texts."""
    list_name: str
    """The field that holds the requests."""
    max_bytes: int
    max_depth: int
    max_requests: int
    max_files: int
    check_speaker_id: Callable[[str], str] | None
    """None: requests name no speaker."""
    check_s3_uri: Callable[[str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioFile:
    s3_uri: str
    channel: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A valid entry of the manifest."""

    request_id: str
    audio: tuple[AudioFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollmentRequest(Request):
    """An entry that names a speaker by the customer's own id."""

    speaker_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRequest:
    """An invalid entry; `request_id` is empty when it has no usable one."""

    request_id: str
    message: str


Entry = Request | BadRequest


def read_manifest(chunks: Iterable[bytes], rules: Rules) -> Iterator[Entry]:
    """Read the entries in order.

    Raises JobFault: 400 for a file that is too large, not UTF-8 JSON, nested too deeply, of the wrong shape
    or version, without requests, or with a RequestId used twice; 402 for more requests than the quota.
    """
    reader = _Events(chunks, rules)
    if reader.next()[0] != "start_map":
        raise _bad("must be a JSON object")
    seen: set[str] = set()
    version: Any = None
    count = 0
    ids: dict[bytes, int] = {}
    while (event := reader.next())[0] == "map_key":
        name = event[1]
        if name in seen:
            raise _bad(f"holds the field {_shown(name)} twice")
        if name == "Version":
            version = reader.value()
        elif name == rules.list_name:
            if reader.next()[0] != "start_array":
                raise _bad(f"{rules.list_name} must be a list")
            while (event := reader.next_part())[0] != "end_array":
                count += 1
                if count > rules.max_requests:
                    raise JobFault(
                        402, f"the manifest has more than {rules.max_requests} requests, the quota of a job"
                    )
                entry = _entry(reader.value(event), count, rules)
                if entry.request_id:
                    digest = hashlib.blake2b(entry.request_id.encode(), digest_size=16).digest()
                    first = ids.setdefault(digest, count)
                    if first != count:
                        raise _bad(
                            f"uses one RequestId for requests {first} and {count}; each must have its own"
                        )
                yield entry
        else:
            reader.value()
        if name in ("Version", rules.list_name):
            seen.add(name)
    reader.end()
    if version != VERSION:
        raise JobFault(
            400,
            f'the manifest must have "Version": "{VERSION}"',
            ErrorInfo.of_code(400, f"The given {rules.job} job's input file version is invalid."),
        )
    if rules.list_name not in seen:
        raise _bad(f"has no list {rules.list_name}")
    if not count:
        raise _bad("holds no requests")


def parser_name() -> str:
    """Name the JSON parser in use. Raises SetupError when ijson's C back end is missing."""
    return f"ijson {ijson.__version__} {_parser().backend_name}"


def _parser() -> Any:
    try:
        return ijson.get_backend(_BACK_END)
    except ImportError:
        raise SetupError(
            "ijson has no C back end here; install a wheel of it: pip install --force-reinstall ijson"
        ) from None


def _entry(value: Any, number: int, rules: Rules) -> Entry:
    if not isinstance(value, dict):
        return BadRequest(request_id="", message=f"request {number} of the manifest is not an object")
    request_id = value.get("RequestId")
    if not isinstance(request_id, str) or not 1 <= len(request_id) <= MAX_REQUEST_ID:
        return BadRequest(
            request_id="",
            message=f"request {number} of the manifest needs a RequestId of 1 to {MAX_REQUEST_ID} characters",
        )
    if NO_CHARACTER in request_id:
        return BadRequest(request_id="", message=f"the RequestId of request {number} {_NO_TEXT}")
    fault = _fault(value, rules)
    if fault:
        return BadRequest(request_id=request_id, message=fault)
    audio = tuple(
        AudioFile(s3_uri=_uri(item), channel=item["ChannelId"]) for item in value["AudioSpecifications"]
    )
    if rules.check_speaker_id is None:
        return Request(request_id=request_id, audio=audio)
    return EnrollmentRequest(request_id=request_id, speaker_id=value["SpeakerId"], audio=audio)


def _fault(value: dict[str, Any], rules: Rules) -> str:
    """Find the fault of an entry, with the name of the field; empty if there is none."""
    if twice := value.get(_DUPLICATE):
        return f"the field {twice} stands twice in the request"
    if rules.check_speaker_id and (wrong := _speaker_fault(value.get("SpeakerId"), rules.check_speaker_id)):
        return f"SpeakerId {wrong}"
    files = value.get("AudioSpecifications")
    if not isinstance(files, list):
        return "AudioSpecifications is missing" if files is None else "AudioSpecifications must be a list"
    if not 1 <= len(files) <= rules.max_files:
        return f"AudioSpecifications must hold 1 to {rules.max_files} files, holds {len(files)}"
    for number, item in enumerate(files, 1):
        if wrong := _file_fault(item, rules):
            return f"AudioSpecifications {number}: {wrong}"
    return ""


def _speaker_fault(speaker_id: Any, check: Callable[[str], str]) -> str:
    if not isinstance(speaker_id, str):
        return "is missing" if speaker_id is None else "must be a string"
    if speaker_id.startswith("id#"):
        return "must be the customer's own id; a generated id (id#...) is not supported here"
    if NO_CHARACTER in speaker_id:
        return _NO_TEXT
    return check(speaker_id)


def _file_fault(item: Any, rules: Rules) -> str:
    if not isinstance(item, dict):
        return "must be an object"
    if twice := item.get(_DUPLICATE):
        return f"the field {twice} stands twice"
    uri = _uri(item)
    if not isinstance(uri, str):
        return "S3Uri is missing" if uri is None else "S3Uri must be a string"
    if NO_CHARACTER in uri:
        return f"S3Uri {_NO_TEXT}"
    if wrong := rules.check_s3_uri(uri):
        return f"S3Uri {wrong}"
    channel = item.get("ChannelId")
    if channel is None:
        return "ChannelId is missing"
    if type(channel) is not int or not 0 <= channel <= MAX_CHANNEL:
        return f"ChannelId must be a whole number from 0 to {MAX_CHANNEL}"
    return ""


def _uri(item: dict[str, Any]) -> Any:
    # AWS's prose spells the field S3URI once, its schema S3Uri: both are read.
    return item.get("S3Uri", item.get("S3URI"))


#: The key under which an object's first duplicate field is stored while it is read; no JSON key equals it.
_DUPLICATE: Any = object()

_SCALARS = frozenset(("string", "number", "boolean", "null"))


class _Events:
    """Reads parse events, with bounds on bytes and nesting."""

    def __init__(self, chunks: Iterable[bytes], rules: Rules) -> None:
        self._rules = rules
        self._depth = self._parts = self._parts_before = 0
        # With `use_float` yajl refuses numbers beyond 64 bits. Without, ijson hands out a null pointer for
        # a number longer than Python converts.
        self._source = _parser().basic_parse(_Reader(whole_pairs(chunks), rules.max_bytes), use_float=True)

    def next_part(self) -> tuple[str, Any]:
        """Read the first event of an entry."""
        self._parts_before += self._parts
        self._parts = 0
        if self._parts_before > self._rules.max_requests * MAX_PARTS_ON_AVERAGE + MAX_PARTS:
            raise _bad("holds far more fields and values than its requests need")
        return self.next()

    def next(self) -> tuple[str, Any]:
        try:
            event: tuple[str, Any] = next(self._source)
        except StopIteration:
            raise _bad("ends too early") from None
        except (JSONError, UnicodeDecodeError, ValueError):
            # The parser's own text quotes the file, which may hold customer ids.
            raise _bad("is not valid JSON in UTF-8") from None
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise _bad(f"holds more than {MAX_PARTS} fields and values in one place")
        if event[0] in ("start_map", "start_array"):
            self._depth += 1
            if self._depth > self._rules.max_depth:
                raise _bad(f"is nested deeper than {self._rules.max_depth} levels")
        elif event[0] in ("end_map", "end_array"):
            self._depth -= 1
        return event

    def end(self) -> None:
        try:
            next(self._source)
        except StopIteration:
            return
        except (JSONError, UnicodeDecodeError, ValueError):
            pass
        raise _bad("has something behind its end")

    def value(self, event: tuple[str, Any] | None = None) -> Any:
        """Read a whole value. A duplicate key is stored under `_DUPLICATE`; the first value stays."""
        kind, scalar = event or self.next()
        if kind in _SCALARS:
            return scalar
        if kind == "start_array":
            items = []
            while (event := self.next())[0] != "end_array":
                items.append(self.value(event))
            return items
        members: dict[Any, Any] = {}
        while (event := self.next())[0] != "end_map":
            name, value = event[1], self.value()
            if name in members:
                members.setdefault(_DUPLICATE, _shown(name))
            else:
                members[name] = value
        return members


class _Reader:
    """The file that ijson reads: counts bytes and drops a byte order mark."""

    def __init__(self, chunks: Iterable[bytes], max_bytes: int) -> None:
        self._chunks = filter(None, chunks)
        self._max_bytes = max_bytes
        self._count = 0
        self._buffer = b""
        self._started = False

    def read(self, size: int) -> bytes:
        if size == 0:  # ijson asks once to see whether it is given bytes or text
            return b""
        while not self._buffer:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            if not self._started:
                while len(chunk) < len(_BOM) and (more := next(self._chunks, None)):
                    chunk += more
                self._started = True
                self._buffer = chunk.removeprefix(_BOM)
            else:
                self._buffer = chunk
            self._count += len(chunk)
            if self._count > self._max_bytes:
                raise _bad(f"is larger than {self._max_bytes} bytes")
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken


def _bad(what: str) -> JobFault:
    return JobFault(400, f"the manifest {what}")


def _shown(name: str) -> str:
    """Quote a field name of the file for a message."""
    return repr(name if len(name) <= 40 else name[:40] + "…")
