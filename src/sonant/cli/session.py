"""`sonant session …`: what can be done with sessions, through the signed API."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from typing import Any

import click

from sonant.cli.common import client, table
from sonant.errors import SetupError
from sonant.settings import Settings

#: Exit code of `evaluate` for a caller who is not accepted, or of high risk, or not yet known.
NOT_ACCEPTED = 3


class Desk:
    """The service as the commands see it."""

    def __init__(self, settings: Settings, domain_id: str | None, *, as_json: bool) -> None:
        self.settings, self.as_json = settings, as_json
        self._domain_id = domain_id

    @cached_property
    def own(self) -> Any:
        """A client of our own operations."""
        return client(self.settings, "sonant")

    @cached_property
    def voice_id(self) -> Any:
        return client(self.settings)

    @cached_property
    def domain_id(self) -> str:
        """Raises SetupError when there is not just one."""
        if self._domain_id is not None:
            return self._domain_id
        with told():
            found = [
                str(domain["DomainId"])
                for page in self.voice_id.get_paginator("list_domains").paginate()
                for domain in page["DomainSummaries"]
                if domain["DomainStatus"] == "ACTIVE"
            ]
        if len(found) != 1:
            raise SetupError(f"there are {len(found)} domains: choose one with --domain")
        return found[0]

    def of(self, session_name: str) -> dict[str, str]:
        """The members that name a session."""
        return {"DomainId": self.domain_id, "SessionNameOrId": session_name}

    def show(self, answer: Mapping[str, Any], text: Callable[[Mapping[str, Any]], str]) -> None:
        if self.as_json:
            told = {name: value for name, value in answer.items() if name != "ResponseMetadata"}
            click.echo(json.dumps(told, indent=2, default=_plain))
        else:
            click.echo(text(answer))


@contextmanager
def told() -> Iterator[None]:
    """What the service refuses, as one sentence. Raises SetupError."""
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, ParamValidationError
    from botocore.exceptions import ConnectionError as NoConnection

    try:
        yield
    except ClientError as fault:
        raise SetupError(str(fault)) from None
    except ParamValidationError as fault:
        raise SetupError(" ".join(str(fault).split())) from None
    except (HTTPClientError, NoConnection) as fault:
        raise SetupError(f"{fault}; is `sonant serve` running?") from None
    except BotoCoreError as fault:
        raise SetupError(str(fault)) from None


def start(
    desk: Desk,
    session_name: str | None,
    *,
    no_authentication: bool = False,
    no_fraud_detection: bool = False,
    speech: int | None = None,
    **setup: Any,
) -> None:
    members: dict[str, Any] = {
        "DomainId": desk.domain_id,
        "SessionName": session_name or new_name(),
        **_members(**setup),
    }
    if speech is not None:
        members["StreamingConfiguration"] = {"AuthenticationMinimumSpeechInSeconds": speech}
    if no_authentication:
        members["IsVoiceAuthenticationEnabled"] = False
    if no_fraud_detection:
        members["IsFraudDetectionEnabled"] = False
    with told():
        answer = desk.own.start_session(**members)
    desk.show(answer, _session_text)


def update(desk: Desk, session_name: str, **setup: Any) -> None:
    with told():
        answer = desk.own.update_session(**desk.of(session_name), **_members(**setup))
    desk.show(answer, _session_text)


def show_all(desk: Desk, status: str | None) -> None:
    only = {} if status is None else {"StreamingStatus": status}
    with told():
        pages = desk.own.get_paginator("list_sessions").paginate(DomainId=desk.domain_id, **only)
        found = [summary for page in pages for summary in page["SessionSummaries"]]
    desk.show({"SessionSummaries": found}, lambda _answer: _list_text(found))


def _describe(desk: Desk, session_name: str) -> int:
    with told():
        answer = desk.own.describe_session(**desk.of(session_name))
    desk.show(answer, _session_text)
    return 0


def _enroll(desk: Desk, session_name: str) -> int:
    with told():
        answer = desk.own.enroll_by_session(**desk.of(session_name))
    desk.show(answer, lambda told: str(told["Status"]))
    return 0


def _end(desk: Desk, session_name: str) -> int:
    with told():
        answer = desk.own.end_stream(**desk.of(session_name))
    desk.show(answer, _session_text)
    return 0


def _evaluate(desk: Desk, session_name: str) -> int:
    with told():
        answer = desk.voice_id.evaluate_session(**desk.of(session_name))
    desk.show(answer, evaluation_text)
    return 0 if _accepted(answer) else NOT_ACCEPTED


SHOWING: Mapping[str, Callable[[Desk, str], int]] = {
    "describe": _describe,
    "enroll": _enroll,
    "evaluate": _evaluate,
    "end": _end,
}


def new_name() -> str:
    return f"session-{secrets.token_hex(8)}"


def _members(
    speaker: str | None = None,
    acceptance_threshold: int | None = None,
    risk_threshold: int | None = None,
    watchlist: str | None = None,
    contact_arn: str | None = None,
) -> dict[str, Any]:
    members: dict[str, Any] = {}
    if speaker is not None:
        members["SpeakerId"] = speaker
    if contact_arn is not None:
        members["ContactArn"] = contact_arn
    if acceptance_threshold is not None:
        members["AuthenticationConfiguration"] = {"AcceptanceThreshold": acceptance_threshold}
    fraud = {"RiskThreshold": risk_threshold, "WatchlistId": watchlist}
    if given := {name: value for name, value in fraud.items() if value is not None}:
        members["FraudDetectionConfiguration"] = given
    return members


def _accepted(answer: Mapping[str, Any]) -> bool:
    """Everything that was asked for has turned out well."""
    decisions = [
        answer[name]["Decision"]
        for name in ("AuthenticationResult", "FraudDetectionResult")
        if name in answer
    ]
    return bool(decisions) and all(decision in ("ACCEPT", "LOW_RISK") for decision in decisions)


def _session_text(answer: Mapping[str, Any]) -> str:
    return _lines(answer["Session"])


def _lines(value: Mapping[str, Any]) -> str:
    return table([(name, text) for name, text in _flat(value)], ("member", "value"))


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, member in value.items():
        if isinstance(member, Mapping):
            yield from _flat(member, f"{prefix}{name}.")
        elif isinstance(member, list):
            yield f"{prefix}{name}", ", ".join(map(str, member))
        else:
            yield f"{prefix}{name}", _plain(member) if isinstance(member, datetime) else member


def _list_text(found: list[dict[str, Any]]) -> str:
    rows = [
        (
            one["SessionName"],
            one["StreamingStatus"],
            one["StreamNumber"],
            one.get("CustomerSpeakerId", "-"),
            f"{one['CreatedAt']:%Y-%m-%d %H:%M:%S}",
            one.get("StreamEndReason", "-"),
        )
        for one in found
    ]
    return table(rows, ("session", "stream", "no.", "speaker", "created", "ended"))


def evaluation_text(answer: Mapping[str, Any]) -> str:
    rows: list[tuple[object, ...]] = [("stream", answer["StreamingStatus"], "")]
    if "AuthenticationResult" in answer:
        result = answer["AuthenticationResult"]
        threshold = result["Configuration"]["AcceptanceThreshold"]
        rows.append(("authentication", result["Decision"], _score(result.get("Score"), threshold)))
    if "FraudDetectionResult" in answer:
        result = answer["FraudDetectionResult"]
        threshold, risks = result["Configuration"]["RiskThreshold"], result.get("RiskDetails", {})
        rows.append(("fraud", result["Decision"], ", ".join(result.get("Reasons", ()))))
        for name, member in (("fraudster", "KnownFraudsterRisk"), ("spoofing", "VoiceSpoofingRisk")):
            if member in risks:
                rows.append((f"  {name}", "", _score(risks[member]["RiskScore"], threshold)))
    return table(rows, ("about", "decision", "score"))


def _score(score: int | None, threshold: int) -> str:
    return "" if score is None else f"{score} (threshold {threshold})"


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
