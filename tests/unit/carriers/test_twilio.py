"""Twilio Media Streams, message by message, as Twilio's documentation shows them."""

from __future__ import annotations

import base64
import hmac
import json
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from sonant.carriers.carrier import Audio, End, Open
from sonant.carriers.providers.twilio import TwilioAdapter, carrier, signature
from sonant.carriers.tickets import make_ticket
from sonant.errors import SetupError
from sonant.sessions.calls import Call, EndReason, StreamFault
from sonant.settings import Settings
from sonant.voice.audio.g711 import MU_LAW_INT16

DOMAIN = "d" * 22
TICKET_SECRET = "a-secret-of-tickets"
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
CONNECTED = json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"})


def start(**changes: object) -> str:
    return json.dumps(
        {
            "event": "start",
            "sequenceNumber": "1",
            "start": {
                "accountSid": "AC" + "0" * 32,
                "streamSid": "MZ" + "1" * 32,
                "callSid": "CA" + "2" * 32,
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                "customParameters": {"domain": DOMAIN, "session": "call-1", "speaker": "caller-1"},
                **changes,
            },
            "streamSid": "MZ" + "1" * 32,
        }
    )


def media(payload: str, track: str = "inbound", stream: str = "MZ" + "1" * 32, chunk: str = "1") -> str:
    return json.dumps(
        {
            "event": "media",
            "sequenceNumber": "3",
            "media": {"track": track, "chunk": chunk, "timestamp": "5", "payload": payload},
            "streamSid": stream,
        }
    )


def started() -> TwilioAdapter:
    adapter = TwilioAdapter("000000000000", "")
    adapter.receive(CONNECTED)
    adapter.receive(start())
    return adapter


# --- tickets


def ticketed(ticket: str | None, **changes: str) -> Call:
    """The call of a stream with a ticket, where tickets are asked for."""
    adapter = TwilioAdapter("000000000000", "", TICKET_SECRET, NOW)
    adapter.receive(CONNECTED)
    parameters = {"domain": DOMAIN, "session": "call-1", "speaker": "caller-1", **changes}
    if ticket is not None:
        parameters["ticket"] = ticket
    (effect,) = adapter.receive(start(customParameters=parameters))
    assert isinstance(effect, Open)
    return effect.call


def ticket(expires_in_s: int = 60, secret: str = TICKET_SECRET, **changes: str | None) -> str:
    named: dict[str, str | None] = {
        "domain_id": DOMAIN,
        "session": "call-1",
        "speaker_id": "caller-1",
        **changes,
    }
    return make_ticket(secret, expires_s=int(NOW.timestamp()) + expires_in_s, **named)  # type: ignore[arg-type]


def test_ticket_is_an_hmac_that_any_program_can_compute() -> None:
    text = f"v1\n{DOMAIN}\ncall-1\ncaller-1\n1772366460"
    mac = hmac.new(TICKET_SECRET.encode(), text.encode(), "sha256").hexdigest()
    assert ticket() == f"v1.1772366460.{mac}"


def test_stream_with_its_ticket_is_opened_once() -> None:
    call = ticketed(ticket())
    assert (call.session, call.speaker_id) == ("call-1", "caller-1")
    assert call.grant == ticketed(ticket()).grant, "which the store uses up"
    assert call.grant != ticketed(ticket(61)).grant


