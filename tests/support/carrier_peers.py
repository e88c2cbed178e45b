"""Carriers as their documentation shows them: settings, credentials and messages."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sonant.carriers.carrier import WebSocketCarrier
from sonant.carriers.providers import exotel, freeswitch, jambonz, plivo, signalwire, telnyx, vonage
from sonant.settings import Settings

SECRET = "a password of some length"
UUID = "ff55a038-6f5d-11ef-9692-02420aeffb1f"


def basic(user: str, password: str) -> str:
    """The header of HTTP Basic."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def plivo_signature(auth_token: str, url: str, nonce: str) -> str:
    """Sign a GET by the steps of Plivo's documentation ("Signature validation", version 3).

    The URL's parameters, which need no escapes here, stand in the order of their names; a dot and the nonce
    follow.
    """
    base, _, query = url.partition("?")
    ordered = "&".join(sorted(query.split("&"))) if query else ""
    text = f"{base}?{ordered}.{nonce}" if ordered else f"{base}.{nonce}"
    return base64.b64encode(hmac.new(auth_token.encode(), text.encode(), hashlib.sha256).digest()).decode()


@dataclass(frozen=True, kw_only=True)
class MessagesPeer:
    """A carrier as its documentation shows it."""

    build: Callable[[Settings], WebSocketCarrier | None]
    settings: Mapping[str, str]
    start: Callable[[Mapping[str, str] | None], dict[str, Any]]
    """The message `start` with these parameters."""
    media: Callable[[int, str], dict[str, Any]]
    """A message of audio by its number."""
    stop: dict[str, Any]
    call_id: str
    """Names the session of a stream without parameters."""
    headers: Mapping[str, str]
    encoding: str


