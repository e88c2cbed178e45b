"""The containers that only FFmpeg reads: films and phones, Windows Media, AMR, AAC and others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from sonant.voice.audio.decoding.ffmpeg import FfmpegReader
from sonant.voice.audio.decoding.mpeg import end_of_tags
from sonant.voice.audio.formats import AudioFormat, AudioReader

_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp")
_TS_PACKET_BYTES = 188


def _open(
    data: bytes, _strict: bool, *, name: Callable[[bytes], str], demuxer: str, promises: bool
) -> AudioReader:
    return FfmpegReader(data, container=name(data), demuxer=demuxer, promises=promises)


def _format(
    name: str,
    demuxer: str,
    recognizes: Callable[[bytes], bool],
    *,
    media_types: Iterable[str] = (),
    promises: bool = False,
    exact_name: Callable[[bytes], str] | None = None,
) -> AudioFormat:
    return AudioFormat(
        name=name,
        media_types=frozenset(media_types),
        recognizes=recognizes,
        open=partial(_open, name=exact_name or (lambda _: name), demuxer=demuxer, promises=promises),
    )


def _begins(*signatures: bytes) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(signatures)


def _is_mp4(data: bytes) -> bool:
    return data[4:8] in _MP4_BOXES


def _mp4_name(data: bytes) -> str:
    brand = data[8:12] if data[4:8] == b"ftyp" else b""
    return "M4A" if brand.startswith(b"M4A") else "3GP" if brand.startswith(b"3g") else "MP4"


def _matroska_name(data: bytes) -> str:
    return "WebM" if b"webm" in data[:64] else "Matroska"


def _amr_name(data: bytes) -> str:
    return "AMR-WB" if data.startswith(b"#!AMR-WB") else "AMR-NB"


def _is_adts(data: bytes) -> bool:
    """Whether two frames of AAC in ADTS follow each other behind the tags (ISO 13818-7 6.2)."""
    at = end_of_tags(data, 0)
    for _ in range(2):
        head = data[at : at + 7]
        if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
            return False
        at += (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        if at >= len(data):
            return True
    return True


def _is_latm(data: bytes) -> bool:
    """Whether two frames of AAC in LOAS follow each other (ISO 14496-3 1.7.2)."""
    at = 0
    for _ in range(2):
        if len(data) < at + 3 or data[at] != 0x56 or data[at + 1] & 0xE0 != 0xE0:
            return False
        at += 3 + ((data[at + 1] & 0x1F) << 8 | data[at + 2])
    return True


def _is_transport_stream(data: bytes) -> bool:
    return len(data) > 2 * _TS_PACKET_BYTES and all(data[n * _TS_PACKET_BYTES] == 0x47 for n in range(3))


def _is_riff(form: bytes) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(b"RIFF") and data[8:12] == form


MEDIA_FORMATS: tuple[AudioFormat, ...] = (
    _format(
        "MP4",
        "mov",
        _is_mp4,
        media_types=("audio/mp4", "audio/x-m4a", "audio/m4a", "video/mp4", "audio/3gpp", "video/3gpp"),
        promises=True,
        exact_name=_mp4_name,
    ),
    _format(
        "WebM",
        "matroska",
        _begins(b"\x1a\x45\xdf\xa3"),
        media_types=("audio/webm", "video/webm", "audio/x-matroska", "video/x-matroska"),
        promises=True,
        exact_name=_matroska_name,
    ),
    _format(
        "WMA", "asf", _begins(_ASF), media_types=("audio/x-ms-wma", "video/x-ms-asf"), promises=True
    ),
    _format("AMR", "amr", _begins(b"#!AMR\n", b"#!AMR-WB\n"), media_types=("audio/amr", "audio/amr-wb"),
            exact_name=_amr_name),
    _format("AAC", "aac", _is_adts, media_types=("audio/aac", "audio/aacp", "audio/x-aac")),
    _format("LOAS AAC", "loas", _is_latm),
    _format("iLBC", "ilbc", _begins(b"#!iLBC20\n", b"#!iLBC30\n"), media_types=("audio/ilbc",)),
    _format("QCP", "qcp", _is_riff(b"QLCM"), media_types=("audio/qcelp",)),
    _format("AVI", "avi", _is_riff(b"AVI "), media_types=("video/avi", "video/x-msvideo"), promises=True),
    _format("FLV", "flv", _begins(b"FLV\x01"), media_types=("video/x-flv",)),
    _format("MPEG transport stream", "mpegts", _is_transport_stream, media_types=("video/mp2t",)),
    _format("MPEG program stream", "mpeg", _begins(b"\0\0\1\xba"), media_types=("video/mpeg",)),
    _format("Monkey's Audio", "ape", _begins(b"MAC "), media_types=("audio/x-ape",), promises=True),
    _format("WavPack", "wv", _begins(b"wvpk"), media_types=("audio/x-wavpack",), promises=True),
    _format("True Audio", "tta", _begins(b"TTA1"), media_types=("audio/x-tta",), promises=True),
    _format("TAK", "tak", _begins(b"tBaK"), promises=True),
    _format("Musepack", "mpc8", _begins(b"MPCK"), media_types=("audio/x-musepack",), promises=True),
    _format("Musepack 7", "mpc", _begins(b"MP+"), promises=True),
)  # fmt: skip
"""In the order in which they are tried."""
