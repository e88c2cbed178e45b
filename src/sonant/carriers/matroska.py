"""Extract the customer's audio from what Amazon Connect writes to Kinesis Video Streams: Matroska (RFC 9559),
read from a stream of bytes as GetMedia returns it.

Each fragment, about a second, is a document of its own: tracks, one cluster of blocks, then tags. Blocks of
the track AUDIO_FROM_CUSTOMER hold 16-bit little-endian samples at 8 kHz, whatever the track's codec says (it
says AAC). A video stream is used for one call after another, and the tag ContactId, behind the blocks, names
their contact: so the samples of a fragment are returned only when all of it has been read.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sonant.sessions.calls import StreamFault

RATE_HZ = 8000
CUSTOMER_TRACK = "AUDIO_FROM_CUSTOMER"
CONTACT_TAG = "ContactId"

#: A fragment holds a second or two; a larger one is no telephone call.
MAX_FRAGMENT_BYTES = 8 * 1024 * 1024
_MAX_HEAD = 12  # an id of 4 bytes and a size of 8
_MAX_TRACKS = 16

_EBML, _SEGMENT, _CLUSTER, _BLOCK_GROUP = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0xA0
_TRACKS, _TRACK, _TRACK_NUMBER, _TRACK_NAME = 0x1654AE6B, 0xAE, 0xD7, 0x536E
_TAGS, _TAG, _SIMPLE_TAG, _TAG_NAME, _TAG_STRING = 0x1254C367, 0x7373, 0x67C8, 0x45A3, 0x4487
_BLOCKS = frozenset((0xA3, 0xA1))  # SimpleBlock, and Block in a BlockGroup
#: Their children are read as if they stood beside them, so that their size need not be known.
_ENTERED = frozenset((_SEGMENT, _CLUSTER, _BLOCK_GROUP, _TRACKS, _TAGS, _TAG))
_LACING = 0x06


class CustomerTrack:
    """Extracts the samples of one contact's customer from bytes in any pieces."""

    def __init__(self, contact_id: str | None = None) -> None:
        """Without a `contact_id` the first one that a fragment names is used."""
        self._contact_id = contact_id
        self._buffer = bytearray()
        self._skip = 0  # bytes left of an element that is passed over
        self._header_seen = self._contact_seen = False
        self._start_fragment()
        self.ended = False
        """Whether another contact's fragment has followed: no more samples come."""

    def push(self, data: bytes) -> list[NDArray[np.int16]]:
        """Return the samples of fragments that this data completes. Raises StreamFault."""
        self._buffer += data
        found = []
        while not self.ended and (element := self._next()) is not None:
            identity, payload = element
            if identity == _EBML:
                found += self._finish_fragment()
            else:
                self._read(identity, payload)
        return found

    def finish(self) -> list[NDArray[np.int16]]:
        """Return the samples of the last fragment."""
        return [] if self.ended else self._finish_fragment()

    def _start_fragment(self) -> None:
        self._tracks: dict[int, str] = {}
        self._tags: dict[str, str] = {}
        self._blocks: list[bytes] = []
        self._bytes = 0

    def _finish_fragment(self) -> list[NDArray[np.int16]]:
        blocks, tags = self._blocks, self._tags
        self._start_fragment()
        contact = tags.get(CONTACT_TAG)
        if not blocks:
            return []
        if self._contact_id is None:
            self._contact_id = contact
        if contact is not None and contact != self._contact_id:
            self.ended = self._contact_seen
            return []
        self._contact_seen = True
        joined = b"".join(blocks)
        if len(joined) % 2:
            raise StreamFault("a fragment ends in the middle of a sample")
        return [np.frombuffer(joined, "<i2").astype(np.int16)]

    def _next(self) -> tuple[int, bytes] | None:
        """Return the next element's id and content; empty content for elements of _ENTERED."""
        if self._skip:
            skipped = min(self._skip, len(self._buffer))
            del self._buffer[:skipped]
            self._skip -= skipped
            if self._skip:
                return None
        head = _head(self._buffer)
        if head is None:
            return None
        identity, size, length = head
        if not self._header_seen and identity != _EBML:
            raise StreamFault("this is not Matroska")
        self._header_seen = True
        if identity in _ENTERED:
            del self._buffer[:length]
            return identity, b""
        if size is None:
            raise StreamFault("an element of unknown size is not one that may have it")
        self._bytes += size
        if self._bytes > MAX_FRAGMENT_BYTES:
            raise StreamFault(f"a fragment is larger than {MAX_FRAGMENT_BYTES} bytes")
        if identity not in _BLOCKS and identity not in (_TRACK, _SIMPLE_TAG):
            del self._buffer[:length]
            self._skip = size
            return identity, b""
        if len(self._buffer) < length + size:
            self._bytes -= size  # it will be counted when it is there
            return None
        payload = bytes(self._buffer[length : length + size])
        del self._buffer[: length + size]
        return identity, payload

    def _read(self, identity: int, payload: bytes) -> None:
        if identity == _TRACK:
            children = dict(_children(payload))
            number = int.from_bytes(children.get(_TRACK_NUMBER, b"\0"), "big")
            self._tracks[number] = _text(children.get(_TRACK_NAME, b""))
            if len(self._tracks) > _MAX_TRACKS:
                raise StreamFault("a fragment has too many tracks")
        elif identity == _SIMPLE_TAG:
            children = dict(_children(payload))
            self._tags[_text(children.get(_TAG_NAME, b""))] = _text(children.get(_TAG_STRING, b""))
        elif identity in _BLOCKS:
            try:
                number, length = _number(payload, 0, keep_marker=False)
            except _Incomplete:
                raise StreamFault("a block is too short") from None
            if len(payload) < length + 3:
                raise StreamFault("a block is too short")
            if payload[length + 2] & _LACING:
                raise StreamFault("a block is laced, which Amazon Connect does not do")
            if self._tracks.get(number) == CUSTOMER_TRACK:
                self._blocks.append(payload[length + 3 :])


def _head(buffer: bytearray) -> tuple[int, int | None, int] | None:
    """Return id, size (None if unknown) and length of an element's head; None while it is incomplete."""
    if not buffer:
        return None
    try:
        identity, first = _number(buffer, 0, keep_marker=True)
        size, second = _number(buffer, first, keep_marker=False)
    except _Incomplete:
        if len(buffer) >= _MAX_HEAD:
            raise StreamFault("this is not Matroska") from None
        return None
    if first > 4:
        raise StreamFault("this is not Matroska")
    unknown = size == (1 << (7 * second)) - 1
    return identity, None if unknown else size, first + second


class _Incomplete(Exception):
    """There are fewer bytes than a number takes."""


def _number(data: bytes | bytearray, at: int, *, keep_marker: bool) -> tuple[int, int]:
    """Return a variable-size integer (RFC 8794, section 4) and how many bytes it takes."""
    if at >= len(data):
        raise _Incomplete
    length = 9 - data[at].bit_length()
    if length > 8:
        raise StreamFault("this is not Matroska")
    if len(data) < at + length:
        raise _Incomplete
    value = int.from_bytes(data[at : at + length], "big")
    return (value if keep_marker else value ^ (1 << (7 * length))), length


def _children(payload: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    try:
        while at < len(payload):
            identity, first = _number(payload, at, keep_marker=True)
            size, second = _number(payload, at + first, keep_marker=False)
            at += first + second
            if at + size > len(payload):
                raise StreamFault("an element is larger than the one around it")
            yield identity, payload[at : at + size]
            at += size
    except _Incomplete:
        raise StreamFault("an element is cut off") from None


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("utf-8", "replace")
