"""Genesys AudioHook, message by message, and the signature of its documentation's own example."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonant.carriers.carrier import Audio, End, Open, Reply
from sonant.carriers.providers.audiohook import AudioHookAdapter, HookRequest, check_request
from sonant.sessions.calls import EndReason, StreamFault

SESSION = "30b0e395-84d3-4570-ac13-9a62d8f514c0"
ORGANIZATION = "d7934305-0972-4844-938e-9060eef73d05"
CONVERSATION = "090eaa2f-72fa-480a-83e0-8667ff89c0ec"
PROBE = "00000000-0000-0000-0000-000000000000"
DOMAIN = "d" * 22
PCMU = {"type": "audio", "format": "PCMU", "channels": ["external"], "rate": 8000}
STEREO = {"type": "audio", "format": "PCMU", "channels": ["external", "internal"], "rate": 8000}
L16 = {"type": "audio", "format": "L16", "channels": ["external"], "rate": 8000}


def client(kind: str, sequence: int, parameters: Any = None, **changes: Any) -> str:
    return json.dumps(
        {
            "version": "2",
            "id": SESSION,
            "type": kind,
            "seq": sequence,
            "serverseq": 0,
            "position": "PT0S",
            "parameters": parameters or {},
            **changes,
        }
    )


def opening(media: list[Any], **changes: Any) -> dict[str, Any]:
    return {
        "organizationId": ORGANIZATION,
        "conversationId": CONVERSATION,
        "participant": {"id": CONVERSATION, "ani": "+1", "aniName": "", "dnis": "+2"},
        "media": media,
        **changes,
    }


def adapter(domain: str = DOMAIN) -> AudioHookAdapter:
    return AudioHookAdapter("000000000000", domain, ORGANIZATION, SESSION)


def opened(media: dict[str, Any] = PCMU) -> AudioHookAdapter:
    hook = adapter()
    hook.receive(client("open", 1, opening([media])))
    hook.opened("id#" + "s" * 22)
    return hook


def said(effect: object) -> dict[str, Any]:
    assert isinstance(effect, Reply)
    found: dict[str, Any] = json.loads(effect.message)
    return found


def test_session_is_the_conversation_with_the_channel_of_the_caller_only() -> None:
    hook = adapter()

    (begin,) = hook.receive(client("open", 1, opening([STEREO, PCMU, L16])))
    assert isinstance(begin, Open)
    assert (begin.call.session, begin.call.domain_id) == (CONVERSATION, DOMAIN)
    assert begin.call.create

    (reply,) = hook.opened("id#" + "s" * 22)
    assert said(reply) == {
        "version": "2",
        "type": "opened",
        "seq": 1,
        "clientseq": 1,
        "id": SESSION,
        "parameters": {"media": [PCMU], "startPaused": False},
    }


def test_custom_configuration_names_the_domain() -> None:
    (begin,) = adapter("").receive(client("open", 1, opening([PCMU], customConfig={"domain": "e" * 22})))

    assert isinstance(begin, Open)
    assert begin.call.domain_id == "e" * 22


def test_probe_is_opened_without_media_and_starts_no_session() -> None:
    hook = adapter("")

    (reply,) = hook.receive(client("open", 1, opening([STEREO], conversationId=PROBE)))
    assert said(reply)["parameters"]["media"] == []

    closed, end = hook.receive(client("close", 2, {"reason": "end"}))
    assert said(closed)["type"] == "closed"
    assert end == End(EndReason.CALL_ENDED)


def test_external_channel_of_two_is_used() -> None:
    (audio,) = opened(STEREO).receive(bytes([0x00, 0xFF, 0x80, 0xFF]))

    assert isinstance(audio, Audio)
    np.testing.assert_array_equal(audio.samples, np.array([-32124, 32124], np.int16))


def test_linear_audio_is_little_endian() -> None:
    (audio,) = opened(L16).receive(np.array([1, -2], "<i2").tobytes())

    assert isinstance(audio, Audio)
    np.testing.assert_array_equal(audio.samples, np.array([1, -2], np.int16))


def test_pings_are_answered_with_rising_sequence_numbers() -> None:
    hook = opened()

    (pong,) = hook.receive(client("ping", 2))
    assert (said(pong)["type"], said(pong)["seq"], said(pong)["clientseq"]) == ("pong", 2, 2)
    assert hook.receive(client("paused", 3)) == ()
    closed, end = hook.receive(client("close", 4, {"reason": "end"}))
    assert (said(closed)["type"], said(closed)["seq"], said(closed)["clientseq"]) == ("closed", 3, 4)
    assert end == End(EndReason.CALL_ENDED)


def test_stream_ended_by_the_service_is_disconnected_then_closed() -> None:
    hook = opened()

    (told,) = hook.ended(EndReason.REQUESTED)
    assert said(told)["parameters"] == {"reason": "completed", "info": "REQUESTED"}
    assert said(hook.receive(client("close", 2))[0])["type"] == "closed"


def test_refused_session_gets_the_reason() -> None:
    hook = adapter()
    hook.receive(client("open", 1, opening([PCMU])))

    assert said(hook.refused("The domain does not exist.")[0])["parameters"] == {
        "reason": "error",
        "info": "The domain does not exist.",
    }


@pytest.mark.parametrize(
    "fault",
    [
        client("ping", 7),  # messages are missing
        "not JSON",
        client("ping", 2, version="1"),
    ],
)
def test_fault_is_disconnected_and_the_clients_close_answered(fault: str) -> None:
    hook = opened()
    with pytest.raises(StreamFault) as raised:
        hook.receive(fault)

    (told,) = hook.refused(str(raised.value))
    assert said(told)["type"] == "disconnect"
    assert said(told)["parameters"] == {"reason": "error", "info": str(raised.value)}

    assert hook.receive(b"\xff" * 160) == (), "audio on its way"
    closed, end = hook.receive(client("close", 8, {"reason": "disconnect"}))
    assert (said(closed)["type"], said(closed)["clientseq"]) == ("closed", 8)
    assert end == End(EndReason.CALL_ENDED)


@pytest.mark.parametrize("channels", [["internal"], ["internal", "external"], []])
def test_media_without_the_callers_channel_is_disconnected(channels: list[str]) -> None:
    hook = adapter()
    with pytest.raises(StreamFault) as raised:
        hook.receive(client("open", 1, opening([{**PCMU, "channels": channels}])))
    (told,) = hook.refused(str(raised.value))
    assert said(told)["type"] == "disconnect"
    assert "external channel" in said(told)["parameters"]["info"]


def test_continued_session_takes_the_place_of_the_earlier() -> None:
    continued = [{"id": SESSION, "serverseq": 7, "clientseq": 9}]
    (begin,) = adapter().receive(client("open", 1, opening([PCMU], continuedSessions=continued)))
    assert isinstance(begin, Open)
    assert begin.call.continues

    (other,) = adapter().receive(client("open", 1, opening([PCMU], continuedSessions=[])))
    assert isinstance(other, Open)
    assert not other.call.continues


@pytest.mark.parametrize(
    "message",
    [
        client("ping", 1),  # out of order
        client("ping", 2, version="1"),
        client("ping", 2, id=CONVERSATION),
        client("open", 2, opening([PCMU])),  # twice
        json.dumps({"type": "ping"}),
        "{}",
        client("ping", 2, parameters=[1]),
    ],
)
def test_protocol_violation_is_a_fault(message: str) -> None:
    with pytest.raises(StreamFault):
        opened().receive(message)


@pytest.mark.parametrize(
    "changes",
    [
        {"media": []},
        {"media": [{**PCMU, "channels": ["internal"]}]},
        {"media": [{**PCMU, "rate": 16000}, {**PCMU, "format": "OPUS"}, 7]},
        {"media": "PCMU"},
        {"organizationId": CONVERSATION},
        {"conversationId": 1},
    ],
)
def test_opening_that_cannot_be_served_is_a_fault(changes: dict[str, Any]) -> None:
    with pytest.raises(StreamFault):
        adapter().receive(client("open", 1, opening([PCMU]) | changes))


def test_early_audio_and_half_samples_are_faults() -> None:
    with pytest.raises(StreamFault, match="before"):
        adapter().receive(b"\xff" * 160)
    with pytest.raises(StreamFault, match="sample"):
        opened(L16).receive(b"\x00" * 3)
    with pytest.raises(StreamFault, match="channel"):
        opened(STEREO).receive(b"\x00" * 3)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_MESSAGES = st.fixed_dictionaries(
    {
        "version": st.just("2"),
        "id": st.just(SESSION),
        "type": st.sampled_from(["open", "ping", "close", "paused", "error", ""]),
        "seq": st.integers(1, 4) | _VALUES,
    },
    optional={"parameters": _VALUES},
)


@given(
    st.lists(st.one_of(_MESSAGES.map(json.dumps), st.text(max_size=40), st.binary(max_size=20)), max_size=6)
)
def test_any_messages_are_effects_or_a_fault(messages: list[str | bytes]) -> None:
    hook = opened()
    try:
        for message in messages:
            for effect in hook.receive(message):
                assert isinstance(effect, Audio | End | Reply)
    except StreamFault as fault:
        assert str(fault)


# --- the request that opens the WebSocket -----------------------------------------------------------------

KEY = "SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh"
SECRET = "TXlTdXBlclNlY3JldEtleVRlbGxOby0xITJAMyM0JDU="
COVERED = (
    '("@request-target" "@authority" "audiohook-organization-id" "audiohook-session-id" '
    '"audiohook-correlation-id" "x-api-key")'
)
PARAMETERS = (
    f';keyid="{KEY}";nonce="VGhpc0lzQVVuaXF1ZU5vbmNl";alg="hmac-sha256";created=1641013200;expires=3282026430'
)
#: The example of the security page of the AudioHook documentation.
EXAMPLE = {
    "host": "audiohook.example.com",
    "audiohook-organization-id": ORGANIZATION,
    "audiohook-session-id": SESSION,
    "audiohook-correlation-id": "e160e428-53e2-487c-977d-96989bf5c99d",
    "x-api-key": KEY,
    "signature": "sig1=:NZBwyBHRRyRoeLqy1IzOa9VYBuI8TgMFt2GRDkDuJh4=:",
    "signature-input": f"sig1={COVERED}{PARAMETERS}",
}
THEN = datetime.fromtimestamp(1641013202, UTC)


def check(headers: dict[str, str], now: datetime = THEN, secret: str = SECRET) -> None:
    request = HookRequest(target="/api/v1/voicebiometrics/ws", headers=headers)
    check_request(request, key=KEY, secret=secret, now=now)


def test_documentations_example_is_accepted() -> None:
    check(EXAMPLE)


def test_api_key_suffices_without_client_secret() -> None:
    check({"x-api-key": KEY}, secret="")


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-api-key", "another"),
        ("host", "other.example.com"),
        ("audiohook-session-id", CONVERSATION),
        ("signature", "sig1=:AAAA:"),
        ("signature", "sig2=:NZBwyBHRRyRoeLqy1IzOa9VYBuI8TgMFt2GRDkDuJh4=:"),
        ("signature", "sig1=:not base64:"),
        ("signature-input", ""),
        ("signature-input", f'sig1=("@authority"){PARAMETERS}'),
        ("signature-input", f"sig1={COVERED}" + PARAMETERS.replace("1641013200", '"\u00b2"')),
        ("signature-input", f"sig1={COVERED}" + PARAMETERS.replace("1641013200", f'"{"9" * 400}"')),
        ("signature-input", f"sig1={COVERED}" + PARAMETERS.replace("3282026430", '"\u00b2"')),
        ("signature-input", f"sig1={COVERED}" + PARAMETERS.replace(KEY, "another")),
        ("signature-input", f"sig1={COVERED}" + PARAMETERS.replace("VGhpc0lzQVVuaXF1ZU5vbmNl", "short")),
        ("signature-input", f"sig1={COVERED}" + PARAMETERS.replace("hmac-sha256", "none")),
        ("signature-input", f"sig1={COVERED}" + PARAMETERS.replace("3282026430", "1641013100")),
        ("signature-input", "sig1=" + COVERED.replace('"x-api-key"', '"x-api-key" "x-api-key"') + PARAMETERS),
        ("signature-input", "sig1=" + COVERED.replace(")", ' "@query")') + PARAMETERS),
    ],
)
def test_wrong_header_is_refused(header: str, value: str) -> None:
    with pytest.raises(StreamFault):
        check(EXAMPLE | {header: value})


@pytest.mark.parametrize("moment", [1641013200 + 16, 1641013200 - 6])
def test_old_or_future_signature_is_refused(moment: int) -> None:
    with pytest.raises(StreamFault, match="old"):
        check(EXAMPLE, datetime.fromtimestamp(moment, UTC))
