"""Carriers whose streams are JSON messages: each one's documented messages, its authentication, and anything
else that may come."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from carrier_peers import (
    EXOTEL,
    MESSAGES_PEERS,
    PLIVO,
    SECRET,
    SIGNALWIRE,
    TELNYX,
    MessagesPeer,
    plivo_signature,
)
from hypothesis import given
from hypothesis import strategies as st

from sonant.carriers.carrier import Adapter, Audio, End, Open, Reply, WebSocketCarrier
from sonant.carriers.request import StreamRequest
from sonant.carriers.tickets import make_ticket
from sonant.errors import AccessDenied, SetupError
from sonant.sessions.calls import Call, EndReason, StreamFault, StreamGrant
from sonant.settings import Live, Settings
from sonant.voice.audio.g711 import A_LAW_INT16, MU_LAW_INT16

DOMAIN = "d" * 22
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
PARAMETERS = {"session": "call-1", "speaker": "caller-1"}


EVERY = pytest.mark.parametrize("peer", MESSAGES_PEERS.values(), ids=MESSAGES_PEERS)
#: Those whose credential is the same for all their streams.
TICKETED = pytest.mark.parametrize(
    ("name", "peer"), [(name, peer) for name, peer in MESSAGES_PEERS.items() if name != "plivo"]
)


def request(headers: Mapping[str, str], query: str = "") -> StreamRequest:
    return StreamRequest(
        method="GET",
        raw_path=b"/stream/x",
        query=query.encode(),
        headers=[(b"host", b"voice.example.org"), *((k.encode(), v.encode()) for k, v in headers.items())],
        source_ip="192.0.2.7",
        secure=True,
        received_at=NOW,
    )


def carrier_of(peer: MessagesPeer, **settings: str) -> WebSocketCarrier:
    carrier = peer.build(Settings(live=Live(domain=DOMAIN), carriers={**peer.settings, **settings}))
    assert carrier is not None
    return carrier


def connected(peer: MessagesPeer, **settings: str) -> Adapter:
    return carrier_of(peer, **settings).authenticate(request(peer.headers))


def began(effects: Any) -> Call:
    (effect,) = effects
    assert isinstance(effect, Open)
    return effect.call


def started(peer: MessagesPeer) -> Adapter:
    adapter = connected(peer)
    adapter.receive(json.dumps(peer.start(PARAMETERS)))
    return adapter


# --- documented messages


@EVERY
@pytest.mark.parametrize("greeting", ['{"event": "connected", "version": "1.0.0"}', None])
def test_parameters_of_the_stream_name_the_call(peer: MessagesPeer, greeting: str | None) -> None:
    adapter = connected(peer)
    if greeting is not None:
        assert adapter.receive(greeting) == ()
    call = began(adapter.receive(json.dumps(peer.start(PARAMETERS))))
    assert (call.session, call.speaker_id, call.domain_id, call.create) == (
        "call-1", "caller-1", DOMAIN, True,
    )  # fmt: skip


@EVERY
def test_call_without_parameters_has_the_carriers_own_id(peer: MessagesPeer) -> None:
    call = began(connected(peer).receive(json.dumps(peer.start(None))))
    assert (call.session, call.speaker_id) == (peer.call_id, None)


@EVERY
def test_audio_is_decoded_in_order_up_to_the_end(peer: MessagesPeer) -> None:
    adapter, found = started(peer), list[Any]()
    for number in (1, 3, 2, 4):
        payload = base64.b64encode(bytes([number, 0])).decode()
        found += adapter.receive(json.dumps(peer.media(number, payload)))
    *rest, end = adapter.receive(json.dumps(peer.stop))
    samples = [int(one) for effect in [*found, *rest] for one in effect.samples]
    table = {"mulaw": MU_LAW_INT16, "alaw": A_LAW_INT16}.get(peer.encoding)
    if table is None:
        assert samples == [1, 2, 3, 4]
    else:
        codes = np.array([1, 0, 2, 0, 3, 0, 4, 0])
        assert samples == [int(one) for one in table[codes]]
    assert {effect.rate_hz for effect in found} == {8000}
    assert end == End(EndReason.CALL_ENDED)
    assert adapter.receive(json.dumps(peer.media(5, "AAAA"))) == ()


@EVERY
@pytest.mark.parametrize("event", ["dtmf", "mark", "clear", "error", "playedStream", "what may be added"])
def test_other_events_are_ignored(peer: MessagesPeer, event: str) -> None:
    assert started(peer).receive(json.dumps({"event": event, "dtmf": {"digit": "5"}})) == ()


@EVERY
@pytest.mark.parametrize("event", ["dtmf", "mark", "error", "what may be added"])
def test_other_events_before_the_start_are_ignored(peer: MessagesPeer, event: str) -> None:
    adapter = connected(peer)
    assert adapter.receive(json.dumps({"event": event})) == ()
    assert began(adapter.receive(json.dumps(peer.start(PARAMETERS)))).session == "call-1"


@EVERY
def test_number_as_a_parameter_is_as_good_as_a_text(peer: MessagesPeer) -> None:
    message = peer.start(None)
    place = message if peer is PLIVO else message["start"]
    name = {id(PLIVO): "extra_headers", id(SIGNALWIRE): "customParameters"}.get(id(peer), "custom_parameters")
    place[name] = {"session": 17, "speaker": 4711}
    call = began(connected(peer).receive(json.dumps(message)))
    assert (call.session, call.speaker_id) == ("17", "4711")


@pytest.mark.parametrize("peer", [TELNYX, PLIVO, SIGNALWIRE])
def test_base64_is_an_encoding_with_exotel_alone(peer: MessagesPeer) -> None:
    message = peer.start(None)
    name = "mediaFormat" if "mediaFormat" in message["start"] else "media_format"
    message["start"][name]["encoding"] = "base64"
    with pytest.raises(StreamFault, match="encoding"):
        connected(peer).receive(json.dumps(message))


def test_telnyx_takes_parameters_as_the_command_has_them() -> None:
    message = TELNYX.start(None)
    message["start"]["custom_parameters"] = [
        {"name": name, "value": value} for name, value in PARAMETERS.items()
    ]
    assert began(connected(TELNYX).receive(json.dumps(message))).speaker_id == "caller-1"


@pytest.mark.parametrize(
    "headers",
    [
        "speaker=caller1,session=call1",
        '{"speaker":"caller1","session":"call1"}',
        "{X-PH-speaker: caller1, X-PH-session: call1}",
        '{"X-PH-speaker":"caller1","X-PH-session":"call1"}',
        {"X-PH-speaker": "caller1", "x-ph-session": "call1"},
    ],
)
def test_plivos_extra_headers_are_read_in_all_their_forms(headers: object) -> None:
    message = PLIVO.start(None) | {"extra_headers": headers}
    call = began(connected(PLIVO).receive(json.dumps(message)))
    assert (call.session, call.speaker_id) == ("call1", "caller1")


@pytest.mark.parametrize(
    ("peer", "stated", "rate_hz"),
    [
        (PLIVO, {"encoding": "audio/x-l16", "sampleRate": 16000}, 16000),
        (EXOTEL, {"encoding": "audio/x-mulaw", "sample_rate": "8000"}, 8000),
        (EXOTEL, {"encoding": "audio/x-raw", "sample_rate": "24000", "bit_rate": "16"}, 24000),
        (EXOTEL, {"encoding": "base64", "sample_rate": "8000", "bit_rate": "128kbps"}, 8000),
        (EXOTEL, {"encoding": "base64", "sample_rate": "16000", "bit_rate": "256kbps"}, 16000),
        (SIGNALWIRE, {"encoding": "audio/l16", "sampleRate": 24000, "channels": 1}, 24000),
    ],
)
def test_formats_that_a_carrier_offers_are_taken(
    peer: MessagesPeer, stated: dict[str, Any], rate_hz: int
) -> None:
    adapter, message = connected(peer), peer.start(None)
    name = "mediaFormat" if "mediaFormat" in message["start"] else "media_format"
    message["start"][name] = stated
    began(adapter.receive(json.dumps(message)))
    (audio,) = adapter.receive(json.dumps(peer.media(1, "AAAAAAAA")))
    assert isinstance(audio, Audio)
    assert audio.rate_hz == rate_hz


@pytest.mark.parametrize("encoding", ["G722", "OPUS", "AMR-WB", "L16"])
def test_codec_of_telnyx_that_cannot_be_processed_is_a_fault(encoding: str) -> None:
    message = TELNYX.start(None)
    message["start"]["media_format"]["encoding"] = encoding
    with pytest.raises(StreamFault, match=r"encoding|alaw, mulaw"):
        connected(TELNYX).receive(json.dumps(message))


# --- who may


@EVERY
def test_stranger_is_refused(peer: MessagesPeer) -> None:
    carrier = carrier_of(peer)
    wrong = {name: value[:-4] + "AAA=" for name, value in peer.headers.items()}
    for headers in ({}, wrong, {"authorization": ""}, {"x-signalwire-signature": "x"}):
        with pytest.raises(AccessDenied):
            carrier.authenticate(request(headers))


@EVERY
def test_carrier_without_settings_has_no_path(peer: MessagesPeer) -> None:
    assert peer.build(Settings()) is None


@EVERY
def test_secret_that_could_be_guessed_is_refused(peer: MessagesPeer) -> None:
    short = {name: value[:8] for name, value in peer.settings.items()}
    with pytest.raises(SetupError, match="at least 16 characters"):
        peer.build(Settings(carriers=short))


def test_token_may_stand_in_the_header_alone() -> None:
    assert carrier_of(TELNYX).authenticate(request({"authorization": SECRET}))


@TICKETED
def test_ticket_pins_the_stream_where_it_is_asked_for(name: str, peer: MessagesPeer) -> None:
    secret, setting = "a-secret-of-tickets", f"{name}_ticket_secret"
    adapter = connected(peer, **{setting: secret})
    with pytest.raises(StreamFault, match=f"live.{setting}"):
        adapter.receive(json.dumps(peer.start(PARAMETERS)))
    ticket = make_ticket(
        secret,
        domain_id=DOMAIN,
        session="call-1",
        speaker_id="caller-1",
        expires_s=int(NOW.timestamp()) + 60,
    )
    adapter = connected(peer, **{setting: secret})
    call = began(adapter.receive(json.dumps(peer.start({**PARAMETERS, "ticket": ticket}))))
    assert call.grant == StreamGrant.of("ticket", ticket)
    adapter = connected(peer, **{setting: secret})
    with pytest.raises(StreamFault, match="not the one of this domain"):
        adapter.receive(json.dumps(peer.start({"session": "call-2", "ticket": ticket})))


def test_plivos_signature_covers_the_query_and_opens_one_stream() -> None:
    query, nonce = "speaker=caller-1&session=call-1", "nonce-2"
    url = f"wss://voice.example.org/stream/x?{query}"
    headers = {
        "x-plivo-signature-v3": f"another, {plivo_signature(SECRET, url, nonce)}",
        "x-plivo-signature-v3-nonce": nonce,
    }
    adapter = carrier_of(PLIVO).authenticate(request(headers, query))
    call = began(adapter.receive(json.dumps(PLIVO.start({"speaker": "another"}))))
    assert (call.session, call.speaker_id) == ("call-1", "caller-1"), "what is signed counts"
    assert call.grant == StreamGrant.of("plivo", nonce)
    with pytest.raises(AccessDenied):
        carrier_of(PLIVO).authenticate(request(headers, query.replace("caller-1", "caller-2")))


def test_plivos_url_may_be_that_before_a_proxy() -> None:
    carrier = carrier_of(PLIVO, plivo_url="wss://public.example.org/voice")
    signed = plivo_signature(SECRET, "wss://public.example.org/voice", "nonce-3")
    headers = {"x-plivo-signature-v3": signed, "x-plivo-signature-v3-nonce": "nonce-3"}
    assert carrier.authenticate(request(headers))


def test_exotels_parameters_may_stand_in_the_url() -> None:
    adapter = carrier_of(EXOTEL).authenticate(
        request(EXOTEL.headers, "session=call-7&speaker=caller-7&sample-rate=16000")
    )
    call = began(adapter.receive(json.dumps(EXOTEL.start(None))))
    assert (call.session, call.speaker_id) == ("call-7", "caller-7")


# --- anything else


@EVERY
@pytest.mark.parametrize(
    "message",
    [
        b"\x00",
        "not JSON",
        "[]",
        "{}",
        '{"event": 1}',
        '{"event": "media"}',
        '{"event": "media", "media": []}',
    ],
)
def test_protocol_violation_is_a_fault(peer: MessagesPeer, message: str | bytes) -> None:
    with pytest.raises(StreamFault) as raised:
        started(peer).receive(message)
    assert raised.value.reason is EndReason.MALFORMED


@EVERY
def test_second_start_and_a_strange_stream_are_faults(peer: MessagesPeer) -> None:
    with pytest.raises(StreamFault, match="twice"):
        started(peer).receive(json.dumps(peer.start(None)))
    message = peer.media(1, "////")
    (stream,) = [name for name in message if name.startswith("stream")]
    with pytest.raises(StreamFault, match="no stream that was started"):
        started(peer).receive(json.dumps(message | {stream: "another"}))
    with pytest.raises(StreamFault, match="before the stream"):
        connected(peer).receive(json.dumps(message))


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def _changed(draw: st.DrawFn, peer: MessagesPeer) -> str:
    """A message of the carrier with one member changed or taken away, at any depth."""
    message = draw(
        st.sampled_from([peer.start(PARAMETERS), peer.media(1, "////"), peer.stop]).map(json.dumps)
    )
    found: Any = json.loads(message)
    inner: Any = found
    while True:
        name = draw(st.sampled_from(sorted(inner)))
        if isinstance(inner[name], dict) and inner[name] and draw(st.booleans()):
            inner = inner[name]
            continue
        if draw(st.booleans()):
            del inner[name]
        else:
            inner[name] = draw(_VALUES)
        return json.dumps(found)


@EVERY
@given(data=st.data())
def test_any_messages_are_effects_or_a_fault(peer: MessagesPeer, data: st.DataObject) -> None:
    adapter = connected(peer)
    messages = data.draw(
        st.lists(st.one_of(_changed(peer), st.text(max_size=30), st.binary(max_size=20)), max_size=6)
    )
    try:
        for message in [json.dumps(peer.start(PARAMETERS)), *messages]:
            for effect in adapter.receive(message):
                assert isinstance(effect, Open | Audio | Reply | End)
    except StreamFault as fault:
        assert str(fault)
