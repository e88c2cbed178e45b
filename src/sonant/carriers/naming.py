"""The session that a carrier's call belongs to: what all carriers have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sonant.carriers.carrier import optional_text
from sonant.carriers.request import StreamRequest
from sonant.carriers.tickets import check_ticket
from sonant.sessions.calls import Call, StreamFault, StreamGrant
from sonant.settings import Settings

#: What is left of a carrier's own id of a call when it names the session.
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_NAME = 36
#: Parameters that a program may give as a number, such as that of a customer.
_MAY_BE_NUMBERS = ("session", "speaker")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallNaming:
    """How the calls of one connection are named."""

    account_id: str
    default_domain_id: str
    """That of calls that name none; may be empty."""
    url_parameters: Mapping[str, str]
    """Of the URL that the carrier connected to. They come before those of its messages: a signature may cover
    them."""
    ticket_secret: str = ""
    """When set, each call needs a ticket that is valid at `now`."""
    ticket_setting: str = ""
    """The secret's setting, for messages."""
    now: datetime
    grant: StreamGrant | None = None
    """What the connection's request was signed with, which is good for one stream."""

    def call(self, parameters: Mapping[str, Any], call_id: str | None) -> Call:
        """Return the call that a stream's parameters name: `domain`, `session`, else by `call_id`, `speaker`
        and `ticket`. Raises StreamFault."""
        given = {**parameters, **self.url_parameters}
        given |= {name: str(given[name]) for name in _MAY_BE_NUMBERS if type(given.get(name)) is int}
        domain_id = optional_text(given, "domain") or self.default_domain_id
        if not domain_id:
            raise StreamFault("the stream has no parameter `domain`, and live.domain is not set")
        session = optional_text(given, "session") or session_name(call_id or "")
        if not session:
            raise StreamFault("the stream has no parameter `session`, and its call no id")
        call = Call(
            account_id=self.account_id,
            domain_id=domain_id,
            session=session,
            speaker_id=optional_text(given, "speaker"),
            create=True,
            grant=self.grant,
        )
        if not self.ticket_secret:
            return call
        grant = check_ticket(
            self.ticket_secret,
            optional_text(given, "ticket"),
            setting=self.ticket_setting,
            domain_id=call.domain_id,
            session=call.session,
            speaker_id=call.speaker_id,
            now=self.now,
        )
        return replace(call, grant=grant)


def naming_of(
    settings: Settings,
    request: StreamRequest,
    ticket_secret: str = "",
    ticket_setting: str = "",
    grant: StreamGrant | None = None,
) -> CallNaming:
    """Return how the calls of a connection are named that was opened by `request`. Raises Validation for
    parameters of its URL that are given twice."""
    return CallNaming(
        account_id=settings.account,
        default_domain_id=settings.live.domain,
        url_parameters=request.parameters(),
        ticket_secret=ticket_secret,
        ticket_setting=ticket_setting,
        now=request.received_at,
        grant=grant,
    )


def session_name(call_id: str) -> str:
    """Return a carrier's id of a call in the form of a session's name; empty where nothing is left of it."""
    return _NOT_IN_NAMES.sub("-", call_id).lstrip("-_")[:_LONGEST_NAME]
