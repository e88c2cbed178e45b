"""Genesys AudioHook, protocol version 2: JSON and binary frames over one WebSocket (Genesys developer center,
"AudioHook protocol" and "AudioHook security").

    open -> opened, then audio; ping -> pong; paused, resumed, discarded; close -> closed

The client opens and closes; the server sends `disconnect` to end a session, also after a fault, and waits
for `close`. A session that continues others (`continuedSessions`), whose connections broke, takes their
place. Of the media offered, the one is chosen that has the customer (`external`) and the fewest other
channels. A probe, whose ids are zero, gets no media. The conversation's id is the session's name; the domain
is the `domain` of the integration's custom configuration, else the setting's.

The request that opens the WebSocket has an API key and an HTTP message signature (RFC 9421, HMAC-SHA-256).
Genesys signs the request target, the authority, its own three headers and the API key, with a fresh nonce. An
integration without a client secret does not sign.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sonant.carriers.carrier import (
    Adapter,
    Audio,
    Effect,
    End,
    Open,
    Reply,
    WebSocketCarrier,
    check_password,
    optional_text,
    parse_object,
    read_object,
    required,
)
from sonant.carriers.encoding import decoder, one_channel
from sonant.carriers.nonces import NonceCache
from sonant.carriers.request import StreamRequest
from sonant.errors import AccessDenied, SetupError
from sonant.sessions.calls import Call, EndReason, StreamFault, StreamGrant
from sonant.settings import Settings
from sonant.settings.declaration import text

#: The id of a connection probe.
_PROBE = "00000000-0000-0000-0000-000000000000"
#: L16 is little-endian here, other than in RTP: frames are the memory of Int16 arrays.
_ENCODINGS = {"PCMU": "mulaw", "L16": "pcm_s16le"}
_CHANNELS = (["external"], ["external", "internal"])
_RATE_HZ = 8000

#: What a signature must cover.
_COVERED = frozenset(
    (
        "@request-target",
        "@authority",
        "audiohook-organization-id",
        "audiohook-session-id",
        "audiohook-correlation-id",
        "x-api-key",
    )
)
#: How old a signature may be, and how much clocks may differ, in seconds.
MAX_AGE_S, SKEW_S = 10, 5
_NONCE_CHARACTERS = 22
_MAX_HEADER, _MOST_DIGITS = 4096, 15

_INPUT = re.compile(r'([a-z*][a-z0-9_.*-]*)=(\(((?:"[^"\\]*" ?)*)\)((?:;[a-z]+=(?:\d{1,15}|"[^"\\]*"))*))')
_PARAMETER = re.compile(r';([a-z]+)=(?:(\d+)|"([^"]*)")')


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioHookSettings:
    """Settings of AudioHook's streams."""

    audiohook_key: str = text(
        "",
        "API key of the Genesys AudioHook integration whose calls are accepted; empty accepts none.",
        secret=True,
    )
    audiohook_secret: str = text(
        "", "Client secret of that integration, base64; when set, requests must be signed.", secret=True
    )


SETTINGS = AudioHookSettings


def carrier(settings: Settings) -> WebSocketCarrier | None:
    """Build the carrier, None without `live.audiohook_key` and its secret. Raises SetupError."""
    own = settings.of_carrier(AudioHookSettings)
    if not (own.audiohook_key or own.audiohook_secret):
        return None
    check_password("live.audiohook_key", own.audiohook_key)
    try:
        _decoded(own.audiohook_secret)
    except StreamFault:
        raise SetupError("setting live.audiohook_secret must be base64, as Genesys shows it") from None
    nonces = NonceCache(MAX_AGE_S + 2 * SKEW_S)

    def authenticate(request: StreamRequest) -> Adapter:
        query = b"?" + request.query if request.query else b""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
        hook = HookRequest(target=(request.raw_path + query).decode("latin-1"), headers=headers)
        try:
            nonce = check_request(
                hook, key=own.audiohook_key, secret=own.audiohook_secret, now=request.received_at
            )
        except StreamFault as fault:
            raise AccessDenied(f"{fault}.") from None
        if nonce is not None and not nonces.use(nonce, request.received_at):
            raise AccessDenied("The nonce of the signature was used before.")
        return AudioHookAdapter(
            settings.account,
            settings.live.domain,
            headers.get("audiohook-organization-id", ""),
            headers.get("audiohook-session-id", ""),
            None if nonce is None else StreamGrant.of("audiohook", nonce),
        )

    return WebSocketCarrier(authenticate=authenticate)


