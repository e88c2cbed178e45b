"""Choose the reader for a recording's bytes."""

from __future__ import annotations

from sonant.errors import AudioError
from sonant.voice.audio.containers import AIFF, AU, CAF, FLAC, MP3, OGG, RAW_GSM, VOC
from sonant.voice.audio.decoding.reader import open_isolated
from sonant.voice.audio.file_kinds import describe
from sonant.voice.audio.formats import AudioFormat, AudioReader
from sonant.voice.audio.media_containers import MEDIA_FORMATS
from sonant.voice.audio.wav import WAV
from sonant.voice.audio.wav_codecs import COMPRESSED_WAV

FORMATS: tuple[AudioFormat, ...] = (
    COMPRESSED_WAV,
    WAV,
    FLAC,
    OGG,
    AIFF,
    AU,
    CAF,
    VOC,
    *MEDIA_FORMATS,
    MP3,  # the last two have no signature and search for frames
    RAW_GSM,
)
"""Every container that is read, in the order in which they are tried."""

MEDIA_TYPES = frozenset[str]().union(*(one.media_types for one in FORMATS))
"""Content types of uploads that are recognized by their bytes."""


def open_reader(data: bytes, *, strict: bool) -> tuple[AudioFormat, AudioReader]:
    """Recognize the container and read its header; `strict` accepts only containers of Voice ID.

    Formats that C libraries decode are opened in a decoder process. Raises AudioError.
    """
    for one in FORMATS:
        if (one.accepted_by_voice_id or not strict) and one.recognizes(data):
            if one.isolated:
                return one, open_isolated(one.name, data, strict=strict)
            return one, one.open(data, strict)
    if strict:
        names = " or ".join(one.name for one in FORMATS if one.accepted_by_voice_id)
        raise AudioError(f"not a {names} file: {_what(data)}")
    raise AudioError(f"not a recording: {_what(data)}")


def _what(data: bytes) -> str:
    """Say what a file is that cannot be read."""
    kind = describe(data)
    if kind is not None:
        return kind
    for one in FORMATS:
        if one.recognizes(data):
            return f"it is {one.name}"
    names = ", ".join(one.name for one in FORMATS)
    return f"begins like none of {names}; raw samples need a header, see docs/audio-formats.md"
