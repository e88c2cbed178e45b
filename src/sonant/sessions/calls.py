"""What adapters, streams and operations tell each other about a call."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sonant.errors import SonantError


class EndReason(StrEnum):
    """Why a stream ended; DescribeSession tells it."""

    CALL_ENDED = "CALL_ENDED"
    """The carrier said that the call is over."""
    DISCONNECTED = "DISCONNECTED"
    """The connection broke off."""
    REQUESTED = "REQUESTED"
    """EndStream."""
    IDLE = "IDLE"
    """No audio for too long."""
    TOO_LONG = "TOO_LONG"
    MALFORMED = "MALFORMED"
    """The carrier sent what its protocol does not allow."""
    OVERRUN = "OVERRUN"
    """Audio came faster than it could be listened to, or more than was asked for."""
    DOMAIN_GONE = "DOMAIN_GONE"
    """The domain was suspended, or its key can no longer be used."""
    NEVER_BEGAN = "NEVER_BEGAN"
    """No audio came in the time allowed."""
    SERVICE_STOPPED = "SERVICE_STOPPED"
    """The process that listened is gone: what it had heard and not yet written down is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Which session a carrier brings audio for."""

    account_id: str
    region: str = ""
    """Empty: the service's first."""
    domain_id: str
    session: str
    """Name or id."""
    speaker_id: str | None = None
    """Customer's or generated id, if the carrier names one; set on the session before it begins."""
    create: bool = False
    """Start a session of this name, with the default set-up, if there is none that waits for a stream."""


class StreamFault(SonantError):
    """The carrier did what ends its stream; the message says what, without repeating what it sent."""

    def __init__(self, message: str, reason: EndReason = EndReason.MALFORMED) -> None:
        super().__init__(message)
        self.reason = reason


class StreamOver(StreamFault):
    """Audio came for a stream that the service has ended: no fault of the carrier, who does not know yet."""

    def __init__(self, reason: EndReason) -> None:
        super().__init__("the stream has ended", reason)
