"""DescribeSpeaker, ListSpeakers, OptOutSpeaker, DeleteSpeaker; our own CompareRecording, ImportOptOuts and
ExportSpeaker.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

from sqlalchemy import Connection

from sonant.errors import ModelMismatch, ResourceNotFound, Validation, require_room
from sonant.events.documents import Event, EventDomain, SpeakerAction, speaker_event
from sonant.events.error_info import ErrorInfo
from sonant.ids import new_generated_id
from sonant.jobs.calibration_cache import CalibrationCache
from sonant.operations.paging import paged
from sonant.operations.registry import ExecutorKind, operation
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.operations.sessions import fail_enrollments
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import domains, speakers
from sonant.voice.models import shipped_encoder_id
from sonant.voice.sample import VoiceSample

#: Net speech that a comparison needs unless the request gives another length.
COMPARISON_SPEECH_S = 10.0
#: Why an enrollment in a session that is in progress meanwhile fails.
OPTED_OUT_MEANWHILE, DELETED_MEANWHILE = "the speaker has opted out", "the speaker was deleted"


@operation
def describe_speaker(service: Service, caller: Caller, request: Request) -> Answer:
    with service.open_domain(caller, request["DomainId"], write=False) as (connection, domain, vault):
        return {"Speaker": speaker_member(_require(connection, vault, domain, request["SpeakerId"]), vault)}


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
        service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault),
    ):
        present = speakers.count(connection, domain.domain_id)
        _opt_out(service, connection, vault, domain.domain_id, request["SpeakerId"], present)
        speaker = _require(connection, vault, domain, request["SpeakerId"])
        event = speaker_event(domain, "OPT_OUT_SPEAKER", speaker_id=speaker.speaker_id)
        service.outbox.put(connection, [event], service.clock())
        ended = fail_enrollments(service, connection, domain, [speaker.speaker_id], OPTED_OUT_MEANWHILE)
        answer = {"Speaker": speaker_member(speaker, vault)}
    _changed(service, ended)
    return answer


@operation
def import_opt_outs(service: Service, caller: Caller, request: Request) -> Answer:
    """Opt many speakers out, all or none; an id given twice counts once."""
    ids = dict.fromkeys(request["SpeakerIds"])
    with service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault):
        present = speakers.count(connection, domain.domain_id)
        events, opted_out = [], []
        for one in ids:
            outcome, speaker_id = _opt_out(service, connection, vault, domain.domain_id, one, present)
            present += outcome == "added"
            if outcome == "changed":
                opted_out.append(speaker_id)
            if outcome != "unchanged":
                events.append(speaker_event(domain, "OPT_OUT_SPEAKER", speaker_id=speaker_id))
        service.outbox.put(connection, events, service.clock())
        ended = fail_enrollments(service, connection, domain, opted_out, OPTED_OUT_MEANWHILE)
    _changed(service, ended)
    return {"OptedOut": len(events), "Unchanged": len(ids) - len(events)}


@operation
def export_speaker(service: Service, caller: Caller, request: Request) -> Answer:
    """Export everything that is stored about one speaker."""
    with service.open_domain(caller, request["DomainId"], write=False) as (connection, domain, vault):
        speaker = _require(connection, vault, domain, request["SpeakerId"])
        voiceprint = speakers.load_voiceprint(connection, vault, speaker)
        return {
            "Speaker": speaker_member(speaker, vault),
            "Voiceprint": None
            if voiceprint is None
            else {
                "Audio": voiceprint.audio,
                "CreatedAt": voiceprint.created_at,
                "ModelId": voiceprint.sample.model_id,
                "NetSpeechSeconds": voiceprint.sample.quality.net_speech_s,
                "Vector": voiceprint.sample.to_bytes(),
            },
        }


@operation
def delete_speaker(service: Service, caller: Caller, request: Request) -> Answer | None:
    """Delete a speaker: data key, voiceprint, audio and status."""
    with (
        _failure_events(service, caller, request, "DELETE_SPEAKER"),
        service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault),
    ):
        speaker = _require(connection, vault, domain, request["SpeakerId"])
        speakers.delete_speaker(connection, speaker.speaker_id)
        event = speaker_event(domain, "DELETE_SPEAKER", speaker_id=speaker.speaker_id)
        service.outbox.put(connection, [event], service.clock())
        ended = fail_enrollments(service, connection, domain, [speaker.speaker_id], DELETED_MEANWHILE)
    _changed(service, ended)
    return None


@operation(executor=ExecutorKind.LONG)
def compare_recording(service: Service, caller: Caller, request: Request) -> Answer:
    """Compare one recording with enrolled speakers. Nothing is stored."""
    with service.open_domain(caller, request["DomainId"], write=False) as (connection, domain, vault):
        references = [
            _reference(connection, domain, vault, speaker_id) for speaker_id in request["SpeakerIds"]
        ]
        known = CalibrationCache(connection, domain.domain_id, service.calibration_of)
        scales = {
            reference.model_id: known.of(reference.model_id)
            for _, _, reference in references
            if reference.model_id == (domain.model_id or shipped_encoder_id())
        }
    audio = request["AudioSpecification"]
    # Outside of the transaction: the analysis takes much longer than the look-ups.
    probe = service.listener.analyse(
        request["DataAccessRoleArn"],
        audio["S3Uri"],
        audio["ChannelId"],
        request.get("MinimumNetSpeech", COMPARISON_SPEECH_S),
        domain.model_id,
        domain,
    )

    def compared(customer_id: str, generated_id: str, reference: VoiceSample) -> dict[str, Any]:
        similarity = _similarity(probe, reference)
        quality = probe.comparison_quality(reference)
        return {
            "CustomerSpeakerId": customer_id,
            "GeneratedSpeakerId": generated_id,
            "Similarity": round(similarity, 4),
            "Score": scales[reference.model_id].score_for(similarity, quality),
        }

    return {
        "NetSpeechSeconds": round(probe.quality.net_speech_s, 2),
        "SignalToNoiseDecibels": round(probe.quality.snr_db or 0.0, 1),
        "Comparisons": [compared(*reference) for reference in references],
    }


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


def _changed(service: Service, session_ids: Sequence[str]) -> None:
    """Finish after a transaction that deleted voices and ended their enrollments in sessions."""
    service.database.truncate_wal()
    for session_id in session_ids:
        service.live.session_changed(session_id)


def _require(
    connection: Connection, vault: Vault, domain: domains.Domain, speaker_id: str
) -> speakers.Speaker:
    speaker = speakers.find(connection, vault, domain.domain_id, speaker_id)
    if speaker is None:
        raise ResourceNotFound("SPEAKER")
    return speaker


def _opt_out(
    service: Service, connection: Connection, vault: Vault, domain_id: str, speaker_id: str, present: int
) -> tuple[Literal["added", "changed", "unchanged"], str]:
    """Opt one speaker out: what was done, and its generated id. `present` speakers are in the domain.

    Raises ResourceNotFound for an unknown generated id, ServiceQuotaExceeded when the quota is used up.
    """
    speaker = speakers.find(connection, vault, domain_id, speaker_id)
    if speaker is not None:
        if speaker.status == "OPTED_OUT":
            return "unchanged", speaker.speaker_id
        speakers.delete_voice(connection, vault, speaker, "OPTED_OUT", service.clock())
        return "changed", speaker.speaker_id
    if speaker_id.startswith("id#"):
        raise ResourceNotFound("SPEAKER")
    require_room("speakers_per_domain", present, service.settings.quotas.speakers_per_domain)
    new_id = new_generated_id()
    speakers.add(
        connection,
        vault,
        domain_id=domain_id,
        speaker_id=new_id,
        customer_id=speaker_id,
        status="OPTED_OUT",
        now=service.clock(),
    )
    return "added", new_id


def _failure_events(
    service: Service, caller: Caller, request: Request, action: SpeakerAction
) -> AbstractContextManager[None]:
    def event(_connection: Connection, domain: EventDomain, error: ErrorInfo) -> Event:
        return speaker_event(domain, action, speaker_id=request["SpeakerId"], error=error)

    return service.failure_events(caller, request["DomainId"], event)


def _reference(
    connection: Connection, domain: domains.Domain, vault: Vault, speaker_id: str
) -> tuple[str, str, VoiceSample]:
    speaker = _require(connection, vault, domain, speaker_id)
    stored = speakers.load_sample(connection, vault, speaker)
    if stored is None:
        raise Validation("SpeakerIds names a speaker that is not enrolled")
    return speaker.customer_id(vault), speaker.speaker_id, stored


def _similarity(probe: VoiceSample, reference: VoiceSample) -> float:
    try:
        return probe.similarity(reference)
    except ModelMismatch:
        raise Validation(
            f"SpeakerIds names a speaker whose voiceprint was made by the voice model {reference.model_id}, "
            f"not by the domain's, {probe.model_id}: enroll the speaker again, or have the operator bring "
            f"all voiceprints over with `sonant model upgrade DOMAIN {probe.model_id}`"
        ) from None
