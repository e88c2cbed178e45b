"""DescribeSpeaker, ListSpeakers, OptOutSpeaker, DeleteSpeaker, and our own CompareRecording."""

from __future__ import annotations

from typing import Any

import numpy as np

from sonant.errors import ResourceNotFound, ServiceQuotaExceeded, Validation
from sonant.ids import new_generated_id
from sonant.operations.paging import paged
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.store import domains, speakers
from sonant.store.vault import Vault
from sonant.voice.embedding import Embedding
from sonant.voice.scoring import similarity

#: Net speech that a comparison needs unless the caller names less or more.
COMPARISON_SPEECH_S = 10.0


def describe_speaker(service: Service, caller: Caller, request: Request) -> Answer:
    with service.open_domain(caller, request["DomainId"], write=False) as (connection, domain, vault):
        speaker = speakers.find(connection, vault, domain.domain_id, request["SpeakerId"])
        if speaker is None:
            raise speaker_not_found()
        return {"Speaker": speaker_member(speaker, vault)}


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


def opt_out_speaker(service: Service, caller: Caller, request: Request) -> Answer:
    """Record a refusal, also of somebody never seen; what was known of the voice is destroyed."""
    speaker_id: str = request["SpeakerId"]
    with service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault):
        speaker = speakers.find(connection, vault, domain.domain_id, speaker_id)
        if speaker is None:
            if speaker_id.startswith("id#"):
                raise speaker_not_found()
            require_speaker_quota(service, speakers.count(connection, domain.domain_id))
            speakers.add(
                connection,
                vault,
                domain_id=domain.domain_id,
                speaker_id=new_generated_id(),
                customer_id=speaker_id,
                status="OPTED_OUT",
                now=service.clock(),
            )
        elif speaker.status != "OPTED_OUT":
            speakers.opt_out(connection, vault, speaker, service.clock())
        speaker = speakers.find(connection, vault, domain.domain_id, speaker_id)
        if speaker is None:
            raise speaker_not_found()
        return {"Speaker": speaker_member(speaker, vault)}


def delete_speaker(service: Service, caller: Caller, request: Request) -> Answer | None:
    """Forget a speaker: data key, voiceprint, audio and status go at once."""
    with service.open_domain(caller, request["DomainId"], write=True) as (connection, domain, vault):
        speaker = speakers.find(connection, vault, domain.domain_id, request["SpeakerId"])
        if speaker is None:
            raise speaker_not_found()
        speakers.remove(connection, speaker.speaker_id)
    return None


def compare_recording(service: Service, caller: Caller, request: Request) -> Answer:
    """Similarity of one recording to enrolled speakers. Nothing is stored."""
    with service.open_domain(caller, request["DomainId"], write=False) as (connection, domain, vault):
        references = [
            _reference(connection, domain, vault, speaker_id) for speaker_id in request["SpeakerIds"]
        ]
    audio = request["AudioSpecification"]
    # Outside of the transaction: listening takes much longer than the look-ups.
    heard = service.listener.analyse(
        request["DataAccessRoleArn"],
        audio["S3Uri"],
        audio["ChannelId"],
        request.get("MinimumNetSpeech", COMPARISON_SPEECH_S),
    )
    probe = _embedding(heard.model_id, heard.vector)
    return {
        "NetSpeechSeconds": round(heard.net_speech_s, 2),
        "SignalToNoiseDecibels": round(heard.snr_db, 1),
        "Comparisons": [
            {
                "CustomerSpeakerId": customer_id,
                "GeneratedSpeakerId": generated_id,
                "Similarity": round(similarity(probe, reference), 4),
            }
            for customer_id, generated_id, reference in references
        ],
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


def speaker_not_found() -> ResourceNotFound:
    return ResourceNotFound("SPEAKER", "The speaker does not exist in this domain.")


def require_speaker_quota(service: Service, present: int) -> None:
    limit = service.settings.quotas.speakers_per_domain
    if present >= limit:
        raise ServiceQuotaExceeded(f"The domain already has {limit} speakers, its quota.")


def _reference(
    connection: Any, domain: domains.Domain, vault: Vault, speaker_id: str
) -> tuple[str, str, Embedding]:
    speaker = speakers.find(connection, vault, domain.domain_id, speaker_id)
    if speaker is None:
        raise speaker_not_found()
    stored = speakers.load_vector(connection, vault, speaker)
    if stored is None:
        raise Validation("SpeakerIds names a speaker that is not enrolled")
    return speaker.customer_id(vault), speaker.speaker_id, _embedding(*stored)


def _embedding(model_id: str, vector: bytes) -> Embedding:
    return Embedding(vector=np.frombuffer(vector, dtype="<f4"), model_id=model_id)
