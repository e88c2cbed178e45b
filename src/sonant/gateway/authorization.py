"""Authorization of API requests: their action, their resource, and the context for policy conditions."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from sonant.errors import AccessDenied
from sonant.gateway.models import Operation
from sonant.iam import Context
from sonant.operations.service import Caller, Service
from sonant.storage.repositories.access import Principal
from sonant.storage.repositories.domains import domain_arn

#: The member that hands a role to the service, for which the caller needs `iam:PassRole`.
_ROLE_MEMBER = "DataAccessRoleArn"


def authorize(
    operation: Operation,
    parameters: dict[str, Any],
    caller: Caller,
    service: Service,
    *,
    source_ip: str | None,
    secure: bool,
    now: datetime,
) -> Caller:
    """Require the rights for a request. Returns the caller with the request's context, for later checks.

    Raises AccessDenied, with the same message whether or not the domain exists.
    """
    arn = _resource(parameters, caller)
    authorized = caller
    if not caller.principal.evaluator.unconditional:  # else no policy reads the context
        authorized = replace(
            caller,
            context=_request_facts(
                caller.principal, caller.region, source_ip=source_ip, secure=secure, now=now
            ),
            operation_context=_operation_facts(parameters, caller, service, arn),
        )
    authorized.require(f"{operation.service}:{operation.name}", arn)
    if _ROLE_MEMBER in parameters:
        authorized.require("iam:PassRole", parameters[_ROLE_MEMBER])
        # A role grants buckets and keys of its own account, which no policy of another account can grant.
        if parameters[_ROLE_MEMBER].split(":")[4] != caller.account_id:
            raise AccessDenied("Cross-account pass role is not allowed.")
    return authorized


def _operation_facts(parameters: dict[str, Any], caller: Caller, service: Service, arn: str) -> Context:
    facts = dict(_request_tags(parameters))
    if arn != "*":
        # A function, for conditions on it only: it reads and decrypts the domain.
        facts["aws:ResourceTag/"] = lambda: service.tags_of(caller, arn.rpartition("/")[2])
    return facts


def _request_facts(
    principal: Principal, region: str, *, source_ip: str | None, secure: bool, now: datetime
) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "aws:SourceIp": source_ip,
        "aws:SecureTransport": secure,
        "aws:CurrentTime": now,
        "aws:EpochTime": now,
        "aws:RequestedRegion": region,
        "aws:PrincipalArn": principal.arn,
        "aws:PrincipalAccount": principal.account_id,
        "aws:PrincipalTag/": principal.tags,
    }
    if ":user/" in principal.arn:
        facts["aws:username"] = principal.name
    return facts


def _request_tags(parameters: dict[str, Any]) -> Context:
    """Tags that a request sets (CreateDomain, TagResource) or names (UntagResource)."""
    if "Tags" in parameters:
        tags = {member["Key"]: member["Value"] for member in parameters["Tags"]}
        return {"aws:RequestTag/": tags, "aws:TagKeys": list(tags)}
    if "TagKeys" in parameters:
        return {"aws:TagKeys": list(parameters["TagKeys"])}
    return {}


def _resource(parameters: dict[str, Any], caller: Caller) -> str:
    """The domain's ARN; `*` for requests without a domain (CreateDomain, ListDomains, consent)."""
    if "ResourceArn" in parameters:
        return str(parameters["ResourceArn"])
    if "DomainId" in parameters:
        return domain_arn(caller.region, caller.account_id, parameters["DomainId"])
    return "*"
