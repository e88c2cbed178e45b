"""Asterisk's WebSocket channel driver, in messages written from its documentation."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonant.carriers.carrier import Audio, End, Open, Reply
from sonant.carriers.providers.asterisk import AsteriskAdapter
from sonant.sessions.calls import Call, EndReason, StreamFault

ACCOUNT, DOMAIN = "0" * 12, "d" * 22
PLAIN = (
    "MEDIA_START connection_id:e226e283-c90a-4ea9-9e37-389000b9ef47 channel:WebSocket/connectionid "
    "format:ulaw optimal_frame_size:160"
)
AS_JSON = {
    "event": "MEDIA_START",
    "connection_id": "media_connection1",
    "channel": "WebSocket/media_connection1/0x5140001a0040",
    "channel_id": "1761245643.1",
    "format": "ulaw",
    "optimal_frame_size": 160,
    "ptime": 20,
    "channel_variables": {"MEDIA_WEBSOCKET_OPTIMAL_FRAME_SIZE": "160"},
}


def adapter(**parameters: str) -> AsteriskAdapter:
    return AsteriskAdapter(ACCOUNT, DOMAIN, parameters)


def started(**parameters: str) -> Call:
    (effect,) = adapter(**parameters).receive(json.dumps(AS_JSON))
    assert isinstance(effect, Open)
    return effect.call


def test_url_names_domain_session_and_speaker():
    call = started(domain="e" * 22, session="call-7", speaker="anna")
    assert call == Call(
        account_id=ACCOUNT, domain_id="e" * 22, session="call-7", speaker_id="anna", create=True
    )


def test_session_and_domain_default_to_channel_and_settings():
    assert started() == Call(account_id=ACCOUNT, domain_id=DOMAIN, session="1761245643-1", create=True)


def test_plain_messages():
    asterisk = adapter(session="call-7")
    assert [type(effect) for effect in asterisk.receive(PLAIN)] == [Open]
    (audio,) = asterisk.receive(b"\xff" * 159 + b"\x80")
    assert isinstance(audio, Audio)
    assert (audio.rate_hz, audio.samples.tolist()) == (8000, [0] * 159 + [32124])
    for text in ("DTMF_END digit:5", "MEDIA_XOFF", "STATUS queue_length:43 xon_level:800", ""):
        assert list(asterisk.receive(text)) == []
    assert list(asterisk.ended(EndReason.REQUESTED)) == [Reply("HANGUP"), End(EndReason.REQUESTED)]


def test_json_messages_get_json_replies():
    asterisk = adapter()
    asterisk.receive(json.dumps(AS_JSON))
    assert list(asterisk.receive('{"event": "DTMF_END", "digit": "5"}')) == []
    assert list(asterisk.refused("no")) == [Reply('{"command": "HANGUP"}'), End(EndReason.NEVER_BEGAN)]


@pytest.mark.parametrize(
    ("codec", "data", "rate_hz", "samples"),
    [
        ("alaw", b"\xaa", 8000, [32256]),
        ("slin", np.array([5, -5], "<i2").tobytes(), 8000, [5, -5]),
        ("slin16", np.array([5, -5], "<i2").tobytes(), 16000, [5, -5]),
    ],
)
def test_audio_is_decoded_by_the_dial_strings_codec(codec, data, rate_hz, samples):
    asterisk = adapter()
    asterisk.receive(json.dumps({**AS_JSON, "format": codec}))
    (audio,) = asterisk.receive(data)
    assert isinstance(audio, Audio)
    assert (audio.rate_hz, audio.samples.tolist()) == (rate_hz, samples)


@pytest.mark.parametrize("codec", ["opus", "g729", "", "ULAW"])
def test_unsupported_codec_is_a_fault_that_lists_the_supported(codec):
    with pytest.raises(StreamFault, match="ulaw, alaw, slin, slin16"):
        adapter().receive(json.dumps({**AS_JSON, "format": codec}))


def test_early_audio_second_start_and_missing_names_are_faults():
    with pytest.raises(StreamFault, match="before MEDIA_START"):
        adapter().receive(b"\xff")
    asterisk = adapter(session="a")
    asterisk.receive(PLAIN)
    with pytest.raises(StreamFault, match="twice"):
        asterisk.receive(PLAIN)
    with pytest.raises(StreamFault, match="no parameter `session`"):
        adapter().receive(PLAIN)
    with pytest.raises(StreamFault, match=r"live\.domain"):
        AsteriskAdapter(ACCOUNT, "", {"session": "a"}).receive(PLAIN)


@given(
    st.lists(
        st.text(max_size=200)
        | st.binary(max_size=200)
        | st.just(PLAIN)
        | st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3)
            ),
            max_leaves=8,
        ).map(json.dumps)
        | st.dictionaries(st.sampled_from(sorted(AS_JSON)), st.integers() | st.text(max_size=10)).map(
            json.dumps
        ),
        max_size=8,
    )
)
def test_any_messages_are_effects_or_a_fault(messages):
    asterisk = adapter(session="a")
    for message in messages:
        try:
            effects = asterisk.receive(message)
        except StreamFault:
            return
        assert all(isinstance(effect, Open | Audio) for effect in effects)
