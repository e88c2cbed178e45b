"""Sonant's own ListAuditRecords and DescribeAuditTrail: search the audit trail, check that it is whole."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from sonant.audit import search
from sonant.audit.verification import ChainReport
from sonant.operations.installation import require_owner
from sonant.operations.paging import paged
from sonant.operations.registry import ExecutorKind, operation
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.storage.times import from_us

#: Faults of a chain that are listed.
MOST_FAULTS = 100


@operation(executor=ExecutorKind.LONG)
def list_audit_records(service: Service, caller: Caller, request: Request) -> Answer:
    """Search the records of the caller's account on this host, newest first.

    Callers who could not be identified belong to no account: the installation's first account sees them.
    """
    wanted = search.Search(
        account_id=caller.account_id,
        unknown_callers=caller.account_id == service.settings.account,
        since=request.get("StartedAfter"),
        until=request.get("StartedBefore"),
        operation=request.get("Operation", ""),
        principal=request.get("Principal", ""),
        resource=request.get("Resource", ""),
        failed=request.get("OnlyFailed", False),
    )
    trail = service.settings.data / "audit"

    def page(after: tuple[int, str] | None, limit: int) -> list[dict[str, Any]]:
        before = None if after is None else (f"{from_us(after[0]):%Y-%m-%dT%H:%M:%SZ}", after[1])
        return search.newest(trail, wanted, before, limit)

    items, next_token = paged(
        service,
        request,
        ("ListAuditRecords", caller.account_id, repr(wanted)),
        page,
        lambda record: (datetime.fromisoformat(record["eventTime"]), record["eventID"]),
    )
    return {"Records": [_member(record) for record in items], "NextToken": next_token}


def _member(record: dict[str, Any]) -> dict[str, Any]:
    identity = record["userIdentity"]
    resources = record.get("resources") or [{}]
    return {
        "EventId": record["eventID"],
        "Time": datetime.fromisoformat(record["eventTime"]),
        "Operation": record["eventName"],
        "PrincipalArn": identity.get("arn"),
        "AccessKeyId": identity.get("accessKeyId") or None,
        "SourceIpAddress": record.get("sourceIPAddress") or None,
        "ErrorCode": record.get("errorCode"),
        "ResourceArn": resources[0].get("ARN"),
        "Calls": record.get("additionalEventData", {}).get("summedCalls", 1),
        "Record": json.dumps(record),
    }


@operation(executor=ExecutorKind.LONG)
def describe_audit_trail(service: Service, caller: Caller, request: Request) -> Answer:
    """Check every line of every chain of this host, as `sonant audit verify` does without kept keys."""
    require_owner(service, caller, "the audit trail")
    reports = service.check_trail()
    return {
        "Whole": bool(reports) and not any(report.faults for report in reports),
        "Chains": [_chain(report) for report in reports],
    }


def _chain(report: ChainReport) -> dict[str, Any]:
    return {
        "Name": report.name,
        "Files": report.files,
        "Lines": report.lines,
        "SealedLines": report.sealed,
        "Head": report.head,
        "Faults": [
            {
                "Reason": fault.reason.value,
                "Message": fault.message,
                "File": fault.file or None,
                "Line": fault.line or None,
            }
            for fault in report.faults[:MOST_FAULTS]
        ],
    }
