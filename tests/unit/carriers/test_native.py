"""The native protocol: binary messages of audio, and one text message."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonant.carriers.carrier import Audio, End, Reply
from sonant.carriers.encoding import DECODERS, AudioFormat
from sonant.carriers.native import NativeAdapter
from sonant.sessions.calls import EndReason, StreamFault


def decoded(audio_format: AudioFormat, data: bytes) -> list[int]:
    (effect,) = NativeAdapter(audio_format).receive(data)
    assert isinstance(effect, Audio)
    assert effect.rate_hz == audio_format.rate_hz
    return [int(sample) for sample in effect.samples]


def test_binary_message_is_audio():
    assert decoded(AudioFormat(), np.array([1, -2, 32767, -32768], "<i2").tobytes()) == [1, -2, 32767, -32768]


def test_chosen_channel_of_two_is_used():
    both = np.array([1, 100, 2, 200], "<i2").tobytes()
    assert decoded(AudioFormat(channels=2, channel=0), both) == [1, 2]
    assert decoded(AudioFormat(channels=2, channel=1), both) == [100, 200]


def test_g711_decodes_as_itu_t_specifies():
    # G.711: mu-law 0xFF is zero and 0x80 the largest; A-law 0xD5 is the smallest step and 0xAA the largest.
    assert decoded(AudioFormat(encoding="mulaw", rate_hz=16000), b"\xff\x80\x00") == [0, 32124, -32124]
    assert decoded(AudioFormat(encoding="alaw"), b"\xd5\xaa\x2a") == [8, 32256, -32256]


@pytest.mark.parametrize(
    ("form", "data"),
    [
        (AudioFormat(), b"\0\0\0"),
        (AudioFormat(channels=2), b"\0\0\0\0\0\0"),
        (AudioFormat(encoding="alaw", channels=2), b"\0"),
    ],
)
def test_message_with_half_a_sample_is_a_fault(form, data):
    with pytest.raises(StreamFault) as raised:
        NativeAdapter(form).receive(data)
    assert raised.value.reason == EndReason.MALFORMED


def test_end_message_ends_the_call():
    assert NativeAdapter(AudioFormat()).receive('{"type": "end"}') == (End(EndReason.CALL_ENDED),)


@pytest.mark.parametrize(
    "text", ["", "end", "[]", '{"type": 1}', '{"type": "start"}', "{}", '"end"', "{" * 9000]
)
def test_other_text_is_ignored(text):
    assert NativeAdapter(AudioFormat()).receive(text) == ()


@pytest.mark.parametrize(
    "text",
    [
        '{"event": "websocket:connected", "content-type": "audio/l16;rate=8000"}',  # Vonage
        '{"uuid": "6b0b3a2e", "caller": "+12025550123"}',  # metadata of mod_audio_fork and mod_audio_stream
        '{"callSid": "9fb35c28", "sampleRate": 8000, "mixType": "mono"}',  # jambonz
    ],
)
def test_programs_that_greet_with_text_can_bring_audio(text):
    adapter = NativeAdapter(AudioFormat())
    assert adapter.receive(text) == ()
    (audio,) = adapter.receive(b"\1\0")
    assert isinstance(audio, Audio)


def test_text_that_is_too_long_is_a_fault():
    with pytest.raises(StreamFault, match="longer than 65536 characters"):
        NativeAdapter(AudioFormat()).receive("x" * 70_000)


def test_carrier_gets_begun_and_ended_messages():
    adapter = NativeAdapter(AudioFormat())
    (begun,) = adapter.opened("id#1234")
    assert isinstance(begun, Reply)
    assert json.loads(begun.message) == {"type": "begun", "sessionId": "id#1234"}
    ended, end = adapter.ended(EndReason.REQUESTED)
    assert isinstance(ended, Reply)
    assert json.loads(ended.message) == {"type": "ended", "reason": "REQUESTED"}
    assert end == End(EndReason.REQUESTED)


@given(
    st.lists(st.text() | st.binary(max_size=700), max_size=8),
    st.sampled_from(sorted(DECODERS)),
    st.sampled_from([(1, 0), (2, 0), (2, 1)]),
)
def test_any_messages_are_audio_or_a_fault(messages, encoding, channels):
    adapter = NativeAdapter(AudioFormat(encoding=encoding, channels=channels[0], channel=channels[1]))
    for message in messages:
        try:
            effects = adapter.receive(message)
        except StreamFault as fault:
            assert isinstance(message, bytes), "text of this length is never a fault"
            assert str(fault)
            continue
        assert all(isinstance(effect, Audio | End) for effect in effects)
