"""Read WAV files with compressed audio: GSM 6.10, ADPCM and MP3 by libsndfile, other codecs by FFmpeg."""

from __future__ import annotations

import io
import struct

from sonant.errors import AudioError
from sonant.voice.audio.containers import open_mpeg_data
from sonant.voice.audio.decoding.ffmpeg import EXTRA, FfmpegReader, installed
from sonant.voice.audio.decoding.libsndfile import LibsndfileReader, Stream
from sonant.voice.audio.formats import AudioFormat, AudioReader
from sonant.voice.audio.wav import OWN_TAGS, read_format
from sonant.voice.audio.wav_chunks import is_wav, read_layout
from sonant.voice.audio.wav_tags import G721, GSM, IMA_ADPCM, MP3, MPEG, MS_ADPCM, NAMES, tag_name

_LIBSNDFILE_TAGS = frozenset((GSM, IMA_ADPCM, MS_ADPCM, G721))


def open_compressed_wav(data: bytes, strict: bool) -> AudioReader:
    """Read the header, and choose the library that decodes this encoding. Raises AudioError."""
    layout = read_layout(data, strict)
    found = read_format(layout.format)
    audio = b"".join(data[begin : begin + length] for begin, length in layout.segments)
    if not audio:
        raise AudioError("holds no audio: 0 samples")
    if found.tag in (MPEG, MP3):
        return open_mpeg_data(audio, container="WAV")
    whole = _with_true_sizes(layout.format, audio)
    if found.tag in _LIBSNDFILE_TAGS:
        stream = Stream(source=io.BytesIO(whole), promises=True)
        return LibsndfileReader(
            [stream], container=f"WAV with {tag_name(found.tag)}", encoding=NAMES[found.tag]
        )
    if not installed():
        raise AudioError(f"WAV with {tag_name(found.tag)} is not read without FFmpeg: {EXTRA}, or send PCM")
    try:
        return FfmpegReader(whole, container="WAV", demuxer="wav", promises=False)
    except AudioError as fault:
        raise AudioError(f"WAV with {tag_name(found.tag)} is not supported ({fault}): send PCM") from None


def _with_true_sizes(fmt: bytes, audio: bytes) -> bytes:
    """Build a WAV file whose sizes are right, so that no library has to guess."""
    padded = fmt + b"\0" * (len(fmt) % 2)
    chunks = b"WAVEfmt " + struct.pack("<I", len(fmt)) + padded
    chunks += b"data" + struct.pack("<I", len(audio)) + audio + b"\0" * (len(audio) % 2)
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def _is_compressed_wav(data: bytes) -> bool:
    try:
        return is_wav(data) and read_format(read_layout(data, strict=False).format).tag not in OWN_TAGS
    except AudioError:
        return False


COMPRESSED_WAV = AudioFormat(
    name="compressed WAV",
    media_types=frozenset(),
    recognizes=_is_compressed_wav,
    open=open_compressed_wav,
)
