"""Sonant's own DescribeActivity: what was decided about calls in the last hours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sonant.operations.registry import ExecutorKind, operation
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.storage.repositories import session_samples, sessions
from sonant.storage.repositories.session_samples import AUTHENTICATION, FRAUD, DecisionCount

DEFAULT_HOURS = 24
_HOUR = timedelta(hours=1)


@operation(executor=ExecutorKind.LONG)
def describe_activity(service: Service, caller: Caller, request: Request) -> Answer:
    """Count decisions by hour; a call counts with its latest ones, and as long as its session is kept."""
    now = service.clock()
    last = int(now.timestamp() // _HOUR.total_seconds())
    first = last + 1 - request.get("Hours", DEFAULT_HOURS)
    with service.open_domain(caller, request["DomainId"], write=False) as (connection, domain, _vault):
        active = sessions.count_active(connection, domain.domain_id, now)
        found = session_samples.decisions_by_hour(connection, domain.domain_id, _begin_of(first))
    by_hour: dict[int, list[DecisionCount]] = {}
    for one in found:
        by_hour.setdefault(one.hour, []).append(one)
    hours = [_hour(number, by_hour.get(number, ())) for number in range(first, last + 1)]
    return {"ActiveSessions": active, "Hours": hours}


def _hour(number: int, counts: Iterable[DecisionCount]) -> dict[str, Any]:
    decisions = {AUTHENTICATION: Counter[str](), FRAUD: Counter[str]()}
    reasons = Counter[str]()
    for one in counts:
        decisions[one.purpose][one.decision] += one.calls
        for reason in one.reasons:
            reasons[reason] += one.calls
    return {
        "StartedAt": _begin_of(number),
        "AuthenticationDecisions": _members(decisions[AUTHENTICATION]),
        "FraudDetectionDecisions": _members(decisions[FRAUD]),
        "FraudDetectionReasons": _members(reasons),
    }


def _members(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    return [{"Name": name, "Calls": calls} for name, calls in sorted(counts.items())]


def _begin_of(hour: int) -> datetime:
    return datetime.fromtimestamp(hour * _HOUR.total_seconds(), UTC)