@pytest.mark.parametrize(
    ("given", "changes", "message"),
    [
        (None, {}, "no parameter `ticket`"),
        ("", {}, "no parameter `ticket`|not of the form"),
        ("v1.1.abc", {}, "not of the form"),
        # another's ticket: of another session, speaker, domain, or for no speaker
        (ticket(session="call-2"), {}, "not the one of this domain"),
        (ticket(speaker_id="caller-2"), {}, "not the one of this domain"),
        (ticket(domain_id="e" * 22), {}, "not the one of this domain"),
        (ticket(speaker_id=None), {}, "not the one of this domain"),
        # one's own ticket with other parameters
        (ticket(), {"speaker": "caller-2"}, "not the one of this domain"),
        (ticket(), {"session": "call-2"}, "not the one of this domain"),
        (ticket(), {"domain": "e" * 22}, "not the one of this domain"),
        (ticket(secret="another-secret-of-tickets"), {}, "not the one of this domain"),
        (ticket(0), {}, "has expired"),
        (ticket(-3600), {}, "has expired"),
        (ticket(90_000), {}, "longer than 24 hours"),
        (ticket().replace("v1.1", "v1.2"), {}, "not the one of this domain"),
    ],
)
def test_stream_without_its_ticket_is_refused(
    given: str | None, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(StreamFault, match=message):
        ticketed(given, **changes)


def test_short_ticket_secret_is_refused() -> None:
    settings = Settings(carriers={"twilio_token": "t" * 16, "twilio_ticket_secret": "short"})
    with pytest.raises(SetupError, match=r"live\.twilio_ticket_secret must have at least 16"):
        carrier(settings)


def test_carrier_without_tickets_warns(caplog: pytest.LogCaptureFixture) -> None:
    assert carrier(Settings(carriers={"twilio_token": "t" * 16})) is not None
    assert "live.twilio_ticket_secret is not set" in caplog.text


# --- messages


def test_stream_parameters_name_the_call() -> None:
    adapter = TwilioAdapter("000000000000", "")

    assert adapter.receive(CONNECTED) == ()
    assert adapter.receive(start()) == (
        Open(
            Call(
                account_id="000000000000",
                domain_id=DOMAIN,
                session="call-1",
                speaker_id="caller-1",
                create=True,
            )
        ),
    )


def test_session_and_domain_default_to_call_id_and_setting() -> None:
    adapter = TwilioAdapter("000000000000", DOMAIN)
    adapter.receive(CONNECTED)

    (begin,) = adapter.receive(start(customParameters={}))

    assert isinstance(begin, Open)
    assert (begin.call.session, begin.call.speaker_id) == ("CA" + "2" * 32, None)
    assert begin.call.domain_id == DOMAIN


def test_stream_without_domain_is_a_fault() -> None:
    adapter = TwilioAdapter("000000000000", "")
    adapter.receive(CONNECTED)

    with pytest.raises(StreamFault, match="domain"):
        adapter.receive(start(customParameters={}))


def test_media_is_mu_law() -> None:
    (audio,) = started().receive(media(base64.b64encode(bytes([0xFF, 0x00, 0x80])).decode()))

    assert isinstance(audio, Audio)
    assert audio.rate_hz == 8000
    # G.711: 0xFF is silence, 0x00 and 0x80 the extremes.
    np.testing.assert_array_equal(audio.samples, np.array([0, -32124, 32124], np.int16))


def test_frames_out_of_order_are_put_in_order() -> None:
    adapter, sent = started(), [1, 3, 2, 5, 4, 6]
    found = [
        int(sample)
        for number in sent
        for effect in adapter.receive(media(base64.b64encode(bytes([number])).decode(), chunk=str(number)))
        if isinstance(effect, Audio)
        for sample in effect.samples
    ]
    codes = np.arange(1, 7, dtype=np.uint8)
    assert found == [int(sample) for sample in MU_LAW_INT16[codes]]


def test_frames_that_wait_for_one_are_taken_at_the_end() -> None:
    adapter = started()
    assert len(adapter.receive(media("////", chunk="1"))) == 1
    assert adapter.receive(media("////", chunk="3")) == []
    audio, end = adapter.receive(json.dumps({"event": "stop", "streamSid": "MZ" + "1" * 32}))
    assert isinstance(audio, Audio)
    assert end == End(EndReason.CALL_ENDED)


@pytest.mark.parametrize(
    "stated",
    [
        {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1, "bitDepth": 8},  # something added
        {"encoding": "audio/x-mulaw", "sampleRate": "8000", "channels": "1"},
        {"encoding": "audio/x-mulaw", "sampleRate": 8000},
        {"encoding": "AUDIO/X-MULAW", "sampleRate": 8000.0, "channels": 1},
        {"encoding": "audio/x-mulaw;rate=8000"},
    ],
)
def test_format_is_understood_by_its_meaning(stated: dict[str, object]) -> None:
    adapter = TwilioAdapter("000000000000", "")
    (begin,) = adapter.receive(start(mediaFormat=stated))
    assert isinstance(begin, Open)


@pytest.mark.parametrize("tracks", [["inbound"], ["inbound", "outbound"]])
def test_stream_of_two_directions_is_understood(tracks: list[str]) -> None:
    """`<Connect><Stream>`: messages are the same, and marks of what would be played are ignored."""
    adapter = TwilioAdapter("000000000000", "")
    adapter.receive(CONNECTED)
    assert adapter.receive(start(tracks=tracks))
    mark = {"event": "mark", "sequenceNumber": "4", "streamSid": "MZ" + "1" * 32, "mark": {"name": "m"}}
    assert adapter.receive(json.dumps(mark)) == ()
    assert adapter.ended(EndReason.REQUESTED) == ()


def test_outbound_media_is_ignored() -> None:
    assert started().receive(media("////", track="outbound")) == ()


def test_stop_ends_the_call_and_later_messages_are_ignored() -> None:
    adapter = started()

    assert adapter.receive(json.dumps({"event": "stop", "streamSid": "MZ" + "1" * 32})) == (
        End(EndReason.CALL_ENDED),
    )
    assert adapter.receive(media("////")) == ()


@pytest.mark.parametrize("event", ["dtmf", "mark", "something-new"])
def test_other_events_are_ignored(event: str) -> None:
    assert started().receive(json.dumps({"event": event, "streamSid": "MZ" + "1" * 32})) == ()


@pytest.mark.parametrize(
    "message",
    [
        b"\x00",
        "not JSON",
        "[]",
        "{}",
        '{"event": 1}',
        start(),  # twice
        media("not base64!"),
        media("////", stream="another"),
        json.dumps({"event": "media", "streamSid": "MZ" + "1" * 32}),
        json.dumps({"event": "media", "streamSid": "MZ" + "1" * 32, "media": {"track": 1}}),
    ],
)
def test_protocol_violation_is_a_fault(message: str | bytes) -> None:
    with pytest.raises(StreamFault):
        started().receive(message)


@pytest.mark.parametrize(
    "changes",
    [
        {"tracks": ["outbound"]},
        {"mediaFormat": {"encoding": "audio/x-l16", "sampleRate": 16000, "channels": 1}},
        {"customParameters": []},
        {"customParameters": {"domain": 1}},
        {"callSid": 1, "customParameters": {"domain": DOMAIN}},
    ],
)
def test_stream_that_cannot_be_processed_is_a_fault(changes: dict[str, object]) -> None:
    adapter = TwilioAdapter("000000000000", "")
    adapter.receive(CONNECTED)

    with pytest.raises(StreamFault):
        adapter.receive(start(**changes))


def test_fault_does_not_repeat_what_was_sent() -> None:
    with pytest.raises(StreamFault) as raised:
        started().receive(media("secret-voice!"))

    assert "secret-voice" not in str(raised.value)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_MESSAGES = st.fixed_dictionaries(
    {"event": st.sampled_from(["connected", "start", "media", "stop", "mark", ""])},
    optional={"start": _VALUES, "media": _VALUES, "streamSid": st.just("MZ" + "1" * 32) | _VALUES},
)


@given(
    st.lists(st.one_of(_MESSAGES.map(json.dumps), st.text(max_size=40), st.binary(max_size=20)), max_size=6)
)
def test_any_messages_are_effects_or_a_fault(messages: list[str | bytes]) -> None:
    adapter = started()
    try:
        for message in messages:
            for effect in adapter.receive(message):
                assert isinstance(effect, Audio | End)
    except StreamFault as fault:
        assert str(fault)


def test_signature_is_accepted_by_twilios_library() -> None:
    validator = RequestValidator("an auth token")
    url = "wss://voice.example.com/twilio"

    assert validator.validate(url, {}, signature("an auth token", url))
    assert not validator.validate(url, {}, signature("another", url))
