"""CreateDomain, DescribeDomain, ListDomains, UpdateDomain, DeleteDomain, and our own RestoreDomain."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from sonant.errors import (
    AccessDenied,
    Conflict,
    KeyError_,
    KeyNotFound,
    ResourceNotFound,
    SealBroken,
    Validation,
    require_room,
)
from sonant.ids import new_id
from sonant.operations.erasure import record_domain
from sonant.operations.idempotency import client_token
from sonant.operations.paging import paged
from sonant.operations.registry import operation
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.operations.tags import checked_tags, require_unchanged
from sonant.retention.rules import SUSPENDED_DOMAIN
from sonant.storage.crypto.vault import Vault, create_vault
from sonant.storage.database.postgres import advisory_lock
from sonant.storage.keys.store import KeyInfo
from sonant.storage.opening import vault_of
from sonant.storage.repositories import callers, domains
from sonant.voice.models.packaged import domain_model_id

#: The model's own range for ListDomains; its text says 100.
DOMAINS_PAGE = 10


@operation
def create_domain(service: Service, caller: Caller, request: Request) -> Answer:
    """Create a domain and its default watchlist. It is active at once."""
    settings = service.settings
    tags = checked_tags(request.get("Tags", []))
    if len(tags) > settings.quotas.tags_per_domain:
        raise Validation(f"A resource holds at most {settings.quotas.tags_per_domain} tags")
    if tags:
        caller.require("voiceid:TagResource", "*")
    _require_consent(service, caller)
    domain_id = new_id()
    arn = domains.domain_arn(caller.region, caller.account_id, domain_id)
    key = _usable_key(service, caller, request["ServerSideEncryptionConfiguration"]["KmsKeyId"], arn)
    with service.database.write() as connection:
        advisory_lock(connection, "domains", caller.account_id)
        token = client_token(service, connection, caller, "CreateDomain", request)
        if token.found is not None:
            domain = service.require_domain(connection, caller, token.found)
            return {"Domain": domain_member(domain, service.open_vault(caller, domain))}
        _require_room(service, connection, caller)
        keys = service.keys_of(caller.account_id, caller.region)
        vault, wrapped = create_vault(keys, key.arn, domain_id, arn)
        domains.create(
            connection,
            vault,
            domain_id=domain_id,
            account_id=caller.account_id,
            region=caller.region,
            name=request["Name"],
            description=request.get("Description"),
            tags=tags,
            kms_key_arn=key.arn,
            data_key_wrapped=wrapped,
            watchlist_id=new_id(),
            now=service.clock(),
            model_id=domain_model_id(service.settings.encoder),
        )
        token.keep(service, connection, domain_id)
        domain = service.require_domain(connection, caller, domain_id)
        return {"Domain": domain_member(domain, vault)}


@operation
def describe_domain(service: Service, caller: Caller, request: Request) -> Answer:
    """Describe a domain, also a suspended one."""
    with service.database.read() as connection:
        domain = service.require_domain(connection, caller, request["DomainId"])
    return {"Domain": domain_member(domain, service.open_vault(caller, domain))}


@operation
def list_domains(service: Service, caller: Caller, request: Request) -> Answer:
    """List domains, also suspended ones, oldest first.

    A domain whose key the caller may not or cannot use has no name and description in the list: one lost key
    must not hide the others.
    """
    region = caller.region
    with service.database.read() as connection:
        items, next_token = paged(
            service,
            request,
            ("ListDomains", caller.account_id, region),
            lambda after, limit: domains.page(connection, caller.account_id, region, after, limit),
            lambda domain: (domain.created_at, domain.domain_id),
            default=DOMAINS_PAGE,
        )
    return {
        "DomainSummaries": [domain_member(domain, _try_vault(service, caller, domain)) for domain in items],
        "NextToken": next_token,
    }


@operation
def update_domain(service: Service, caller: Caller, request: Request) -> Answer:
    """Set name and description (absent: removed); another key starts a key change.

    The key is used outside of the transaction, so that a change made meanwhile is a Conflict
    CONCURRENT_CHANGES. After a failed key change, the same call with the same key retries it.
    """
    with service.database.read() as connection:
        domain = service.require_domain(connection, caller, request["DomainId"])
    if not domain.active:
        raise Conflict("DOMAIN_NOT_ACTIVE")
    vault = service.open_vault(caller, domain)
    key = _usable_key(service, caller, request["ServerSideEncryptionConfiguration"]["KmsKeyId"], domain.arn)
    changes_key = key.arn != domain.kms_key_arn
    if changes_key and domain.update_status == "IN_PROGRESS":
        raise Conflict("DOMAIN_LOCKED_FROM_ENCRYPTION_UPDATES")
    begins = changes_key or domain.update_status == "FAILED"
    with service.database.write() as connection:
        changed = domains.change(
            connection,
            vault,
            domain,
            name=request["Name"],
            description=request.get("Description"),
            new_key_arn=key.arn if begins else None,
            old_key_arn=service.keys_of(domain.account_id, domain.region).key_of(domain.data_key_wrapped),
            now=service.clock(),
        )
        require_unchanged(changed)
        return {"Domain": domain_member(service.require_domain(connection, caller, domain.domain_id), vault)}


@operation
def delete_domain(service: Service, caller: Caller, request: Request) -> None:
    """Suspend a domain: it can be restored for 30 days, then it is erased. Repeating changes nothing."""
    with (
        service.ledger_transaction() as ledger,
        service.database.write() as connection,
        ledger.before_commit(),
    ):
        domain = service.require_domain(connection, caller, request["DomainId"], lock=True)
        caller.require("kms:Decrypt", domain.kms_key_arn, domain_arn=domain.arn)
        if domain.active:
            require_unchanged(domains.suspend(connection, domain, service.clock()))
            record_domain(service, ledger, "DELETE_DOMAIN", domain)
    service.fraud_indexes.forget_domain(domain.domain_id)


@operation
def restore_domain(service: Service, caller: Caller, request: Request) -> Answer:
    """Restore a suspended domain within its 30 days. An active one stays as it is.

    Raises ResourceNotFound DOMAIN after 30 days, even if its data is not erased yet.
    """
    with (
        service.ledger_transaction() as ledger,
        service.database.write() as connection,
        ledger.before_commit(),
    ):
        advisory_lock(connection, "domains", caller.account_id)
        domain = service.require_domain(connection, caller, request["DomainId"], lock=True)
        erasable = SUSPENDED_DOMAIN.cutoff(service.clock(), service.settings)
        if erasable is not None and domain.suspended_by(erasable):
            raise ResourceNotFound("DOMAIN")
        vault = service.open_vault(caller, domain)
        if not domain.active:
            _require_room(service, connection, caller)
            require_unchanged(domains.restore(connection, domain, service.clock()))
            record_domain(service, ledger, "RESTORE_DOMAIN", domain)
        return {"Domain": domain_member(service.require_domain(connection, caller, domain.domain_id), vault)}


def domain_member(domain: domains.Domain, vault: Vault | None) -> dict[str, Any]:
    name, description = (None, None) if vault is None else domain.texts(vault)
    return {
        "Arn": domain.arn,
        "CreatedAt": domain.created_at,
        "Description": description,
        "DomainId": domain.domain_id,
        "DomainStatus": domain.status,
        "Name": name,
        "ServerSideEncryptionConfiguration": {"KmsKeyId": domain.kms_key_arn},
        "ServerSideEncryptionUpdateDetails": None
        if domain.update_status is None
        else {
            "Message": domain.update_message,
            "OldKmsKeyId": domain.update_old_key_arn,
            "UpdateStatus": domain.update_status,
        },
        "UpdatedAt": domain.updated_at,
        "WatchlistDetails": {"DefaultWatchlistId": domain.default_watchlist_id},
    }


def _require_room(service: Service, connection: Connection, caller: Caller) -> None:
    present = domains.count_active(connection, caller.account_id, caller.region)
    require_room("domains_per_account", present, service.settings.quotas.domains_per_account)


def _require_consent(service: Service, caller: Caller) -> None:
    if service.settings.biometric_consent:
        return
    with service.database.read() as connection:
        accepted_at = callers.consent_accepted_at(connection, caller.account_id)
    if accepted_at is None:
        raise ResourceNotFound(
            "COMPLIANCE_CONSENT",
            "The account has not accepted the biometric privacy notice; call RegisterComplianceConsent.",
        )


def _try_vault(service: Service, caller: Caller, domain: domains.Domain) -> Vault | None:
    if not caller.may("kms:Decrypt", domain.kms_key_arn, domain_arn=domain.arn):
        return None
    try:
        return vault_of(service.keys_of, domain)
    except SealBroken:
        raise
    except KeyError_:
        return None


def _usable_key(service: Service, caller: Caller, ref: str, domain_arn: str) -> KeyInfo:
    try:
        key = service.keys_of(caller.account_id, caller.region).describe(ref)
    except KeyNotFound:
        raise Validation(
            "ServerSideEncryptionConfiguration.KmsKeyId does not name a key in this account and Region"
        ) from None
    for action in ("kms:DescribeKey", "kms:CreateGrant", "kms:Decrypt"):
        caller.require(action, key.arn, domain_arn=domain_arn)
    if not key.symmetric:
        raise Validation("ServerSideEncryptionConfiguration.KmsKeyId must name a symmetric key")
    if key.state != "Enabled":
        raise AccessDenied(f"The KMS key {key.arn} is {key.state} and cannot be used.")
    return key
