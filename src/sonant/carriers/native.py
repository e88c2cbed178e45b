"""Sonant's native stream: binary WebSocket messages that hold audio only.

The signed URL names the audio format. The text message `{"type": "end"}` ends the call: the connection is
closed when all audio has been processed. A normal close ends the call, too. Other text is ignored: programs
that send audio over WebSockets add messages of their own. The service sends
`{"type": "begun", "sessionId": ...}` first and, when it ends the stream itself,
`{"type": "ended", "reason": ...}` last.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from sonant.carriers.carrier import Audio, Effect, End, Reply, read_object
from sonant.carriers.encoding import AudioFormat, decoder, one_channel
from sonant.sessions.calls import EndReason


class NativeAdapter:
    """Translates the native protocol. The stream is open before the first message: its URL names the
    session."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self._format, self._decode = audio_format, decoder(audio_format.encoding)

    def receive(self, message: str | bytes) -> Sequence[Effect]:
        if isinstance(message, str):
            return (End(EndReason.CALL_ENDED),) if read_object(message).get("type") == "end" else ()
        samples = one_channel(self._decode(message), self._format.channels, self._format.channel)
        return (Audio(samples, self._format.rate_hz),)

    def opened(self, session_id: str) -> Sequence[Effect]:
        return (Reply(json.dumps({"type": "begun", "sessionId": session_id})),)

    def refused(self, message: str) -> Sequence[Effect]:
        return ()  # the close code and its reason say it

    def ended(self, reason: EndReason) -> Sequence[Effect]:
        return (Reply(json.dumps({"type": "ended", "reason": reason.value})), End(reason))