class AudioHookAdapter:
    """Translates AudioHook's messages."""

    def __init__(
        self,
        account_id: str,
        default_domain_id: str,
        organization_id: str,
        session_id: str,
        grant: StreamGrant | None = None,
    ) -> None:
        """The ids are those of the request's headers; messages must agree with them. `grant` is that of the
        request's nonce, which no other process accepts again either."""
        self._grant = grant
        self._account_id, self._default_domain_id = account_id, default_domain_id
        self._organization_id, self._id = organization_id, session_id
        self._received = self._sent = 0
        self._media: Mapping[str, Any] | None = None
        self._opened = self._closing = self._disconnected = False

    def receive(self, message: str | bytes) -> Sequence[Effect]:
        if self._disconnected:
            return self._await_close(message)
        if isinstance(message, bytes):
            return self._audio(message)
        found = parse_object(message)
        kind, sequence = required(found, "type", str), required(found, "seq", int)
        if found.get("version") != "2" or found.get("id") != self._id:
            raise StreamFault("a message is not of version 2, or of another session")
        if sequence != self._received + 1:
            raise StreamFault("messages are missing or out of order")
        self._received = sequence
        parameters = found.get("parameters") or {}
        if not isinstance(parameters, dict):
            raise StreamFault("parameters is not an object")
        if kind == "close":
            self._closing = True
            return (self._reply("closed", {}), End(EndReason.CALL_ENDED))
        if kind == "ping":
            return (self._reply("pong", {}),)
        if kind == "open":
            return self._open(parameters)
        return ()  # paused, resumed, discarded, update, error, and what Genesys may add

    def opened(self, session_id: str) -> Sequence[Effect]:
        self._opened = True
        return (self._reply("opened", {"media": [self._media], "startPaused": False}),)

    def refused(self, message: str) -> Sequence[Effect]:
        return self._disconnect("error", message)

    def ended(self, reason: EndReason) -> Sequence[Effect]:
        return self._disconnect("completed" if reason == EndReason.REQUESTED else "error", reason.value)

    def _open(self, parameters: dict[str, Any]) -> Sequence[Effect]:
        if self._opened or self._media is not None:
            raise StreamFault("the session was opened twice")
        if required(parameters, "organizationId", str) != self._organization_id:
            raise StreamFault("the organization is not the one that the request named")
        conversation = required(parameters, "conversationId", str)
        if conversation == _PROBE:
            self._opened = True
            return (self._reply("opened", {"media": [], "startPaused": False}),)
        self._media = _choose_media(required(parameters, "media", list))
        config = parameters.get("customConfig") or {}
        domain_id = optional_text(config, "domain") if isinstance(config, dict) else None
        domain_id = domain_id or self._default_domain_id
        if not domain_id:
            raise StreamFault("the custom configuration has no `domain`, and live.domain is not set")
        call = Call(
            account_id=self._account_id,
            domain_id=domain_id,
            session=conversation,
            create=True,
            continues=bool(parameters.get("continuedSessions")),
            grant=self._grant,
        )
        return (Open(call),)

    def _audio(self, data: bytes) -> Sequence[Effect]:
        if self._closing:
            raise StreamFault("audio came after `close`")
        if self._media is None or not self._opened:
            raise StreamFault("audio came before the session was opened")
        samples = decoder(_ENCODINGS[self._media["format"]])(data)
        return (Audio(one_channel(samples, len(self._media["channels"]), 0), _RATE_HZ),)

    def _await_close(self, message: str | bytes) -> Sequence[Effect]:
        """Take what comes after `disconnect`: audio on its way, and at last `close`."""
        found = read_object(message) if isinstance(message, str) else {}
        if isinstance(sequence := found.get("seq"), int):
            self._received = sequence  # after a fault in the sequence, the client's own counts
        if found.get("type") != "close":
            return ()
        return (self._reply("closed", {}), End(EndReason.CALL_ENDED))

    def _disconnect(self, reason: str, info: str) -> Sequence[Effect]:
        self._disconnected = True
        return (self._reply("disconnect", {"reason": reason, "info": info}),)

    def _reply(self, kind: str, parameters: Mapping[str, Any]) -> Reply:
        self._sent += 1
        return Reply(
            json.dumps(
                {
                    "version": "2",
                    "type": kind,
                    "seq": self._sent,
                    "clientseq": self._received,
                    "id": self._id,
                    "parameters": parameters,
                }
            )
        )


