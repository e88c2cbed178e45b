"""Carriers whose streams are binary samples after a text message: documented messages, authentication, and
anything else that may come."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from carrier_peers import FRAMES_PEERS, FREESWITCH, JAMBONZ, SECRET, VONAGE, FramesPeer
from hypothesis import given
from hypothesis import strategies as st

from sonant.carriers.carrier import Adapter, Audio, End, Open, Reply
from sonant.carriers.request import StreamRequest
from sonant.carriers.tickets import make_ticket
from sonant.errors import AccessDenied, SetupError, Validation
from sonant.sessions.calls import Call, EndReason, StreamFault
from sonant.settings import Live, Settings

DOMAIN = "d" * 22
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
NAMED = {"session": "call-1", "speaker": "caller-1"}


EVERY = pytest.mark.parametrize("peer", FRAMES_PEERS.values(), ids=FRAMES_PEERS)


def connected(
    peer: FramesPeer, query: str = "", headers: Mapping[str, str] | None = None, **settings: str
) -> Adapter:
    live = Live(domain=DOMAIN)
    carrier = peer.build(Settings(live=live, carriers={**peer.settings, **settings}))
    assert carrier is not None
    given = peer.headers if headers is None else headers
    request = StreamRequest(
        method="GET",
        raw_path=b"/stream/x",
        query=query.encode(),
        headers=[(name.encode(), value.encode()) for name, value in given.items()],
        source_ip="192.0.2.7",
        secure=True,
        received_at=NOW,
    )
    return carrier.authenticate(request)


def began(effects: Any) -> Call:
    assert isinstance(effects[0], Open)
    call: Call = effects[0].call
    return call


# --- documented messages


@EVERY
def test_first_message_names_the_call_and_audio_follows(peer: FramesPeer) -> None:
    adapter = connected(peer)
    call = began(adapter.receive(json.dumps(peer.first(NAMED))))
    assert (call.session, call.speaker_id, call.domain_id) == ("call-1", "caller-1", DOMAIN)
    (audio,) = adapter.receive(b"\1\0\xfe\xff")
    assert isinstance(audio, Audio)
    assert audio.samples.tolist() == [1, -2]
    assert audio.rate_hz == (16000 if peer is VONAGE else 8000)


@EVERY
@pytest.mark.parametrize(
    "text", ['{"event": "websocket:dtmf", "digit": "5", "duration": 260}', '{"event": "dtmf"}', "heartbeat"]
)
def test_later_text_is_ignored(peer: FramesPeer, text: str) -> None:
    adapter = connected(peer)
    adapter.receive(json.dumps(peer.first(NAMED)))
    assert adapter.receive(text) == ()


@pytest.mark.parametrize("headers", [{"headers": NAMED}, NAMED])
def test_vonages_headers_may_stand_beside_or_inside(headers: Any) -> None:
    assert began(connected(VONAGE).receive(json.dumps(VONAGE.first(headers)))).speaker_id == "caller-1"


def test_vonages_session_may_be_the_calls_uuid() -> None:
    uuid = "63f61863-4a51-4f6b-86e1-46edebcf9356"
    assert began(connected(VONAGE).receive(json.dumps(VONAGE.first({"uuid": uuid})))).session == uuid
    with pytest.raises(StreamFault, match="no parameter `session`"):
        connected(VONAGE).receive(json.dumps(VONAGE.first({})))


def test_jambonz_metadata_names_the_call_else_its_sid_does() -> None:
    assert (
        began(connected(JAMBONZ).receive(json.dumps(JAMBONZ.first({"metadata": NAMED})))).session == "call-1"
    )
    call = began(connected(JAMBONZ).receive(json.dumps(JAMBONZ.first({}))))
    assert call.session == "9fb35c28-9688-4531-943c-e280b04f3adf"


def test_callers_channel_of_two_is_the_first() -> None:
    adapter = connected(JAMBONZ)
    adapter.receive(json.dumps(JAMBONZ.first({"mixType": "stereo"})))
    (audio,) = adapter.receive(b"\1\0\7\0\2\0\7\0")
    assert isinstance(audio, Audio)
    assert audio.samples.tolist() == [1, 2]


def test_mixed_voices_are_refused() -> None:
    with pytest.raises(StreamFault, match="mono or stereo"):
        connected(JAMBONZ).receive(json.dumps(JAMBONZ.first({"mixType": "mixed"})))


def test_freeswitchs_url_names_the_call_and_describes_its_audio() -> None:
    adapter = connected(FREESWITCH, "session=call-1&speaker=caller-1&rate=16000&channels=2")
    begin, audio = adapter.receive(b"\1\0\7\0")
    assert began([begin]).speaker_id == "caller-1"
    assert isinstance(audio, Audio)
    assert (audio.samples.tolist(), audio.rate_hz) == ([1], 16000)


def test_freeswitchs_metadata_before_the_audio_is_no_fault() -> None:
    adapter = connected(FREESWITCH, "session=call-1")
    assert adapter.receive("any text") == ()
    assert adapter.receive('{"caller": "+12025550123"}') == ()
    assert began(adapter.receive(b"\1\0")).session == "call-1"


@pytest.mark.parametrize("query", ["rate=11025", "rate=fast", "channels=3", "channels=", "sesion=call-1"])
def test_freeswitchs_parameters_are_checked(query: str) -> None:
    with pytest.raises(Validation):
        connected(FREESWITCH, query)


def test_service_that_ends_the_stream_closes_the_connection() -> None:
    for peer in FRAMES_PEERS.values():
        adapter = connected(peer)
        assert adapter.opened("id#" + "s" * 22) == ()
        assert adapter.ended(EndReason.REQUESTED) == (End(EndReason.REQUESTED),)
        assert adapter.refused("No.") == (End(EndReason.NEVER_BEGAN),)


# --- who may


@EVERY
@pytest.mark.parametrize("value", ["", "Bearer wrong", "Basic d3Jvbmc6d3Jvbmc=", "Basic !", SECRET[:-1]])
def test_stranger_is_refused(peer: FramesPeer, value: str) -> None:
    with pytest.raises(AccessDenied):
        connected(peer, headers={"authorization": value})
    with pytest.raises(AccessDenied):
        connected(peer, headers={})


@EVERY
def test_carrier_is_off_without_settings_and_guarded_with_them(peer: FramesPeer) -> None:
    assert peer.build(Settings()) is None
    with pytest.raises(SetupError, match="at least 16 characters"):
        peer.build(Settings(carriers={name: value[:8] for name, value in peer.settings.items()}))


@pytest.mark.parametrize("name", ["vonage", "jambonz"])
def test_ticket_pins_the_stream_where_it_is_asked_for(name: str) -> None:
    peer, secret, setting = FRAMES_PEERS[name], "a-secret-of-tickets", f"{name}_ticket_secret"
    secrets: dict[str, Any] = {setting: secret}
    with pytest.raises(StreamFault, match=f"live.{setting}"):
        connected(peer, **secrets).receive(json.dumps(peer.first(NAMED)))
    ticket = make_ticket(
        secret,
        domain_id=DOMAIN,
        session="call-1",
        speaker_id="caller-1",
        expires_s=int(NOW.timestamp()) + 60,
    )
    named = peer.first({**NAMED, "ticket": ticket})
    assert began(connected(peer, **secrets).receive(json.dumps(named))).grant is not None


# --- anything else


@EVERY
def test_audio_without_a_described_call_and_half_a_sample_are_faults(peer: FramesPeer) -> None:
    with pytest.raises(StreamFault, match="before the message"):
        connected(peer).receive(b"\0\0")
    adapter = connected(peer)
    adapter.receive(json.dumps(peer.first(NAMED)))
    with pytest.raises(StreamFault, match="middle of a sample"):
        adapter.receive(b"\0\0\0")


@EVERY
def test_endless_greetings_are_a_fault(peer: FramesPeer) -> None:
    adapter = connected(peer)
    with pytest.raises(StreamFault, match="no message describes"):
        for _ in range(100):
            assert adapter.receive("{}") == ()


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_MEMBERS = st.sampled_from(
    [
        "event",
        "content-type",
        "headers",
        "metadata",
        "session",
        "speaker",
        "domain",
        "callSid",
        "sampleRate",
        "mixType",
    ]
)


@EVERY
@given(data=st.data())
def test_any_messages_are_effects_or_a_fault(peer: FramesPeer, data: st.DataObject) -> None:
    adapter = connected(peer)
    changed = st.dictionaries(_MEMBERS, _VALUES, max_size=3).map(
        lambda added: json.dumps(peer.first(NAMED) | added)
    )
    messages = data.draw(
        st.lists(st.one_of(changed, st.text(max_size=30), st.binary(max_size=20)), max_size=6)
    )
    try:
        for message in messages:
            for effect in adapter.receive(message):
                assert isinstance(effect, Open | Audio | Reply | End)
    except StreamFault as fault:
        assert str(fault)
