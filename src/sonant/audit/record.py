"""Records of the audit trail: caller, operation, resource and outcome of a call, in CloudTrail's format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from sonant.errors import InternalServer, ModelledError, WireError
from sonant.ids import new_uuid
from sonant.storage.repositories.domains import domain_arn

_USER_AGENT_CHARACTERS = 256
_KEY_CHARACTERS = 128
_MESSAGE_CHARACTERS = 1024

#: CloudTrail's identity types by the kind of a principal in its ARN; all others are assumed roles.
_IDENTITY_TYPES = {"user": "IAMUser", "root": "Root", "carrier": "AWSService"}

Redact = Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedOperation:
    """An operation with the functions that redact its requests and responses."""

    name: str
    read_only: bool
    request: Redact
    response: Redact


@dataclass(slots=True)
class Record:
    """The facts of a call. It only holds references: the writer's thread makes the document of it."""

    operation: AuditedOperation
    time: datetime
    request_id: str
    source_ip: str
    headers: Sequence[tuple[bytes, bytes]]
    principal_arn: str | None
    """None when the caller could not be authenticated."""
    account_id: str | None
    access_key_id: str
    """As in the request."""
    parameters: Mapping[str, Any]
    response: Mapping[str, Any] | None
    error: WireError | None
    suppressed: int = 0
    """Unrecorded calls before this one that failed authentication."""
    unchanged: bool = False
    """Whether the call changed nothing, although its operation may."""
    region: str | None = None
    """The Region that the call was signed for; None for an unknown caller."""
    polled: bool = False
    """Whether an open page repeats the call by itself: repetitions are summed."""
    details: Mapping[str, str] = field(default_factory=dict)
    """Further facts: carrier and reason of a refused connection, whom a provider has authenticated."""
    summed: tuple[int, datetime] | None = None
    """Of a sum of repeated calls: their number, and the time of the first; `time` is that of the last."""

    @property
    def changes(self) -> bool:
        """Whether the call may have changed something."""
        return not self.operation.read_only and not self.unchanged


def document(record: Record, region: str) -> dict[str, Any]:
    """Return the members of a record, without those of the chain. `region`: for calls signed for none."""
    operation, error, region = record.operation, record.error, record.region or region
    members: dict[str, Any] = {
        "eventVersion": "1.08",
        "userIdentity": _identity(
            record.principal_arn, record.account_id, record.access_key_id[:_KEY_CHARACTERS]
        ),
        "eventTime": _second(record.time.replace(microsecond=0)),
        "eventSource": "voiceid.amazonaws.com",
        "eventName": operation.name,
        "awsRegion": region,
        "sourceIPAddress": record.source_ip,
        "userAgent": _user_agent(record.headers),
    }
    if error is not None:
        members["errorCode"] = error.code
        # Messages of other errors repeat parts of an unverified request, or are empty.
        if isinstance(error, ModelledError) and not isinstance(error, InternalServer) and error.message:
            members["errorMessage"] = error.message[:_MESSAGE_CHARACTERS]
    known = record.principal_arn is not None
    members["requestParameters"] = (
        operation.request(record.parameters) if known and record.parameters else None
    )
    changed = error is None and not operation.read_only and record.response is not None
    members["responseElements"] = operation.response(record.response or {}) if changed else None
    members |= {
        "requestID": record.request_id,
        "eventID": new_uuid(),
        "readOnly": operation.read_only,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "eventCategory": "Management",
    }
    if known:
        members["recipientAccountId"] = record.account_id
        resource = _resource(record, region)
        if resource is not None:
            members["resources"] = [{"ARN": resource, "accountId": record.account_id}]
    if further := _additional(record):
        members["additionalEventData"] = further
    return members


def _additional(record: Record) -> dict[str, Any]:
    further: dict[str, Any] = dict(record.details)
    if record.suppressed:
        further["unsignedCallsNotRecorded"] = record.suppressed
    if record.summed is not None:
        calls, first = record.summed
        further |= {"summedCalls": calls, "firstEventTime": _second(first.replace(microsecond=0))}
    return further


@lru_cache(maxsize=16)
def _second(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


def _user_agent(headers: Sequence[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name == b"user-agent":
            return value[:_USER_AGENT_CHARACTERS].decode("latin-1")
    return ""


def _resource(record: Record, region: str) -> str | None:
    if "ResourceArn" in record.parameters:
        return str(record.parameters["ResourceArn"])
    if "DomainId" in record.parameters:
        return domain_arn(region, record.account_id or "", record.parameters["DomainId"])
    return None


@lru_cache(maxsize=256)
def _identity(arn: str | None, account_id: str | None, key_id: str) -> dict[str, Any]:
    if arn is None:
        return {"type": "Unknown", "accessKeyId": key_id}
    kind, _, name = arn.rpartition(":")[2].partition("/")
    return {
        "type": _IDENTITY_TYPES.get(kind, "AssumedRole"),
        "arn": arn,
        "accountId": account_id,
        "accessKeyId": key_id,
        "userName": name,
    }
