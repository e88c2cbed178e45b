"""The containers that libsndfile reads, with the care that each needs to be read to its end.

FFmpeg, where it is installed, reads what libsndfile does not know of them.
"""

from __future__ import annotations

import io
from collections.abc import Callable

from sonant.errors import AudioError
from sonant.voice.audio.decoding import ffmpeg
from sonant.voice.audio.decoding.ffmpeg import EXTRA, FfmpegReader
from sonant.voice.audio.decoding.flac_streams import split_flac
from sonant.voice.audio.decoding.libsndfile import TOLERANCE_S, LibsndfileReader, LongerFile, Stream
from sonant.voice.audio.decoding.mpeg import MpegStream, end_of_tags, find_start, split_streams
from sonant.voice.audio.decoding.ogg import split_chain
from sonant.voice.audio.decoding.sizes import SizeCheck, check_aiff, check_au, check_caf
from sonant.voice.audio.formats import AudioFormat, AudioReader

_GSM_FRAME_BYTES, _GSM_RATE_HZ = 33, 8000
_LIBSNDFILE_OGG = frozenset(("Vorbis", "Opus"))


def open_mpeg_data(data: bytes, *, container: str = "MP3") -> AudioReader:
    """Open MPEG audio of layers I to III, one stream or several that were joined. Raises AudioError."""
    start = find_start(data)
    if start is None:
        raise AudioError(f"{container} holds no MPEG audio frames")
    streams, junk_bytes = split_streams(data, start)
    if not streams:
        raise AudioError("holds no audio: 0 samples")
    found = [frames.frames * frames.frame.samples / frames.frame.rate_hz for frames in streams]
    bytes_per_s = sum(len(one.data) for one in streams) / sum(found)
    if junk_bytes > max(TOLERANCE_S * bytes_per_s, streams[-1].biggest):
        raise AudioError(f"damaged: {junk_bytes} bytes between the frames of this {container} are no audio")
    layers = "".join(sorted({str(one.frame.layer) for one in streams}))
    return LibsndfileReader(
        [_mpeg_stream(one) for one in streams],
        container=container,
        encoding=f"MP{layers}",
        tolerance_s=TOLERANCE_S,
    )


def _mpeg_stream(one: MpegStream) -> Stream:
    """Build a stream that libmpg123 reads whole: it stops where it is told, or estimates, the end."""
    counted = one.frames * one.frame.samples
    if one.promised and one.promised >= one.frames:  # with the delay that the header may state, to the sample
        return Stream(source=io.BytesIO(one.data), promises=True, counted_frames=counted)
    audio = one.data if one.promised is None else one.data[one.frame.size :]  # without a wrong header
    return Stream(source=LongerFile(audio, (one.frames + 8) * one.biggest), counted_frames=counted)


def _open_mp3(data: bytes, _strict: bool) -> AudioReader:
    return open_mpeg_data(data)


def _is_mp3(data: bytes) -> bool:
    return find_start(data) is not None


def _open_flac(data: bytes, _strict: bool) -> AudioReader:
    streams = split_flac(data, end_of_tags(data, 0))
    try:
        return LibsndfileReader(
            [Stream(source=io.BytesIO(one.data), promised_frames=one.promised_frames) for one in streams],
            container="FLAC",
            encoding="FLAC",
        )
    except AudioError:
        if len(streams) > 1 or not ffmpeg.installed():
            raise
        return FfmpegReader(data, container="FLAC", demuxer="flac", promises=False)


def _is_flac(data: bytes) -> bool:
    return data.startswith(b"fLaC", end_of_tags(data, 0))


