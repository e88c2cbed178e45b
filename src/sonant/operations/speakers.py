"""DescribeSpeaker, ListSpeakers, OptOutSpeaker, DeleteSpeaker; our own CompareRecording, ImportOptOuts and
ExportSpeaker.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import numpy as np
from sqlalchemy import Connection

from sonant.errors import ModelMismatch, ResourceNotFound, ServiceQuotaExceeded, Validation
from sonant.events.documents import ErrorInfo, Event, EventDomain, SpeakerAction, speaker_event
from sonant.ids import new_generated_id
from sonant.jobs.calibration_cache import CalibrationCache
from sonant.operations.paging import paged
from sonant.operations.registry import ExecutorKind, operation
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.operations.sessions import fail_enrollments
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import domains, speakers
from sonant.voice.models import shipped_encoder_id
from sonant.voice.models.embedding import Embedding
from sonant.voice.scoring import similarity

#: Net speech that a comparison needs unless the caller names less or more.
COMPARISON_SPEECH_S = 10.0
#: Why an enrollment in a session fails that goes on meanwhile.
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
    """Record a refusal, also of somebody never seen; what was known of the voice is destroyed."""
    with (
        _telling_failure(service, caller, request, "OPT_OUT_SPEAKER"),
        service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault),
    ):
        present = speakers.count(connection, domain.domain_id)
        _opt_out(service, connection, vault, domain.domain_id, request["SpeakerId"], present)
        speaker = _require(connection, vault, domain, request["SpeakerId"])
        told = speaker_event(domain, "OPT_OUT_SPEAKER", speaker_id=speaker.speaker_id)
        service.outbox.put(connection, [told], service.clock())
        ended = fail_enrollments(service, connection, domain, [speaker.speaker_id], OPTED_OUT_MEANWHILE)
        answer = {"Speaker": speaker_member(speaker, vault)}
    _changed(service, ended)
    return answer


@operation
def import_opt_outs(service: Service, caller: Caller, request: Request) -> Answer:
    """Record many refusals, all or none; an id given twice counts once."""
    ids = dict.fromkeys(request["SpeakerIds"])
    with service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault):
        present = speakers.count(connection, domain.domain_id)
        changed, gone = [], []
        for one in ids:
            outcome, speaker_id = _opt_out(service, connection, vault, domain.domain_id, one, present)
            present += outcome == "added"
            if outcome == "changed":
                gone.append(speaker_id)
            if outcome != "unchanged":
                changed.append(speaker_event(domain, "OPT_OUT_SPEAKER", speaker_id=speaker_id))
        service.outbox.put(connection, changed, service.clock())
        ended = fail_enrollments(service, connection, domain, gone, OPTED_OUT_MEANWHILE)
    _changed(service, ended)
    return {"OptedOut": len(changed), "Unchanged": len(ids) - len(changed)}


@operation
def export_speaker(service: Service, caller: Caller, request: Request) -> Answer:
    """Everything that is kept about one speaker."""
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
                "ModelId": voiceprint.model_id,
                "NetSpeechSeconds": voiceprint.net_speech_s,
                "Vector": voiceprint.vector,
            },
        }


@operation
def delete_speaker(service: Service, caller: Caller, request: Request) -> Answer | None:
    """Forget a speaker: data key, voiceprint, audio and status go at once."""
    with (
        _telling_failure(service, caller, request, "DELETE_SPEAKER"),
        service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault),
    ):
        speaker = _require(connection, vault, domain, request["SpeakerId"])
        speakers.remove(connection, speaker.speaker_id)
        told = speaker_event(domain, "DELETE_SPEAKER", speaker_id=speaker.speaker_id)
        service.outbox.put(connection, [told], service.clock())
        ended = fail_enrollments(service, connection, domain, [speaker.speaker_id], DELETED_MEANWHILE)
    _changed(service, ended)
    return None


@operation(executor=ExecutorKind.LONG)
def compare_recording(service: Service, caller: Caller, request: Request) -> Answer:
    """Similarity of one recording to enrolled speakers. Nothing is stored."""
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
    # Outside of the transaction: listening takes much longer than the look-ups.
    heard = service.listener.analyse(
        request["DataAccessRoleArn"],
        audio["S3Uri"],
        audio["ChannelId"],
        request.get("MinimumNetSpeech", COMPARISON_SPEECH_S),
        domain.model_id,
        domain,
    )
    probe = _embedding(heard.model_id, heard.vector)

    def compared(customer_id: str, generated_id: str, reference: speakers.Voiceprint) -> dict[str, Any]:
        alike = _compared(probe, _embedding(reference.model_id, reference.vector))
        score = scales[reference.model_id].score(
            alike,
            speech_s=heard.net_speech_s,
            snr_db=heard.snr_db,
            highpass_300hz=heard.highpass_300hz and reference.highpass_300hz is not False,
        )
        return {
            "CustomerSpeakerId": customer_id,
            "GeneratedSpeakerId": generated_id,
            "Similarity": round(alike, 4),
            "Score": score,
        }

    return {
        "NetSpeechSeconds": round(heard.net_speech_s, 2),
        "SignalToNoiseDecibels": round(heard.snr_db, 1),
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
    """After a transaction that destroyed voices, and ended what sessions did with them."""
    service.database.truncate_wal()
    for session_id in session_ids:
        service.live.notice(session_id)


def _require(
    connection: Connection, vault: Vault, domain: domains.Domain, speaker_id: str
) -> speakers.Speaker:
    speaker = speakers.find(connection, vault, domain.domain_id, speaker_id)
    if speaker is None:
        raise speaker_not_found()
    return speaker


def _opt_out(
    service: Service, connection: Connection, vault: Vault, domain_id: str, speaker_id: str, present: int
) -> tuple[Literal["added", "changed", "unchanged"], str]:
    """Opt one speaker out: what became of it, and its generated id. `present` speakers are in the domain.
    Raises ResourceNotFound for an unknown generated id, ServiceQuotaExceeded when there is no room."""
    speaker = speakers.find(connection, vault, domain_id, speaker_id)
    if speaker is not None:
        if speaker.status == "OPTED_OUT":
            return "unchanged", speaker.speaker_id
        speakers.forget_voice(connection, vault, speaker, "OPTED_OUT", service.clock())
        return "changed", speaker.speaker_id
    if speaker_id.startswith("id#"):
        raise speaker_not_found()
    require_speaker_quota(service, present)
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


def _telling_failure(
    service: Service, caller: Caller, request: Request, action: SpeakerAction
) -> AbstractContextManager[None]:
    def event(_connection: Connection, domain: EventDomain, error: ErrorInfo) -> Event:
        return speaker_event(domain, action, speaker_id=request["SpeakerId"], error=error)

    return service.telling_failure(caller, request["DomainId"], event)


def speaker_not_found() -> ResourceNotFound:
    return ResourceNotFound("SPEAKER")


def require_speaker_quota(service: Service, present: int) -> None:
    limit = service.settings.quotas.speakers_per_domain
    if present >= limit:
        raise ServiceQuotaExceeded(f"The domain already has {limit} speakers, its quota.")


def _reference(
    connection: Connection, domain: domains.Domain, vault: Vault, speaker_id: str
) -> tuple[str, str, speakers.Voiceprint]:
    speaker = _require(connection, vault, domain, speaker_id)
    stored = speakers.load_reference(connection, vault, speaker)
    if stored is None:
        raise Validation("SpeakerIds names a speaker that is not enrolled")
    return speaker.customer_id(vault), speaker.speaker_id, stored


def _compared(probe: Embedding, reference: Embedding) -> float:
    try:
        return similarity(probe, reference)
    except ModelMismatch:
        raise Validation(
            f"SpeakerIds names a speaker whose voiceprint was made by the voice model {reference.model_id}, "
            f"not by the domain's, {probe.model_id}: enroll the speaker again, or have the operator bring "
            f"all voiceprints over with `sonant model upgrade DOMAIN {probe.model_id}`"
        ) from None


def _embedding(model_id: str, vector: bytes) -> Embedding:
    return Embedding(vector=np.frombuffer(vector, dtype="<f4"), model_id=model_id)
