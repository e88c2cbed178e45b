"""Sonant's own stream: binary WebSocket messages that hold nothing but audio.

What they hold, the URL says, which is signed. `{"type": "end"}`, a text message, says that the call is over:
the connection is then closed when everything has been listened to. A normal close says so, too. The service
says `{"type": "begun", "sessionId": ...}` first and, when it ends the stream itself,
`{"type": "ended", "reason": ...}` last.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sonant.carriers.adapter import Audio, Effect, End, Reply
from sonant.carriers.encoding import decoder, one_channel
from sonant.carriers.messages import member, parse
from sonant.sessions.calls import EndReason, StreamFault

#: Rates that are listened to; all else would have to be guessed at.
RATES_HZ = (8000, 16000)


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioForm:
    """How samples are written down."""

    encoding: str = "pcm_s16le"
    """A name that `encoding.decoder` knows."""
    rate_hz: int = 8000
    """One of RATES_HZ."""
    channels: int = 1
    channel: int = 0
    """The caller's, from 0."""

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of each channel."""
        return self.channels * (2 if self.encoding.startswith("pcm") else 1)


class OwnAdapter:
    """See `adapters.Adapter`. The stream is open before the first message: its URL named the session."""

    def __init__(self, form: AudioForm) -> None:
        self._form, self._decode = form, decoder(form.encoding)

    def receive(self, message: str | bytes) -> Sequence[Effect]:
        if isinstance(message, str):
            if member(parse(message), "type", str) != "end":
                raise StreamFault("the only text message is of type `end`")
            return (End(EndReason.CALL_ENDED),)
        form = self._form
        return (Audio(one_channel(self._decode(message), form.channels, form.channel), form.rate_hz),)

    def begun(self, session_id: str) -> Sequence[Effect]:
        return (Reply(json.dumps({"type": "begun", "sessionId": session_id})),)

    def refused(self, why: str) -> Sequence[Effect]:
        return ()

    def ended(self, reason: EndReason) -> Sequence[Effect]:
        return (Reply(json.dumps({"type": "ended", "reason": reason.value})), End(reason))