def _open_ogg(data: bytes, _strict: bool) -> AudioReader:
    links = split_chain(data)
    if not links or not links[0].audio:
        held = " and ".join(sorted({one for link in links for one in link.codecs if one})) or "no known codec"
        raise AudioError(f"an Ogg file with {held}: holds no sound that can be read")
    if all(len(link.codecs) == 1 and link.codecs[0] in _LIBSNDFILE_OGG for link in links):
        return LibsndfileReader(
            [Stream(source=io.BytesIO(data[link.begin : link.end]), promises=True) for link in links],
            container="Ogg",
            encoding=links[0].codecs[0],
            tolerance_s=TOLERANCE_S,
        )
    if not ffmpeg.installed():
        held = " and ".join(sorted({one for link in links for one in link.codecs if one}))
        raise AudioError(f"Ogg with {held} is not read without FFmpeg: {EXTRA}, or send WAV or FLAC")
    return FfmpegReader(data, container="Ogg", demuxer="ogg", promises=True)


def _open_raw_gsm(data: bytes, _strict: bool) -> AudioReader:
    stream = Stream(source=io.BytesIO(data), raw=(_GSM_RATE_HZ, 1, "GSM610"))
    return LibsndfileReader([stream], container="GSM", encoding="GSM 6.10")


def _is_raw_gsm(data: bytes) -> bool:
    """Whether the data is nothing but frames of GSM 6.10, each of which begins with the four bits 1101."""
    frames, rest = divmod(len(data), _GSM_FRAME_BYTES)
    return frames >= 2 and rest == 0 and all(byte >> 4 == 0xD for byte in data[::_GSM_FRAME_BYTES])


def _simple(check: SizeCheck, container: str, demuxer: str) -> Callable[[bytes, bool], AudioReader]:
    """Return an opener of containers that libsndfile reads whole once their size is checked."""

    def open_file(data: bytes, _strict: bool) -> AudioReader:
        check(data)
        try:
            return LibsndfileReader([Stream(source=io.BytesIO(data), promises=True)], container=container)
        except AudioError as fault:
            if ffmpeg.installed():
                return FfmpegReader(data, container=container, demuxer=demuxer, promises=True)
            raise AudioError(f"{fault}; for more codecs {EXTRA}") from None

    return open_file


def _begins(*signatures: bytes) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(signatures)


def _is_aiff(data: bytes) -> bool:
    return data.startswith(b"FORM") and data[8:12] in (b"AIFF", b"AIFC")


def _unchecked(_data: bytes) -> None:
    """Check nothing: the format states its length block by block."""


FLAC = AudioFormat(
    name="FLAC", media_types=frozenset(("audio/flac", "audio/x-flac")), recognizes=_is_flac, open=_open_flac
)
OGG = AudioFormat(
    name="Ogg",
    media_types=frozenset(("audio/ogg", "audio/opus", "audio/vorbis", "audio/speex", "application/ogg")),
    recognizes=_begins(b"OggS"),
    open=_open_ogg,
)
MP3 = AudioFormat(
    name="MP3",
    media_types=frozenset(("audio/mpeg", "audio/mp3", "audio/mpeg3", "audio/x-mpeg")),
    recognizes=_is_mp3,
    open=_open_mp3,
)
AIFF = AudioFormat(
    name="AIFF",
    media_types=frozenset(("audio/aiff", "audio/x-aiff")),
    recognizes=_is_aiff,
    open=_simple(check_aiff, "AIFF", "aiff"),
)
AU = AudioFormat(
    name="AU",
    media_types=frozenset(("audio/x-au", "audio/au")),
    recognizes=_begins(b".snd", b"dns."),
    open=_simple(check_au, "AU", "au"),
)
CAF = AudioFormat(
    name="CAF",
    media_types=frozenset(("audio/x-caf",)),
    recognizes=_begins(b"caff"),
    open=_simple(check_caf, "CAF", "caf"),
)
VOC = AudioFormat(
    name="VOC",
    media_types=frozenset(("audio/x-voc",)),
    recognizes=_begins(b"Creative Voice File"),
    open=_simple(_unchecked, "VOC", "voc"),
)
RAW_GSM = AudioFormat(
    name="GSM",
    media_types=frozenset(("audio/gsm", "audio/x-gsm")),
    recognizes=_is_raw_gsm,
    open=_open_raw_gsm,
)
