"""DescribeSpeaker, ListSpeakers, OptOutSpeaker, DeleteSpeaker; our own UnlockSpeaker, ImportOptOuts and
ExportSpeaker.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection

from sonant.errors import ResourceNotFound, require_room
from sonant.events.documents import (
    Event,
    EventDomain,
    SpeakerAction,
    speaker_event,
    speaker_protection_event,
)
from sonant.events.error_info import ErrorInfo
from sonant.ids import new_generated_id
from sonant.operations.erasure import DELETED_MEANWHILE, OPTED_OUT_MEANWHILE, Erasing, finish
from sonant.operations.idempotency import note_use, require_first_use
from sonant.operations.paging import paged
from sonant.operations.registry import operation
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import consents, domains, score_misses, speakers, templates


@operation
def describe_speaker(service: Service, caller: Caller, request: Request) -> Answer:
    opened = service.open_domain(caller, request["DomainId"], write=False, snapshot=False)
    with opened as (connection, domain, vault):
        speaker = require_speaker(connection, vault, domain, request["SpeakerId"])
        return {"Speaker": speaker_member(speaker, vault)}


@operation
def list_speakers(service: Service, caller: Caller, request: Request) -> Answer:
    with service.open_domain(caller, request["DomainId"], write=False) as (connection, domain, vault):
        items, next_token = paged(
            service,
            request,
            ("ListSpeakers", domain.domain_id),
            lambda after, limit: speakers.page(connection, domain.domain_id, after, limit),
            lambda speaker: (speaker.created_at, speaker.speaker_id),
        )
        return {
            "SpeakerSummaries": [speaker_member(speaker, vault) for speaker in items],
            "NextToken": next_token,
        }


@operation
def opt_out_speaker(service: Service, caller: Caller, request: Request) -> Answer:
    """Opt a speaker out, known or not; what is stored of the voice is deleted."""
    with (
        _failure_events(service, caller, request, "OPT_OUT_SPEAKER"),
        service.ledger_transaction() as ledger,
        service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault),
        ledger.before_commit(),
    ):
        erasing = Erasing(service=service, connection=connection, domain=domain, vault=vault, ledger=ledger)
        present = speakers.count(connection, domain.domain_id)
        opted_out = opt_out_one(erasing, caller, request["SpeakerId"], present)
        note_use(service, connection, caller)
        speaker = require_speaker(connection, vault, domain, request["SpeakerId"])
        event = speaker_event(domain, "OPT_OUT_SPEAKER", speaker_id=speaker.speaker_id)
        service.outbox.put(connection, [event], service.clock())
        ended = erasing.fail_enrollments([speaker.speaker_id], OPTED_OUT_MEANWHILE)
        answer = {"Speaker": speaker_member(speaker, vault)}
    finish(service, [*opted_out.session_ids, *ended])
    return answer


@operation
def import_opt_outs(service: Service, caller: Caller, request: Request) -> Answer:
    """Opt many speakers out, all or none; an id given twice counts once."""
    ids = dict.fromkeys(request["SpeakerIds"])
    with (
        service.ledger_transaction() as ledger,
        service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault),
        ledger.before_commit(),
    ):
        erasing = Erasing(service=service, connection=connection, domain=domain, vault=vault, ledger=ledger)
        present = speakers.count(connection, domain.domain_id)
        events: list[Event] = []
        session_ids: list[str] = []
        changed: list[str] = []
        for one in ids:
            opted_out = opt_out_one(erasing, caller, one, present)
            present += opted_out.what == "added"
            session_ids += opted_out.session_ids
            if opted_out.what == "changed":
                changed.append(opted_out.speaker_id)
            if opted_out.what != "unchanged":
                events.append(speaker_event(domain, "OPT_OUT_SPEAKER", speaker_id=opted_out.speaker_id))
        note_use(service, connection, caller)
        service.outbox.put(connection, events, service.clock())
        session_ids += erasing.fail_enrollments(changed, OPTED_OUT_MEANWHILE)
    finish(service, session_ids)
    return {"OptedOut": len(events), "Unchanged": len(ids) - len(events)}


@operation
def export_speaker(service: Service, caller: Caller, request: Request) -> Answer:
    """Export everything that is stored about one speaker; the vector in the voice model's own space."""
    with service.open_domain(caller, request["DomainId"], write=False) as (connection, domain, vault):
        speaker = require_speaker(connection, vault, domain, request["SpeakerId"])
        voiceprint = speakers.load_voiceprint(connection, vault, speaker)
        spaces = templates.open_spaces(connection, vault.templates)
        return {
            "Speaker": speaker_member(speaker, vault),
            "Voiceprint": None
            if voiceprint is None
            else {
                "Audio": voiceprint.audio,
                "CreatedAt": voiceprint.created_at,
                "ModelId": voiceprint.sample.model_id,
                "NetSpeechSeconds": voiceprint.sample.quality.net_speech_s,
                "Vector": spaces.original(voiceprint.sample).to_bytes(),
            },
        }