def _choose_media(offered: list[Any]) -> Mapping[str, Any]:
    for channels in _CHANNELS:
        for media in offered:
            if (
                isinstance(media, dict)
                and media.get("type") == "audio"
                and media.get("format") in _ENCODINGS
                and media.get("rate") == _RATE_HZ
                and media.get("channels") == channels
            ):
                return {name: media[name] for name in ("type", "format", "channels", "rate")}
    raise StreamFault("none of the media offered is PCMU or L16 at 8 kHz with the external channel")


# --- the request that opens the WebSocket


@dataclass(frozen=True, slots=True, kw_only=True)
class HookRequest:
    """The request that opens a WebSocket."""

    target: str
    """Path and query as sent."""
    headers: Mapping[str, str]
    """Names in lower case."""


def check_request(request: HookRequest, *, key: str, secret: str, now: datetime) -> str | None:
    """Check a request's API key and, if there is a client secret (base64), its signature.

    Returns the signature's nonce, which must not have been used; None without a client secret. Raises
    StreamFault.
    """
    headers = request.headers
    if not hmac.compare_digest(headers.get("x-api-key", "").encode(), key.encode()):
        raise StreamFault("the API key is missing or not the one that was set")
    if not secret:
        return None
    label, covered, parameters, signed = _parse_input(headers.get("signature-input", ""))
    _check_parameters(parameters, key, now)
    if missing := _COVERED - set(covered):
        raise StreamFault(f"the signature does not cover {', '.join(sorted(missing))}")
    lines = [f'"{name}": {_component(request, name)}' for name in covered]
    base = "\n".join([*lines, f'"@signature-params": {signed}'])
    expected = hmac.digest(_decoded(secret), base.encode(), "sha256")
    if not hmac.compare_digest(expected, _signature(headers.get("signature", ""), label)):
        raise StreamFault("the signature is not the one that the client secret gives")
    return parameters["nonce"]


def _parse_input(header: str) -> tuple[str, list[str], dict[str, str], str]:
    found = _INPUT.fullmatch(header) if len(header) <= _MAX_HEADER else None
    if found is None:
        raise StreamFault("the request is not signed, or not with one signature")
    label, signed, names, parameters = found.groups()
    covered = [name.strip('"') for name in names.split()]
    if len(set(covered)) != len(covered):
        raise StreamFault("the signature covers something twice")
    pairs = {name: number or text for name, number, text in _PARAMETER.findall(parameters)}
    return label, covered, pairs, signed


def _check_parameters(parameters: Mapping[str, str], key: str, now: datetime) -> None:
    if parameters.get("keyid") != key or parameters.get("alg", "hmac-sha256") != "hmac-sha256":
        raise StreamFault("the signature names another key or algorithm")
    if len(parameters.get("nonce", "")) < _NONCE_CHARACTERS:
        raise StreamFault("the signature has no nonce, or a short one")
    created, expires = _seconds(parameters.get("created", "")), _seconds(parameters.get("expires", ""))
    moment = now.timestamp()
    if created is None or not -MAX_AGE_S - SKEW_S <= created - moment <= SKEW_S:
        raise StreamFault("the signature is too old, or made in the future")
    if expires is not None and expires + SKEW_S < moment:
        raise StreamFault("the signature has expired")


def _seconds(text: str) -> int | None:
    """Read a time in seconds since 1970; None for anything else, such as thousands of digits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None


def _component(request: HookRequest, name: str) -> str:
    if name == "@request-target":
        return request.target
    value = request.headers.get("host" if name == "@authority" else name)
    if value is None or (name.startswith("@") and name != "@authority"):
        raise StreamFault("the signature covers something that the request does not have")
    return value.strip()


def _signature(header: str, label: str) -> bytes:
    begin = f"{label}=:"
    if not header.startswith(begin) or not header.endswith(":") or len(header) > _MAX_HEADER:
        raise StreamFault("the signature header does not fit its input")
    return _decoded(header[len(begin) : -1])


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise StreamFault("a signature or secret is not base64") from None
