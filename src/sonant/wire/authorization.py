"""May this caller do this? The action and the ARN of a call, and the policies that decide."""

from __future__ import annotations

from typing import Any

from sonant.operations.service import Caller
from sonant.store.domains import domain_arn
from sonant.wire.models import Operation

#: Operations that hand a role to the service: the caller needs the right to pass it.
_ROLE_MEMBER = "DataAccessRoleArn"


def authorize(operation: Operation, parameters: dict[str, Any], caller: Caller, region: str) -> None:
    """Raises AccessDenied. Says the same for a domain that does not exist and for one that is not allowed."""
    caller.require(f"{operation.service}:{operation.name}", _resource(parameters, caller, region))
    if _ROLE_MEMBER in parameters:
        caller.require("iam:PassRole", parameters[_ROLE_MEMBER])


def _resource(parameters: dict[str, Any], caller: Caller, region: str) -> str:
    """The domain's ARN; `*` for calls that name none (CreateDomain, ListDomains)."""
    if "ResourceArn" in parameters:
        return str(parameters["ResourceArn"])
    if "DomainId" in parameters:
        return domain_arn(region, caller.account_id, parameters["DomainId"])
    return "*"
