"""RegisterComplianceConsent and DescribeComplianceConsent: an account's consent on biometric data."""

from __future__ import annotations

from sonant.errors import ResourceNotFound
from sonant.operations.registry import operation
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.storage.repositories import callers


@operation
def register_compliance_consent(service: Service, caller: Caller, _request: Request) -> Answer:
    """Accept the biometric privacy notice for the account; a repeated call changes nothing."""
    with service.database.write() as connection:
        callers.accept_consent(connection, caller.account_id, caller.principal.arn, service.clock())
        return {"AcceptedAt": callers.consent_accepted_at(connection, caller.account_id)}


@operation
def describe_compliance_consent(service: Service, caller: Caller, _request: Request) -> Answer:
    """Show when it was accepted. Raises ResourceNotFound COMPLIANCE_CONSENT when it was not."""
    with service.database.read() as connection:
        accepted_at = callers.consent_accepted_at(connection, caller.account_id)
    if accepted_at is None:
        raise ResourceNotFound(
            "COMPLIANCE_CONSENT", "The account has not accepted the biometric privacy notice."
        )
    return {"AcceptedAt": accepted_at}
