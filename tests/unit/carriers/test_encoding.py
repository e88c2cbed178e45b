"""Formats that carriers state, read by their meaning."""

from __future__ import annotations

import pytest

from sonant.carriers.encoding import AudioFormat, stated_format
from sonant.sessions.calls import StreamFault


@pytest.mark.parametrize(
    ("stated", "encoding", "rate_hz"),
    [
        (("audio/x-mulaw", 8000, 1), "mulaw", 8000),  # Twilio, Plivo
        (("PCMU", 8000, 1), "mulaw", 8000),  # Telnyx, AudioHook
        (("PCMA", 8000, 1), "alaw", 8000),
        (("audio/x-raw", "8000"), "pcm_s16le", 8000),  # Exotel
        (("raw/slin", "8000"), "pcm_s16le", 8000),
        (("audio/l16;rate=16000",), "pcm_s16le", 16000),  # Vonage
        (("audio/x-l16", 16000), "pcm_s16le", 16000),  # Plivo
        (("L16", "24000"), "pcm_s16le", 24000),  # SignalWire
        (("audio/PCMU; rate=8000; channels=1",), "mulaw", 8000),
        (("ulaw",), "mulaw", 8000),
    ],
)
def test_names_of_carriers_are_understood(stated, encoding, rate_hz):
    assert stated_format(*stated) == AudioFormat(encoding=encoding, rate_hz=rate_hz)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ((None,), "no encoding"),
        ((7,), "no encoding"),
        (("OPUS", 48000), "not mu-law, A-law or linear"),
        (("G722", 8000), "not mu-law"),
        (("PCMU", 44100), "sample rate"),
        (("PCMU", "fast"), "sample rate"),
        (("PCMU", True), "sample rate"),
        (("PCMU", 8000.5), "sample rate"),
        (("PCMU", float("nan")), "sample rate"),
        (("PCMU", float("inf")), "sample rate"),
        (("PCMU", {}), "sample rate"),
        (("audio/l16;rate=",), None),
        (("PCMU", 8000, 2), "more than one channel"),
        (("PCMU", 8000, "two"), "more than one channel"),
    ],
)
def test_what_cannot_be_processed_is_a_fault(stated, message):
    if message is None:
        assert stated_format(*stated).rate_hz == 8000
        return
    with pytest.raises(StreamFault, match=message):
        stated_format(*stated)
