"""Sonant's own PutConsent, DescribeConsent, ListConsents and WithdrawConsent: what a speaker has agreed to;
PutPrivacyRules and DescribePrivacyRules: what a domain requires.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from sonant.errors import Conflict, ResourceNotFound, Validation
from sonant.events.documents import speaker_event
from sonant.ids import new_id
from sonant.operations.erasure import OPTED_OUT_MEANWHILE, Erasing, finish
from sonant.operations.idempotency import note_use
from sonant.operations.paging import paged
from sonant.operations.registry import operation
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.operations.speakers import opt_out_one, require_speaker
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import consents, domains, speakers
from sonant.storage.repositories.consents import Consent
from sonant.storage.repositories.domains import Domain

#: Members of a consent that are sealed together.
_TERMS = ("TextHash", "TextVersion", "Purpose", "Channel", "Evidence")


@operation
def put_consent(service: Service, caller: Caller, request: Request) -> Answer:
    """Record a consent. Raises Conflict for a speaker who has opted out, Validation for times that cannot
    be."""
    now = service.clock()
    given_at, expires_at = request.get("GivenAt", now), request.get("ExpiresAt")
    if given_at > now:
        raise Validation("GivenAt is in the future")
    if given_at.timestamp() < 0:
        raise Validation("GivenAt is before 1970")
    if expires_at is not None and expires_at <= given_at:
        raise Validation("ExpiresAt must be after GivenAt")
    with service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault):
        customer_id_hash = _hash_of(connection, vault, domain, request["SpeakerId"])
        standing = speakers.find_status(connection, domain.domain_id, customer_id_hash)
        if standing is not None and standing.status == "OPTED_OUT":
            raise Conflict("SPEAKER_OPTED_OUT")
        consent_id = new_id()
        terms = {name: request[name] for name in _TERMS if name in request}
        consents.add(
            connection,
            vault,
            consent_id=consent_id,
            domain_id=domain.domain_id,
            customer_id_hash=customer_id_hash,
            terms={**terms, "RecordedBy": caller.principal.arn},
            given_at=given_at,
            expires_at=expires_at,
            now=now,
        )
        newest = consents.page(connection, domain.domain_id, customer_id_hash, None, 1)
        return {"Consent": _member(service, vault, newest[0])}


@operation
def describe_consent(service: Service, caller: Caller, request: Request) -> Answer:
    """Show the newest valid consent, else the newest. Raises ResourceNotFound CONSENT without any."""
    with service.open_domain(caller, request["DomainId"], write=False) as (connection, domain, vault):
        customer_id_hash = _hash_of(connection, vault, domain, request["SpeakerId"])
        wanted = (connection, domain.domain_id, customer_id_hash)
        found = consents.find_valid(*wanted, service.clock()) or next(
            iter(consents.page(*wanted, None, 1)), None
        )
        if found is None:
            raise ResourceNotFound("CONSENT", "No consent of this speaker is recorded.")
        return {"Consent": _member(service, vault, found)}


@operation
def list_consents(service: Service, caller: Caller, request: Request) -> Answer:
    with service.open_domain(caller, request["DomainId"], write=False) as (connection, domain, vault):
        customer_id_hash = _hash_of(connection, vault, domain, request["SpeakerId"])
        items, next_token = paged(
            service,
            request,
            ("ListConsents", domain.domain_id, customer_id_hash.hex()),
            lambda after, limit: consents.page(connection, domain.domain_id, customer_id_hash, after, limit),
            lambda consent: (consent.created_at, consent.consent_id),
        )
        return {"Consents": [_member(service, vault, one) for one in items], "NextToken": next_token}


@operation
def withdraw_consent(service: Service, caller: Caller, request: Request) -> Answer:
    """Withdraw a speaker's consents, and opt the speaker out as OptOutSpeaker does."""
    with (
        service.ledger_transaction() as ledger,
        service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault),
        ledger.before_commit(),
    ):
        erasing = Erasing(service=service, connection=connection, domain=domain, vault=vault, ledger=ledger)
        customer_id_hash = _hash_of(connection, vault, domain, request["SpeakerId"])
        withdrawn = consents.withdraw(connection, domain.domain_id, customer_id_hash, service.clock())
        present = speakers.count(connection, domain.domain_id)
        opted_out = opt_out_one(erasing, caller, request["SpeakerId"], present)
        note_use(service, connection, caller)
        event = speaker_event(domain, "OPT_OUT_SPEAKER", speaker_id=opted_out.speaker_id)
        service.outbox.put(connection, [event], service.clock())
        ended = erasing.fail_enrollments([opted_out.speaker_id], OPTED_OUT_MEANWHILE)
    finish(service, [*opted_out.session_ids, *ended])
    return {"GeneratedSpeakerId": opted_out.speaker_id, "Withdrawn": withdrawn}


@operation
def put_privacy_rules(service: Service, caller: Caller, request: Request) -> Answer:
    required: bool = request["ConsentRequired"]
    with service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, _vault):
        if required != domain.consent_required:
            domains.require_consent(connection, domain.domain_id, required, service.clock())
        return {"PrivacyRules": _rules(domain.domain_id, required)}


@operation
def describe_privacy_rules(service: Service, caller: Caller, request: Request) -> Answer:
    with service.open_domain(caller, request["DomainId"], write=False) as (_connection, domain, _vault):
        return {"PrivacyRules": _rules(domain.domain_id, domain.consent_required)}


def _rules(domain_id: str, consent_required: bool) -> dict[str, Any]:
    return {"ConsentRequired": consent_required, "DomainId": domain_id}


def _hash_of(connection: Connection, vault: Vault, domain: Domain, speaker_id: str) -> bytes:
    """Compute the keyed hash of a speaker's customer id. Raises ResourceNotFound for a generated id without
    an entry."""
    if not speaker_id.startswith("id#"):
        return vault.lookup(speaker_id)
    speaker = require_speaker(connection, vault, domain, speaker_id)
    return vault.lookup(speaker.customer_id(vault))


def _member(service: Service, vault: Vault, consent: Consent) -> dict[str, Any]:
    return {
        **consent.terms(vault),
        "ConsentId": consent.consent_id,
        "CreatedAt": consent.created_at,
        "ExpiresAt": consent.expires_at,
        "GivenAt": consent.given_at,
        "Status": consent.status(service.clock()),
        "WithdrawnAt": consent.withdrawn_at,
    }
