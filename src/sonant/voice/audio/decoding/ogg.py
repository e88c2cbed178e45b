"""Cut Ogg files into the logical streams that were chained in them (RFC 3533)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from sonant.errors import AudioError

_CONTINUED, _FIRST, _LAST = 1, 2, 4

#: What the first packet of a logical stream begins with (RFC 3533, 7845, 5334; Ogg mappings of FLAC, Speex).
CODECS = {
    b"\x01vorbis": "Vorbis",
    b"OpusHead": "Opus",
    b"\x7fFLAC": "FLAC",
    b"fLaC": "FLAC",
    b"Speex   ": "Speex",
    b"\x80theora": "Theora",
    b"\x01video": "video",
    b"BBCD\0": "Dirac",
    b"fishead\0": "Skeleton",
    b"\x80kate": "Kate",
}
AUDIO_CODECS = frozenset(("Vorbis", "Opus", "FLAC", "Speex"))


@dataclass(slots=True, kw_only=True)
class OggLink:
    """The logical streams that begin together: one link of a chain."""

    begin: int
    """Its first byte."""
    end: int = 0
    codecs: list[str] = field(default_factory=list)
    """The codec of each logical stream; "" for an unknown one."""

    @property
    def audio(self) -> list[str]:
        """The codecs of its sound."""
        return [one for one in self.codecs if one in AUDIO_CODECS]


def split_chain(data: bytes) -> list[OggLink]:
    """Find the links of a file, in order. Raises AudioError if the last page is cut off."""
    links: list[OggLink] = []
    began = False  # whether the last page began a logical stream
    for at, flags, body in _pages(data):
        if flags & _FIRST:
            if not began:
                links.append(OggLink(begin=at))
            links[-1].codecs.append(_codec(data[body : body + 8]))
        began = bool(flags & _FIRST)
        if links:
            links[-1].end = len(data)
    for one, following in pairwise(links):
        one.end = following.begin
    return links


def _codec(packet: bytes) -> str:
    return next((name for start, name in CODECS.items() if packet.startswith(start)), "")


def _pages(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield position, flags and position of the body of each page; what lies between pages is skipped."""
    at = data.find(b"OggS\0")
    while at >= 0:
        if at + 27 > len(data):
            raise AudioError(f"truncated: the last Ogg page begins at byte {at}, the file has {len(data)}")
        count = data[at + 26]
        body = at + 27 + count
        end = body + sum(data[at + 27 : body])
        if body > len(data) or end > len(data):
            raise AudioError(f"truncated: the last Ogg page ends at byte {end}, the file has {len(data)}")
        yield at, data[at + 5], body
        at = end if data.startswith(b"OggS\0", end) else data.find(b"OggS\0", end)
