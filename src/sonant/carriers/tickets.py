"""Tickets: what pins a stream to its call where the carrier's own parameters are not signed.

    v1.<expiry>.<hex of HMAC-SHA256(secret, "v1\\n<domain>\\n<session>\\n<speaker>\\n<expiry>")>

`expiry` is in seconds since 1970, the speaker's id is empty for a stream that names none. The program that
answers the call makes a ticket for each stream and passes it on in the stream's custom parameters. A ticket
opens one stream.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import datetime

from sonant.sessions.calls import StreamFault, StreamGrant

#: The longest life of a ticket, in seconds: a call that waits in a queue has hours.
MOST_LIFE_S = 86_400
_TICKET = re.compile(r"v1\.([1-9][0-9]{0,11})\.([0-9a-f]{64})")


def make_ticket(secret: str, *, domain_id: str, session: str, speaker_id: str | None, expires_s: int) -> str:
    """Make the ticket of a stream; it is void from `expires_s` on, in seconds since 1970."""
    text = "\n".join(("v1", domain_id, session, speaker_id or "", str(expires_s)))
    return f"v1.{expires_s}.{hmac.digest(secret.encode(), text.encode(), hashlib.sha256).hex()}"


def check_ticket(
    secret: str,
    ticket: str | None,
    *,
    setting: str,
    domain_id: str,
    session: str,
    speaker_id: str | None,
    now: datetime,
) -> StreamGrant:
    """Check the ticket of a stream and return what it is good for. Raises StreamFault. `setting` is that of
    the secret."""
    if ticket is None:
        raise StreamFault(f"the stream has no parameter `ticket`, which {setting} asks for")
    found = _TICKET.fullmatch(ticket)
    if found is None:
        raise StreamFault("the ticket is not of the form v1.<expiry>.<64 hex digits>")
    expires_s = int(found[1])
    expected = make_ticket(
        secret, domain_id=domain_id, session=session, speaker_id=speaker_id, expires_s=expires_s
    )
    if not hmac.compare_digest(expected.encode(), ticket.encode()):
        raise StreamFault("the ticket is not the one of this domain, session and speaker")
    if expires_s <= now.timestamp():
        raise StreamFault("the ticket has expired")
    if expires_s > now.timestamp() + MOST_LIFE_S:
        raise StreamFault(f"the ticket is valid for longer than {MOST_LIFE_S // 3600} hours")
    return StreamGrant.of("ticket", ticket)
