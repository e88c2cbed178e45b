"""One line of the audit trail: who called what, on what, and how it ended, in CloudTrail's layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sonant.errors import InternalServer, ModelledError, WireError
from sonant.ids import new_uuid
from sonant.storage.repositories.domains import domain_arn

_USER_AGENT_CHARACTERS = 256
_KEY_CHARACTERS = 128
_MESSAGE_CHARACTERS = 1024

#: CloudTrail's words for the kinds of principals in ARNs; all others act under a role.
_IDENTITY_TYPES = {"user": "IAMUser", "root": "Root", "carrier": "AWSService"}

View = Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """An operation as the trail sees it; `request` and `answer` mask what is sensitive."""

    name: str
    read_only: bool
    request: View
    answer: View


@dataclass(slots=True)
class Record:
    """What is known of a call. Built on the call's way out, so it only holds references; the writer's thread
    makes the document of it."""

    operation: Audited
    time: datetime
    request_id: str
    source_ip: str
    headers: Sequence[tuple[bytes, bytes]]
    principal_arn: str | None
    """None when the caller is not who it claims to be, or it was never found out."""
    account_id: str | None
    access_key_id: str
    """As claimed."""
    parameters: Mapping[str, Any]
    answer: Mapping[str, Any] | None
    error: WireError | None
    suppressed: int = 0
    """Calls that failed authentication before this one and were not recorded."""
    unchanged: bool = False
    """It changed nothing, although its operation may."""
    region: str | None = None
    """That the call was signed for; None where the caller is unknown."""

    @property
    def changes(self) -> bool:
        return not self.operation.read_only and not self.unchanged


def document(record: Record, region: str) -> dict[str, Any]:
    """The line's members, without the chain's. `region` is that of calls that were signed for none."""
    operation, error, region = record.operation, record.error, record.region or region
    told: dict[str, Any] = {
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
        told["errorCode"] = error.code
        # Front-door messages repeat parts of the request, which nobody has vouched for; inner ones are empty.
        if isinstance(error, ModelledError) and not isinstance(error, InternalServer) and error.message:
            told["errorMessage"] = error.message[:_MESSAGE_CHARACTERS]
    known = record.principal_arn is not None
    told["requestParameters"] = operation.request(record.parameters) if known and record.parameters else None
    changed = error is None and not operation.read_only and record.answer is not None
    told["responseElements"] = operation.answer(record.answer or {}) if changed else None
    told |= {
        "requestID": record.request_id,
        "eventID": new_uuid(),
        "readOnly": operation.read_only,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "eventCategory": "Management",
    }
    if known:
        told["recipientAccountId"] = record.account_id
        resource = _resource(record, region)
        if resource is not None:
            told["resources"] = [{"ARN": resource, "accountId": record.account_id}]
    if record.suppressed:
        told["additionalEventData"] = {"unsignedCallsNotRecorded": record.suppressed}
    return told


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
