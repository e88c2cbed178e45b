"""Choose the reader for a recording's bytes."""

from __future__ import annotations

from sonant.errors import AudioError
from sonant.voice.audio.compressed import FLAC, MP3, OGG
from sonant.voice.audio.formats import AudioFormat, AudioReader
from sonant.voice.audio.wav import WAV

FORMATS: tuple[AudioFormat, ...] = (WAV, FLAC, OGG, MP3)
"""Every container that is read, in the order in which they are tried."""

MEDIA_TYPES = frozenset[str]().union(*(one.media_types for one in FORMATS))
"""Content types of uploads that are recognized by their bytes."""


def open_reader(data: bytes, *, strict: bool) -> tuple[AudioFormat, AudioReader]:
    """Recognize the container and read its header; `strict` accepts only containers of Voice ID.

    Raises AudioError.
    """
    allowed = [one for one in FORMATS if one.accepted_by_voice_id or not strict]
    for one in allowed:
        if one.recognizes(data):
            return one, one.open(data, strict)
    names = [one.name for one in allowed]
    if strict:
        raise AudioError(f"not a {' or '.join(names)} file")
    raise AudioError(f"not a recording: begins like none of {', '.join(names)}")
