"""Telephone encodings: their description, and decoders to 16-bit samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sonant.sessions.calls import StreamFault
from sonant.voice.audio.g711 import A_LAW_INT16, MU_LAW_INT16

#: Bytes to samples, int16 [n]. Raises StreamFault for half a sample.
Decoder = Callable[[bytes], NDArray[np.int16]]

#: Sample rates of telephone audio that the service's own streams may have.
RATES_HZ = (8000, 16000)
#: Those of carriers, some of which send wideband audio.
CARRIER_RATES_HZ = (8000, 16000, 24000, 48000)


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioFormat:
    """The format of raw audio."""

    encoding: str = "pcm_s16le"
    """A key of DECODERS."""
    rate_hz: int = 8000
    """One of CARRIER_RATES_HZ."""
    channels: int = 1
    channel: int = 0
    """The caller's, from 0."""

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of each channel."""
        return self.channels * (2 if self.encoding.startswith("pcm") else 1)


def _decode_table(data: bytes, table: NDArray[np.int16]) -> NDArray[np.int16]:
    return table[np.frombuffer(data, np.uint8)]


def _decode_linear(data: bytes, kind: str) -> NDArray[np.int16]:
    if len(data) % 2:
        raise StreamFault("a frame ends in the middle of a sample")
    return np.frombuffer(data, kind).astype(np.int16)


#: By the names that carriers' documentation has in common.
DECODERS: dict[str, Decoder] = {
    "mulaw": partial(_decode_table, table=MU_LAW_INT16),
    "alaw": partial(_decode_table, table=A_LAW_INT16),
    "pcm_s16le": partial(_decode_linear, kind="<i2"),
    "pcm_s16be": partial(_decode_linear, kind=">i2"),
}


#: Encodings by the names that carriers give them, in lower case and without `audio/` and `x-`.
_ENCODINGS = {
    **dict.fromkeys(("mulaw", "ulaw", "mu-law", "u-law", "pcmu", "basic"), "mulaw"),
    **dict.fromkeys(("alaw", "a-law", "pcma"), "alaw"),
    **dict.fromkeys(("l16", "lpcm", "linear16", "raw", "raw/slin", "slin", "pcm", "pcm16"), "pcm_s16le"),
}
_MOST_DIGITS = 6


def stated_format(encoding: object, rate: object = None, channels: object = None) -> AudioFormat:
    """Read the format that a carrier states, by its meaning: `audio/x-mulaw`, `PCMU`, `audio/l16;rate=16000`;
    numbers also as texts. What is not stated is 8 kHz and one channel. Raises StreamFault for one that is not
    supported. 16-bit samples are little-endian: JSON streams do not follow RTP in this."""
    if not isinstance(encoding, str):
        raise StreamFault("the format of the audio has no encoding")
    name, _, parameters = encoding.lower().replace(" ", "").partition(";")
    stated = dict(part.split("=", 1) for part in parameters.split(";") if "=" in part)
    known = _ENCODINGS.get(name.removeprefix("audio/").removeprefix("x-"))
    if known is None:
        raise StreamFault("the encoding of the audio is not mu-law, A-law or linear")
    rate_hz = _stated_number(stated.get("rate") if rate is None else rate, CARRIER_RATES_HZ[0])
    if rate_hz not in CARRIER_RATES_HZ:
        allowed = ", ".join(map(str, CARRIER_RATES_HZ))
        raise StreamFault(f"the sample rate of the audio is not one of {allowed}")
    if _stated_number(stated.get("channels") if channels is None else channels, 1) != 1:
        raise StreamFault("the audio has more than one channel")
    return AudioFormat(encoding=known, rate_hz=rate_hz)


def _stated_number(value: object, default: int) -> int:
    """Return a number that may be written as a text; -1 for anything else."""
    if value is None or value == "":
        return default
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS:
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        return int(value)
    return -1


def decoder(encoding: str) -> Decoder:
    """Return the decoder of an encoding. Raises StreamFault for one that is not in DECODERS."""
    try:
        return DECODERS[encoding]
    except KeyError:
        raise StreamFault(f"the encoding is not one of {', '.join(DECODERS)}") from None


def one_channel(samples: NDArray[np.int16], channels: int, channel: int) -> NDArray[np.int16]:
    """Return one channel of interleaved samples. Raises StreamFault when a frame does not hold the same
    number of samples of each channel."""
    if channels == 1:
        return samples
    if len(samples) % channels:
        raise StreamFault("a frame does not hold the same number of samples of each channel")
    return samples[channel::channels]
