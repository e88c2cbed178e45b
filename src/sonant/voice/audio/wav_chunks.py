"""Find the format and the audio of WAV files: RIFF, its 64-bit forms RF64 and BW64, and Sony's Wave64.

Layouts: Microsoft, "Multiple Channel Audio Data and WAVE Files"; EBU Tech 3306 (RF64); ITU-R BS.2088 (BW64);
Sonic Foundry, "Wave64".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from sonant.errors import AudioError

_MAX_CHUNKS = 256
LEFT_OPEN_BYTES = 2**30
"""A size from here on that the file does not have was left open by a writer that could not seek back: no
recording of this size is accepted, see `audio.max_file_bytes`."""
_WAVE64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_WAVE64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # of all its other identifiers


@dataclass(frozen=True, slots=True, kw_only=True)
class WavLayout:
    """Where a file has its format and its audio."""

    format: bytes
    """The fmt chunk."""
    segments: tuple[tuple[int, int], ...]
    """Position and length of the audio in bytes; several for several data chunks or joined files."""


def is_wav(data: bytes) -> bool:
    """Whether a file begins like one of the forms."""
    riff = data[:4] in (b"RIFF", b"RF64", b"BW64") and data[8:12] == b"WAVE"
    return riff or (data.startswith(_WAVE64) and data[24:28] == b"wave")


def read_layout(data: bytes, strict: bool) -> WavLayout:
    """Find format and audio. Raises AudioError.

    `strict` allows RIFF only, and refuses sizes left open by streaming writers and a RIFF size past the end.
    """
    if len(data) < 12:
        raise AudioError(f"WAV header is cut off: {len(data)} bytes, at least 12 needed")
    if data[:4] != b"RIFF":
        if strict:
            raise AudioError("not a WAV file of the form RIFF")
        chunks = _wave64_chunks(data) if data.startswith(_WAVE64) else _riff_chunks(data, strict)
        return _find_audio(data, chunks, strict, riff_size_correct=False)
    (riff_size,) = struct.unpack_from("<I", data, 4)
    if strict and riff_size > len(data) - 8 + 1:  # the pad byte of an odd last chunk is often left out
        raise AudioError(f"truncated: header promises {riff_size + 8} bytes, there are {len(data)}")
    return _find_audio(data, _riff_chunks(data, strict), strict, riff_size_correct=riff_size == len(data) - 8)


@dataclass(frozen=True, slots=True)
class _Chunk:
    name: bytes
    at: int  # of its content
    size: int  # as the header states


def _find_audio(data: bytes, chunks: Iterator[_Chunk], strict: bool, *, riff_size_correct: bool) -> WavLayout:
    fmt: bytes | None = None
    segments: list[tuple[int, int]] = []
    empty = False
    for chunk in chunks:
        if chunk.name == b"fmt ":
            found = data[chunk.at : chunk.at + min(chunk.size, 1024)]
            if fmt is not None and (not segments or found != fmt):
                raise AudioError(
                    "WAV file is joined from files of different formats: send them one by one"
                    if segments
                    else "WAV file has two fmt chunks, must have one"
                )
            fmt = found
            if len(fmt) < 16:
                raise AudioError(f"fmt chunk has {len(fmt)} bytes, must have at least 16")
        elif chunk.name == b"data":
            if fmt is None:
                raise AudioError("WAV file has no fmt chunk before its data chunk")
            length = _data_length(data, chunk, riff_size_correct, strict)
            empty = empty or length == 0
            segments += [(chunk.at, length)] if length else []
            if strict or chunk.at + length >= len(data):
                break
    if fmt is None or not (segments or empty):
        raise AudioError("WAV file ends before its data chunk")
    return WavLayout(format=fmt, segments=tuple(segments))


def _data_length(data: bytes, chunk: _Chunk, riff_size_correct: bool, strict: bool) -> int:
    """Work out the bytes of audio from the size in the header and the bytes that follow it."""
    size, available = chunk.size, len(data) - chunk.at
    # A size of 0 in a file whose RIFF size is right, or before further chunks, is correct: there is no audio.
    empty = size == 0 and (riff_size_correct or _chunks_to_the_end(data, chunk.at))
    left_open = (size == 0 and not empty and available > 0) or (size > available and size >= LEFT_OPEN_BYTES)
    if left_open and strict:
        raise AudioError(f"data chunk size was left open ({size}), must be the size of the audio")
    if left_open:
        return available
    if size > available:
        raise AudioError(f"truncated: header promises {size} bytes of audio, there are {available}")
    return size


def _riff_chunks(data: bytes, strict: bool) -> Iterator[_Chunk]:
    at, long_sizes = 12, {}
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data):
            return
        name, size = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        if name == b"RIFF" and data[at + 8 : at + 12] == b"WAVE":  # a second file, joined to the first
            at += 12
            continue
        if name == b"ds64" and at + 24 <= len(data):
            long_sizes[b"data"] = struct.unpack_from("<Q", data, at + 16)[0]
        if size == 0xFFFF_FFFF:
            size = long_sizes.get(name, size)
        yield _Chunk(name, at + 8, size)
        at = _next_chunk(data, at + 8 + size, size, strict)
    raise AudioError(f"WAV file has more than {_MAX_CHUNKS} chunks before its data chunk")


def _next_chunk(data: bytes, end: int, size: int, strict: bool) -> int:
    """Return the position behind a chunk's pad byte, which some writers leave out."""
    if size % 2 == 0 or (not strict and _is_chunk(data, end) and not _is_chunk(data, end + 1)):
        return end
    return end + 1


def _is_chunk(data: bytes, at: int) -> bool:
    name = data[at : at + 4]
    return len(name) == 4 and all(32 <= byte < 127 for byte in name)


def _chunks_to_the_end(data: bytes, at: int) -> bool:
    """Whether chunks follow that end where the file ends."""
    begin = at
    while _is_chunk(data, at) and at + 8 <= len(data):
        size = struct.unpack_from("<I", data, at + 4)[0]
        at += 8 + size + size % 2
    return begin < at and len(data) <= at <= len(data) + 1


def _wave64_chunks(data: bytes) -> Iterator[_Chunk]:
    at = 40
    for _ in range(_MAX_CHUNKS):
        if at + 24 > len(data):
            return
        name, size = data[at : at + 4], struct.unpack_from("<Q", data, at + 16)[0]
        if data[at + 4 : at + 16] != _WAVE64_TAIL or size < 24:
            return
        yield _Chunk(name, at + 24, size - 24)
        at += (size + 7) // 8 * 8
    raise AudioError(f"WAV file has more than {_MAX_CHUNKS} chunks before its data chunk")
