"""Sonant's own stream: binary messages of audio, and one word."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonant.carriers.adapter import Audio, End, Reply
from sonant.carriers.encoding import DECODERS
from sonant.carriers.own import AudioForm, OwnAdapter
from sonant.sessions.calls import EndReason, StreamFault


def heard(form: AudioForm, data: bytes) -> list[int]:
    (effect,) = OwnAdapter(form).receive(data)
    assert isinstance(effect, Audio)
    assert effect.rate_hz == form.rate_hz
    return [int(sample) for sample in effect.samples]


def test_a_binary_message_is_audio_and_nothing_else():
    assert heard(AudioForm(), np.array([1, -2, 32767, -32768], "<i2").tobytes()) == [1, -2, 32767, -32768]


def test_of_two_channels_the_chosen_one_is_the_callers():
    both = np.array([1, 100, 2, 200], "<i2").tobytes()
    assert heard(AudioForm(channels=2, channel=0), both) == [1, 2]
    assert heard(AudioForm(channels=2, channel=1), both) == [100, 200]


def test_g711_is_as_itu_t_has_it():
    # G.711: mu-law 0xFF is zero and 0x80 the largest; A-law 0xD5 is the smallest step and 0xAA the largest.
    assert heard(AudioForm(encoding="mulaw", rate_hz=16000), b"\xff\x80\x00") == [0, 32124, -32124]
    assert heard(AudioForm(encoding="alaw"), b"\xd5\xaa\x2a") == [8, 32256, -32256]


@pytest.mark.parametrize(
    ("form", "data"),
    [
        (AudioForm(), b"\0\0\0"),
        (AudioForm(channels=2), b"\0\0\0\0\0\0"),
        (AudioForm(encoding="alaw", channels=2), b"\0"),
    ],
)
def test_a_message_that_ends_within_a_sample_is_a_fault(form, data):
    with pytest.raises(StreamFault) as raised:
        OwnAdapter(form).receive(data)
    assert raised.value.reason == EndReason.MALFORMED


def test_the_end_is_said_by_a_text_message():
    assert OwnAdapter(AudioForm()).receive('{"type": "end"}') == (End(EndReason.CALL_ENDED),)


@pytest.mark.parametrize(
    "text", ["", "end", "[]", '{"type": 1}', '{"type": "start"}', "{}", '"end"', "{" * 9000]
)
def test_any_other_text_is_a_fault(text):
    with pytest.raises(StreamFault):
        OwnAdapter(AudioForm()).receive(text)


def test_the_carrier_is_told_the_beginning_and_why_the_service_ends_it():
    adapter = OwnAdapter(AudioForm())
    (begun,) = adapter.begun("id#1234")
    assert isinstance(begun, Reply)
    assert json.loads(begun.message) == {"type": "begun", "sessionId": "id#1234"}
    ended, end = adapter.ended(EndReason.REQUESTED)
    assert isinstance(ended, Reply)
    assert json.loads(ended.message) == {"type": "ended", "reason": "REQUESTED"}
    assert end == End(EndReason.REQUESTED)


FIXED = ("a text message is not a JSON object", "the only text message is of type `end`")


@given(
    st.lists(st.text() | st.binary(max_size=700), max_size=8),
    st.sampled_from(sorted(DECODERS)),
    st.sampled_from([(1, 0), (2, 0), (2, 1)]),
)
def test_whatever_comes_is_a_fault_or_audio(messages, encoding, channels):
    adapter = OwnAdapter(AudioForm(encoding=encoding, channels=channels[0], channel=channels[1]))
    for message in messages:
        try:
            effects = adapter.receive(message)
        except StreamFault as fault:
            # What was sent is not repeated: a text that begins with something else gets the same answer.
            if isinstance(message, str):
                with pytest.raises(StreamFault) as other:
                    adapter.receive("\0" + "x" * len(message.encode()))
                assert str(other.value) == str(fault) or str(fault) in FIXED
            continue
        assert all(isinstance(effect, Audio | End) for effect in effects)
