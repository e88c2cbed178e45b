"""Say what a file is that is not a recording, and what to do about it."""

from __future__ import annotations

import struct

from sonant.voice.audio.decoding.mpeg import end_of_tags

_HEAD_BYTES = 4096
_PACKED = "unpack it and send the recording inside"
_NO_SOUND = "send the recording itself"
_ENCRYPTED = "decrypt it before it is sent"

#: Beginnings of files, what they are, and what to do (libmagic's and the formats' own signatures).
_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "a gzip file", _PACKED),
    (b"BZh", "a bzip2 file", _PACKED),
    (b"\xfd7zXZ\0", "an xz file", _PACKED),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file", _PACKED),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _PACKED),
    (b"Rar!\x1a\x07", "a RAR archive", _PACKED),
    (b"%PDF", "a PDF document", _NO_SOUND),
    (b"\x89PNG", "a PNG image", _NO_SOUND),
    (b"\xff\xd8\xff", "a JPEG image", _NO_SOUND),
    (b"GIF8", "a GIF image", _NO_SOUND),
    (b"MThd", "a MIDI file, which holds notes and no sound", _NO_SOUND),
    (b"PAR1", "a Parquet file", _NO_SOUND),
    (b"SQLite format 3\0", "an SQLite database", _NO_SOUND),
    (b"\xd0\xcf\x11\xe0", "an old Office document", _NO_SOUND),
    (b"\x7fELF", "a program", _NO_SOUND),
    (b"MZ", "a Windows program", _NO_SOUND),
    (b"\xd4\xc3\xb2\xa1", "a capture of network packets", "export the call from it as WAV"),
    (b"\x0a\x0d\x0d\x0a", "a capture of network packets", "export the call from it as WAV"),
    (b"Salted__", "a file encrypted by OpenSSL", _ENCRYPTED),
    (b"-----BEGIN PGP", "a file encrypted by PGP", _ENCRYPTED),
    (b"\x85\x02", "a file encrypted by PGP", _ENCRYPTED),
    (b"age-encryption.org", "a file encrypted by age", _ENCRYPTED),
    (b"#!AMR-WB_MC1.0\n", "AMR-WB with several channels", "export it as WAV"),
    (b"#!AMR_MC1.0\n", "AMR-NB with several channels", "export it as WAV"),
    (b"#!SILK_V3", "SILK of Skype", "export it as WAV"),
    (b"\x02#!SILK_V3", "SILK of WeChat", "export it as WAV"),
    (b"\x02dss", "a DSS dictation", "export it as WAV"),
    (b"\x03ds2", "a DS2 dictation", "export it as WAV"),
    (b"\x03enc", "an encrypted DS2 dictation", "export it as WAV"),
    (b".RMF", "RealMedia", "export it as WAV"),
    (b".ra\xfd", "RealAudio", "export it as WAV"),
    (b"ajkg", "Shorten", "export it as WAV"),
    (b"NIST_1A", "NIST SPHERE", "convert it to WAV, for instance by sph2pipe"),
    (b"DSD ", "DSD audio", "export it as WAV"),
    (b"FRM8", "DSD audio", "export it as WAV"),
    (b"OFR ", "OptimFROG", "export it as WAV"),
    (b"VMS_VOC", "a voice mail container", "export it as WAV"),
    (b"RIFX", "big-endian WAV", "export it as WAV (RIFF)"),
    (b"#EXTM3U", "a playlist, which names recordings and holds none", _NO_SOUND),
    (b"[playlist]", "a playlist, which names recordings and holds none", _NO_SOUND),
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the file that it stands for"),
    (b"{\\rtf", "an RTF document", _NO_SOUND),
    (b"#!", "a script", _NO_SOUND),
)
_MARKUP = ((b"<!doctype html", "an HTML page"), (b"<html", "an HTML page"), (b"<?xml", "XML"))
_ERROR_PAGE = "perhaps the error page of a download: fetch the recording again"


def describe(data: bytes) -> str | None:
    """Say what a file is and what to do; None if it is not known. It reads the beginning only."""
    head = data[:_HEAD_BYTES]
    for signature, what, advice in _SIGNATURES:
        if head.startswith(signature):
            return f"it is {what}; {advice}"
    for recognize in (_zip, _tar, _image, _text, _empty):
        found = recognize(data)
        if found is not None:
            return f"it is {found}"
    return None


def _zip(data: bytes) -> str | None:
    if not data.startswith(b"PK\x03\x04"):
        return None
    (flags,) = struct.unpack_from("<H", data.ljust(8, b"\0"), 6)
    if flags & 1:
        return f"an encrypted ZIP archive; decrypt it: {_PACKED}"
    return f"a ZIP archive; {_PACKED}"


def _tar(data: bytes) -> str | None:
    return f"a tar archive; {_PACKED}" if data[257:262] == b"ustar" else None


def _image(data: bytes) -> str | None:
    picture = data.startswith((b"BM", b"II*\0", b"MM\0*")) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")
    return f"an image; {_NO_SOUND}" if picture else None


def _empty(data: bytes) -> str | None:
    if data.count(0) == len(data):
        return "nothing but zero bytes, perhaps of a transfer that failed; send it again"
    if data.startswith(b"ID3") and end_of_tags(data, 0) >= len(data):
        return "an ID3 tag without a recording; send it again"
    return None


def _text(data: bytes) -> str | None:
    """Recognize JSON, markup and other text in UTF-8 or UTF-16."""
    head = data[:_HEAD_BYTES]
    codecs = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
    try:
        text = head.decode(codecs.get(head[:2], "utf-8"), "strict" if len(data) <= _HEAD_BYTES else "ignore")
    except UnicodeDecodeError:
        return None
    if not text.strip("\ufeff \t\r\n") or len(text.encode()) < len(head) * 0.9:
        return None
    if any(ord(one) < 32 and one not in "\t\r\n\f\x1b" for one in text):
        return None
    begin = text.strip("\ufeff \t\r\n").lower()
    if begin.startswith(("{", "[")):
        return f"JSON; {_NO_SOUND}"
    for tag, what in _MARKUP:
        if begin.startswith(tag.decode()):
            return f"{what}; {_ERROR_PAGE}"
    return f"text; {_NO_SOUND}"
