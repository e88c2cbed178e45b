"""Genesys AudioHook, protocol version 2: JSON and binary frames over one WebSocket (Genesys developer center,
"AudioHook protocol").

    open -> opened, then audio; ping -> pong; paused, resumed, discarded; close -> closed

The client opens and closes; a server that has had enough says `disconnect` and waits for `close`. Of the
media offered, the one is chosen that has the customer (`external`) with the least beside. A probe, whose ids
are zero, wants no media at all. The session is named by the conversation; its domain is the `domain` of the
integration's custom configuration, else the setting's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sonant.carriers.adapter import Audio, Begin, Effect, End, Reply
from sonant.carriers.encoding import decoder, one_channel
from sonant.carriers.messages import member, parse, text
from sonant.sessions.calls import Call, EndReason, StreamFault

_NOBODY = "00000000-0000-0000-0000-000000000000"
#: L16 is little-endian here, other than in RTP: frames are the memory of Int16 arrays.
_ENCODINGS = {"PCMU": "mulaw", "L16": "pcm_s16le"}
_CHANNELS = (["external"], ["external", "internal"])
_RATE_HZ = 8000


class AudioHookAdapter:
    """See `adapters.Adapter`."""

    def __init__(
        self, account_id: str, default_domain_id: str, organization_id: str, session_id: str
    ) -> None:
        """The ids are those of the HTTP request's headers, which the messages must agree with."""
        self._account_id, self._default_domain_id = account_id, default_domain_id
        self._organization_id, self._id = organization_id, session_id
        self._received = self._sent = 0
        self._media: Mapping[str, Any] | None = None
        self._opened = self._closing = False

    def receive(self, message: str | bytes) -> Sequence[Effect]:
        if isinstance(message, bytes):
            return self._audio(message)
        found = parse(message)
        kind, sequence = member(found, "type", str), member(found, "seq", int)
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

    def begun(self, session_id: str) -> Sequence[Effect]:
        self._opened = True
        return (self._reply("opened", {"media": [self._media], "startPaused": False}),)

    def refused(self, why: str) -> Sequence[Effect]:
        return self._disconnect("error", why)

    def ended(self, reason: EndReason) -> Sequence[Effect]:
        return self._disconnect("completed" if reason == EndReason.REQUESTED else "error", reason.value)

    def _open(self, parameters: dict[str, Any]) -> Sequence[Effect]:
        if self._opened or self._media is not None:
            raise StreamFault("the session was opened twice")
        if member(parameters, "organizationId", str) != self._organization_id:
            raise StreamFault("the organization is not the one that the request named")
        conversation = member(parameters, "conversationId", str)
        if conversation == _NOBODY:
            self._opened = True
            return (self._reply("opened", {"media": [], "startPaused": False}),)
        self._media = _choose(member(parameters, "media", list))
        config = parameters.get("customConfig") or {}
        domain_id = text(config, "domain") if isinstance(config, dict) else None
        domain_id = domain_id or self._default_domain_id
        if not domain_id:
            raise StreamFault("the custom configuration has no `domain`, and live.domain is not set")
        call = Call(account_id=self._account_id, domain_id=domain_id, session=conversation, create=True)
        return (Begin(call),)

    def _audio(self, data: bytes) -> Sequence[Effect]:
        if self._closing:
            raise StreamFault("audio came after `close`")
        if self._media is None or not self._opened:
            raise StreamFault("audio came before the session was opened")
        samples = decoder(_ENCODINGS[self._media["format"]])(data)
        return (Audio(one_channel(samples, len(self._media["channels"]), 0), _RATE_HZ),)

    def _disconnect(self, reason: str, info: str) -> Sequence[Effect]:
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


def _choose(offered: list[Any]) -> Mapping[str, Any]:
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