@operation
def delete_speaker(service: Service, caller: Caller, request: Request) -> Answer | None:
    """Delete a speaker: data key, voiceprint, audio and status, and the voice in sessions and dry runs."""
    with (
        _failure_events(service, caller, request, "DELETE_SPEAKER"),
        service.ledger_transaction() as ledger,
        service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault),
        ledger.before_commit(),
    ):
        erasing = Erasing(service=service, connection=connection, domain=domain, vault=vault, ledger=ledger)
        if erasing.end_repeated_opt_out(request["SpeakerId"]):
            return None
        speaker = require_speaker(connection, vault, domain, request["SpeakerId"])
        require_first_use(service, connection, caller)
        note_use(service, connection, caller)
        session_ids = erasing.delete(speaker)
        event = speaker_event(domain, "DELETE_SPEAKER", speaker_id=speaker.speaker_id)
        service.outbox.put(connection, [event], service.clock())
        session_ids += erasing.fail_enrollments([speaker.speaker_id], DELETED_MEANWHILE)
    finish(service, session_ids)
    return None


@operation
def unlock_speaker(service: Service, caller: Caller, request: Request) -> Answer:
    """Forget the rejections and other comparisons that did not match; the speaker is open again."""
    with service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault):
        speaker = require_speaker(connection, vault, domain, request["SpeakerId"])
        forgotten = score_misses.delete_of(connection, speaker.speaker_id)
        if forgotten:
            event = speaker_protection_event(
                domain,
                "UNLOCK_SPEAKER",
                speaker_id=speaker.speaker_id,
                principal_arn=caller.principal.arn,
            )
            service.outbox.put(connection, [event], service.clock())
        return {"GeneratedSpeakerId": speaker.speaker_id, "ForgottenComparisons": forgotten}


def speaker_member(speaker: speakers.Speaker, vault: Vault) -> dict[str, Any]:
    return {
        "CreatedAt": speaker.created_at,
        "CustomerSpeakerId": speaker.customer_id(vault),
        "DomainId": speaker.domain_id,
        "GeneratedSpeakerId": speaker.speaker_id,
        "LastAccessedAt": speaker.last_accessed_at,
        "Status": speaker.status,
        "UpdatedAt": speaker.updated_at,
    }


def require_speaker(
    connection: Connection, vault: Vault, domain: domains.Domain, speaker_id: str
) -> speakers.Speaker:
    speaker = speakers.find(connection, vault, domain.domain_id, speaker_id)
    if speaker is None:
        raise ResourceNotFound("SPEAKER")
    return speaker


class OptedOut(NamedTuple):
    """What an opt-out did, to whom, and the sessions that have changed."""

    what: Literal["added", "changed", "unchanged"]
    speaker_id: str
    session_ids: Sequence[str] = ()


def opt_out_one(erasing: Erasing, caller: Caller, speaker_id: str, present: int) -> OptedOut:
    """Opt one speaker out. `present` speakers are in the domain.

    Raises ResourceNotFound for an unknown generated id, ServiceQuotaExceeded when the quota is used up,
    Conflict for a signed call that was carried out before and would change something again.
    """
    service, connection, domain_id = erasing.service, erasing.connection, erasing.domain.domain_id
    speaker = speakers.find(connection, erasing.vault, domain_id, speaker_id)
    if speaker is not None:
        if speaker.status == "OPTED_OUT":
            return OptedOut("unchanged", speaker.speaker_id)
        require_first_use(service, connection, caller)
        return OptedOut("changed", speaker.speaker_id, erasing.opt_out(speaker))
    if speaker_id.startswith("id#"):
        raise ResourceNotFound("SPEAKER")
    require_first_use(service, connection, caller)
    require_room("speakers_per_domain", present, service.settings.quotas.speakers_per_domain)
    new_id, customer_id_hash = new_generated_id(), erasing.vault.lookup(speaker_id)
    speakers.add(
        connection,
        erasing.vault,
        domain_id=domain_id,
        speaker_id=new_id,
        customer_id=speaker_id,
        status="OPTED_OUT",
        now=service.clock(),
    )
    consents.withdraw(connection, domain_id, customer_id_hash, service.clock())
    erasing.erase_measured(customer_id_hash)
    erasing.record_opt_out(new_id, customer_id_hash)
    return OptedOut("added", new_id)


def _failure_events(
    service: Service, caller: Caller, request: Request, action: SpeakerAction
) -> AbstractContextManager[None]:
    def event(_connection: Connection, domain: EventDomain, error: ErrorInfo) -> Event:
        return speaker_event(domain, action, speaker_id=request["SpeakerId"], error=error)

    return service.failure_events(caller, request["DomainId"], event)
