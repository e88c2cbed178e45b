"""RegisterComplianceConsent and DescribeComplianceConsent: the account's word on biometric data."""

from __future__ import annotations

from sonant.errors import ResourceNotFound
from sonant.operations.registry import operation
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.storage.repositories import consents


@operation
def register_compliance_consent(service: Service, caller: Caller, _request: Request) -> Answer:
    """Accept the biometric privacy notice for the account, once; the first acceptance stands."""
    with service.database.write() as connection:
        consents.accept(connection, caller.account_id, caller.principal.arn, service.clock())
        return {"AcceptedAt": consents.accepted_at(connection, caller.account_id)}


@operation
def describe_compliance_consent(service: Service, caller: Caller, _request: Request) -> Answer:
    """When it was accepted; raises ResourceNotFound COMPLIANCE_CONSENT when it was not."""
    with service.database.read() as connection:
        accepted_at = consents.accepted_at(connection, caller.account_id)
    if accepted_at is None:
        raise ResourceNotFound(
            "COMPLIANCE_CONSENT", "The account has not accepted the biometric privacy notice."
        )
    return {"AcceptedAt": accepted_at}