TELNYX = MessagesPeer(
    build=telnyx.carrier,
    settings={"telnyx_token": SECRET},
    start=lambda parameters: {
        "event": "start",
        "sequence_number": "1",
        "stream_id": "32DE0DEA-53CB-4B21-89A4-9E1819C043BC",
        "start": {
            "user_id": "3E6F995F-85F7-4705-9741-53B116D28237",
            "call_control_id": "v2:T02llQxIyaRkhfRKxgAP8nY511EhFLizdvdUKJiSw8d6A9BborherQ",
            "call_session_id": UUID,
            "from": "+13122010094",
            "to": "+13122123456",
            "client_state": "aGF2ZSBhIG5pY2UgZGF5ID1d",
            **({} if parameters is None else {"custom_parameters": dict(parameters)}),
            "media_format": {"encoding": "PCMA", "sample_rate": 8000, "channels": 1},
        },
    },
    media=lambda number, payload: {
        "event": "media",
        "sequence_number": str(number + 2),
        "stream_id": "32DE0DEA-53CB-4B21-89A4-9E1819C043BC",
        "media": {"track": "inbound", "chunk": str(number), "timestamp": "5", "payload": payload},
    },
    stop={
        "event": "stop",
        "sequence_number": "5",
        "stop": {"user_id": "3E6F995F", "call_control_id": "v2:T02llQ"},
        "stream_id": "32DE0DEA-53CB-4B21-89A4-9E1819C043BC",
    },
    call_id=UUID,
    headers={"authorization": f"Bearer {SECRET}"},
    encoding="alaw",
)
PLIVO = MessagesPeer(
    build=plivo.carrier,
    settings={"plivo_token": SECRET},
    start=lambda parameters: {
        "event": "start",
        "sequenceNumber": 1,
        "start": {
            "callId": "12345678-1234-1234-1234-123456789abc",
            "streamId": "87654321-4321-4321-4321-cba987654321",
            "accountId": "MAXXXXXXXXXXXXXXXXXX",
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000},
        },
        "extra_headers": ";".join(f"{name}={value}" for name, value in (parameters or {}).items()),
    },
    media=lambda number, payload: {
        "event": "media",
        "sequenceNumber": number + 1,
        "streamId": "87654321-4321-4321-4321-cba987654321",
        "media": {"track": "inbound", "timestamp": "1705312200000", "chunk": number, "payload": payload},
        "extra_headers": "{}",
    },
    stop={"event": "stop", "sequenceNumber": 9, "streamId": "87654321-4321-4321-4321-cba987654321"},
    call_id="12345678-1234-1234-1234-123456789abc",
    headers={
        "x-plivo-signature-v3": plivo_signature(SECRET, "wss://voice.example.org/stream/x", "nonce-1"),
        "x-plivo-signature-v3-nonce": "nonce-1",
    },
    encoding="mulaw",
)
EXOTEL = MessagesPeer(
    build=exotel.carrier,
    settings={"exotel_user": "key", "exotel_password": SECRET},
    start=lambda parameters: {
        "event": "start",
        "sequence_number": "1",
        "stream_sid": "MZ" + "0" * 30,
        "start": {
            "stream_sid": "MZ" + "0" * 30,
            "call_sid": "a1b2c3d4e5f60718",
            "account_sid": "exotel1",
            "from": "+919876543210",
            "to": "+918047491899",
            **({} if parameters is None else {"custom_parameters": dict(parameters)}),
            "media_format": {"encoding": "audio/x-raw", "sample_rate": "8000", "bit_rate": "16"},
        },
    },
    media=lambda number, payload: {
        "event": "media",
        "sequence_number": str(number + 1),
        "stream_sid": "MZ" + "0" * 30,
        "media": {"chunk": str(number), "timestamp": "200", "payload": payload},
    },
    stop={"event": "stop", "sequence_number": "9", "stream_sid": "MZ" + "0" * 30, "stop": {"reason": "x"}},
    call_id="a1b2c3d4e5f60718",
    headers={"authorization": basic("key", SECRET)},
    encoding="pcm_s16le",
)
SIGNALWIRE = MessagesPeer(
    build=signalwire.carrier,
    settings={"signalwire_token": SECRET},
    start=lambda parameters: {
        "event": "start",
        "sequenceNumber": "1",
        "streamSid": UUID,
        "start": {
            "streamSid": UUID,
            "accountSid": UUID,
            "callSid": UUID,
            "tracks": ["inbound"],
            **({} if parameters is None else {"customParameters": dict(parameters)}),
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        },
    },
    media=lambda number, payload: {
        "event": "media",
        "sequenceNumber": str(number + 1),
        "streamSid": UUID,
        "media": {"track": "inbound", "chunk": str(number), "timestamp": "5", "payload": payload},
    },
    stop={"event": "stop", "sequenceNumber": "9", "streamSid": UUID, "stop": {"callSid": UUID}},
    call_id=UUID,
    headers={"authorization": f"Bearer {SECRET}"},
    encoding="mulaw",
)
MESSAGES_PEERS = {"telnyx": TELNYX, "plivo": PLIVO, "exotel": EXOTEL, "signalwire": SIGNALWIRE}


@dataclass(frozen=True, kw_only=True)
class FramesPeer:
    """A carrier as its documentation shows it."""

    build: Callable[[Settings], WebSocketCarrier | None]
    settings: Mapping[str, str]
    headers: Mapping[str, str]
    first: Callable[[Mapping[str, Any]], dict[str, Any]]
    """The message that describes the call, with what the program added to it."""


VONAGE = FramesPeer(
    build=vonage.carrier,
    settings={"vonage_token": SECRET},
    headers={"authorization": f"Bearer {SECRET}"},
    first=lambda added: {"event": "websocket:connected", "content-type": "audio/l16;rate=16000", **added},
)
JAMBONZ = FramesPeer(
    build=jambonz.carrier,
    settings={"jambonz_user": "pbx", "jambonz_password": SECRET},
    headers={"authorization": basic("pbx", SECRET)},
    first=lambda added: {
        "callSid": "9fb35c28-9688-4531-943c-e280b04f3adf",
        "direction": "inbound",
        "from": "+15083084809",
        "to": "+15083728299",
        "callerName": "",
        "sampleRate": 8000,
        "mixType": "mono",
        **added,
    },
)
FREESWITCH = FramesPeer(
    build=freeswitch.carrier,
    settings={"freeswitch_user": "pbx", "freeswitch_password": SECRET},
    headers={"authorization": basic("pbx", SECRET)},
    first=lambda added: {"caller": "+12025550123", **added},
)
FRAMES_PEERS = {"vonage": VONAGE, "jambonz": JAMBONZ, "freeswitch": FREESWITCH}
