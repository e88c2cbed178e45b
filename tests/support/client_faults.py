"""What the official client makes of an error answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

#: HTTP statuses of the modelled errors, as the service's Smithy model has them.
STATUS = {
    "AccessDeniedException": 403,
    "ConflictException": 409,
    "InternalServerException": 500,
    "ResourceNotFoundException": 404,
    "ServiceQuotaExceededException": 402,
    "ThrottlingException": 429,
    "ValidationException": 400,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A modelled error as the client shows it."""

    code: str
    message: str
    conflict_type: str | None
    resource_type: str | None


def refused(call: Callable[..., Any], **parameters: Any) -> Refused:
    """Make a call that must end in a modelled error, and look at what all errors have in common."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    response: dict[str, Any] = caught.value.response
    code = response["Error"]["Code"]
    # boto3 makes its own classes of the model's exceptions: code by that class would be caught.
    assert type(caught.value).__name__ == code
    assert response["ResponseMetadata"]["HTTPStatusCode"] == STATUS[code]
    assert response["Message"] == response["Error"]["Message"] != ""
    assert response["ResponseMetadata"]["RequestId"]
    return Refused(
        code=code,
        message=response["Message"],
        conflict_type=response.get("ConflictType"),
        resource_type=response.get("ResourceType"),
    )


def code_of(call: Callable[..., Any], **parameters: Any) -> str:
    """The code of the error that a call ends in, of the model or not; `OK` when it ends in none."""
    try:
        call(**parameters)
    except ClientError as fault:
        return str(fault.response["Error"]["Code"])
    return "OK"
