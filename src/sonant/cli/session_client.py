"""Calls about sessions of live calls, through the signed API, and their results as text."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import click

from sonant.cli.context import table
from sonant.cli.domain_client import DomainClient
from sonant.cli.service_client import service_errors

speaker_option = click.option(
    "--speaker", metavar="ID", help="The speaker that the caller claims to be, by customer's or generated id."
)


class SessionClient(DomainClient):
    """Clients of the service for the sessions of one domain."""

    def session_members(self, session_name: str) -> dict[str, str]:
        """Give the members of a request that name a session."""
        return {"DomainId": self.domain_id, "SessionNameOrId": session_name}

    def stream_members(self, session_name: str) -> dict[str, str]:
        """Give the parameter of a stream's URL that names the session's present stream.

        None for who may not describe the session: the URL then opens whichever stream waits, once.
        """
        try:
            described = self.own.describe_session(**self.session_members(session_name))
        except (self.own.exceptions.ResourceNotFoundException, self.own.exceptions.AccessDeniedException):
            return {}
        return {"StreamNumber": str(described["Session"]["StreamNumber"])}

    def waiting_session(self, name: str | None, speaker: str | None, contact_arn: str | None = None) -> str:
        """Find or start a session that waits for audio; returns its name. Raises SetupError.

        Without `name` a new session gets a random one.
        """
        given = {"SpeakerId": speaker, "ContactArn": contact_arn}
        members = {member: value for member, value in given.items() if value is not None}
        with service_errors():
            if name is not None and self._status(name) != "ENDED":
                if members:
                    self.own.update_session(**self.session_members(name), **members)
                return name
            name = name or new_session_name()
            self.own.start_session(DomainId=self.domain_id, SessionName=name, **members)
        return name

    def _status(self, name: str) -> str:
        try:
            described = self.own.describe_session(**self.session_members(name))
        except self.own.exceptions.ResourceNotFoundException:
            return "ENDED"
        return str(described["Session"]["StreamingStatus"])


def new_session_name() -> str:
    """Make a random name."""
    return f"session-{secrets.token_hex(8)}"


def session_text(response: Mapping[str, Any]) -> str:
    """Write a session's members as a table."""
    return table(_flat(response["Session"]), ("member", "value"))


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, member in value.items():
        if isinstance(member, Mapping):
            yield from _flat(member, f"{prefix}{name}.")
        elif isinstance(member, list):
            yield f"{prefix}{name}", ", ".join(map(str, member))
        else:
            yield f"{prefix}{name}", member.isoformat() if isinstance(member, datetime) else member


def sessions_text(summaries: list[dict[str, Any]]) -> str:
    """Write summaries of sessions as a table."""
    rows = [
        (
            one["SessionName"],
            one["StreamingStatus"],
            one["StreamNumber"],
            one.get("CustomerSpeakerId", "-"),
            f"{one['CreatedAt']:%Y-%m-%d %H:%M:%S}",
            one.get("StreamEndReason", "-"),
        )
        for one in summaries
    ]
    return table(rows, ("session", "stream", "no.", "speaker", "created", "ended"))


def evaluation_text(response: Mapping[str, Any]) -> str:
    """Write the results of an evaluation as a table."""
    rows: list[tuple[object, ...]] = [("stream", response["StreamingStatus"], "")]
    if "AuthenticationResult" in response:
        result = response["AuthenticationResult"]
        threshold = result["Configuration"]["AcceptanceThreshold"]
        rows.append(("authentication", result["Decision"], _score(result.get("Score"), threshold)))
    if "FraudDetectionResult" in response:
        result = response["FraudDetectionResult"]
        threshold, risks = result["Configuration"]["RiskThreshold"], result.get("RiskDetails", {})
        rows.append(("fraud", result["Decision"], ", ".join(result.get("Reasons", ()))))
        for name, member in (("fraudster", "KnownFraudsterRisk"), ("spoofing", "VoiceSpoofingRisk")):
            if member in risks:
                rows.append((f"  {name}", "", _score(risks[member]["RiskScore"], threshold)))
    return table(rows, ("about", "decision", "score"))


def _score(score: int | None, threshold: int) -> str:
    return "" if score is None else f"{score} (threshold {threshold})"
