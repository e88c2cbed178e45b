"""Values that carriers, streams and operations exchange about a call."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from sonant.errors import SonantError


class EndReason(StrEnum):
    """Why a stream ended, as DescribeSession shows it."""

    CALL_ENDED = "CALL_ENDED"
    """The carrier reported the end of the call."""
    DISCONNECTED = "DISCONNECTED"
    """The connection broke."""
    REQUESTED = "REQUESTED"
    """EndStream was called."""
    IDLE = "IDLE"
    """No audio for longer than `live.silence_s` over a connection that lives, else than `live.idle_s`."""
    TOO_LONG = "TOO_LONG"
    """The call was longer than `live.max_stream_s`."""
    MALFORMED = "MALFORMED"
    """The carrier violated its protocol."""
    OVERRUN = "OVERRUN"
    """Audio came faster than it can be processed, or the stream belongs to another connection."""
    DOMAIN_GONE = "DOMAIN_GONE"
    """The domain was suspended, or its key can no longer be used."""
    NEVER_BEGAN = "NEVER_BEGAN"
    """No audio came in the time allowed."""
    SERVICE_STOPPED = "SERVICE_STOPPED"
    """The process that received the audio is gone; results that were not stored are lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamGrant:
    """The right to open one stream, which is used up by it: a presigned URL, a ticket, a nonce."""

    grant_id: str
    """64 hex digits: a hash of what the carrier presented."""
    stream_number: int | None = None
    """The session's stream that it is for; None for any."""

    @classmethod
    def of(cls, kind: str, presented: str, stream_number: int | None = None) -> StreamGrant:
        """Make the grant of what a carrier presented, a text of a kind."""
        digest = hashlib.sha256(f"stream grant|{kind}|{presented}".encode()).hexdigest()
        return cls(grant_id=digest, stream_number=stream_number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The session that a carrier brings audio for."""

    account_id: str
    region: str = ""
    """Empty: the service's first Region."""
    domain_id: str
    session: str
    """Name or id."""
    speaker_id: str | None = None
    """The customer's or the generated id, if the carrier sends one; set on the session before the stream
    opens."""
    create: bool = False
    """Start a session of this name, with the default set-up, if none waits for a stream."""
    continues: bool = False
    """Whether the carrier says that this continues a call whose connection broke: an older connection that is
    still open then gives way."""
    grant: StreamGrant | None = None
    """What the stream uses up; None where the carrier is trusted for all its streams."""


class StreamFault(SonantError):
    """The carrier did what ends its stream. The message says what, and repeats nothing that was sent."""

    def __init__(self, message: str, reason: EndReason = EndReason.MALFORMED) -> None:
        super().__init__(message)
        self.reason = reason


class StreamEnded(StreamFault):
    """Audio came after the service had ended the stream. Not an error: the carrier was not informed yet."""

    def __init__(self, reason: EndReason) -> None:
        super().__init__("the stream has ended", reason)
