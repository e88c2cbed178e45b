"""Sonant's own CompareRecording: one recording against enrolled speakers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection

from sonant.errors import ModelMismatch, Validation
from sonant.jobs.calibration_cache import CalibrationCache
from sonant.jobs.score_limits import ScoreLimits, probe_digest
from sonant.operations.registry import ExecutorKind, operation
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.operations.speakers import require_speaker
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import domains, speakers, templates
from sonant.voice.disclosure import SCORE_BANDS, coarse_score
from sonant.voice.models import shipped_encoder_id
from sonant.voice.sample import VoiceSample

#: Net speech that a comparison needs unless the request gives another length.
COMPARISON_SPEECH_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _EnrolledVoice:
    """A speaker to compare with, and the voice of its voiceprint."""

    customer_id: str
    speaker_id: str
    sample: VoiceSample


@operation(executor=ExecutorKind.RECORDING)
def compare_recording(service: Service, caller: Caller, request: Request) -> Answer:
    """Compare one recording with enrolled speakers.

    Only that it did not match is stored, against the limits of `score_limits`. Raises SpeakerLocked and
    ProbeBudgetUsed.
    """
    with service.open_domain(caller, request["DomainId"], write=False) as (connection, domain, vault):
        references = [
            _reference(connection, domain, vault, speaker_id) for speaker_id in request["SpeakerIds"]
        ]
        spaces = templates.open_spaces(connection, vault.templates)
        limits = service.score_limits(caller, domain)
        for reference in references:
            limits.require(connection, reference.speaker_id)
        known = CalibrationCache(connection, domain.domain_id, service.calibration_of)
        calibration_of = {
            reference.sample.model_id: known.of(reference.sample.model_id)
            for reference in references
            if reference.sample.model_id == (domain.model_id or shipped_encoder_id())
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
    protected = spaces.protect(probe)
    similarities = [_similarity(protected, reference.sample) for reference in references]
    scores = [
        calibration_of[reference.sample.model_id].score_for(
            similarity, probe.comparison_quality(reference.sample)
        )
        for reference, similarity in zip(references, similarities, strict=True)
    ]
    missed = {
        reference.speaker_id
        for reference, score in zip(references, scores, strict=True)
        if limits.is_miss(score)
    }
    if missed and limits.limited:
        _count_misses(service, caller, request["DomainId"], limits, missed, probe)
    return {
        "NetSpeechSeconds": round(probe.quality.net_speech_s, 2),
        "SignalToNoiseDecibels": round(probe.quality.snr_db or 0.0, 1),
        "Comparisons": [
            {
                "CustomerSpeakerId": reference.customer_id,
                "GeneratedSpeakerId": reference.speaker_id,
                "Similarity": None if limits.limited else round(similarity, 4),
                "Score": coarse_score(score, SCORE_BANDS) if limits.limited else score,
            }
            for reference, similarity, score in zip(references, similarities, scores, strict=True)
        ],
    }


def _count_misses(
    service: Service,
    caller: Caller,
    domain_id: str,
    limits: ScoreLimits,
    speaker_ids: Iterable[str],
    probe: VoiceSample,
) -> None:
    """Store the comparisons that did not match. Raises SpeakerLocked and ProbeBudgetUsed when others have
    used the limits up meanwhile, and ResourceNotFound SPEAKER."""
    with service.open_domain(caller, domain_id, write=True) as (connection, domain, vault):
        digest, events = probe_digest(vault, probe), []
        for speaker_id in sorted(speaker_ids):
            require_speaker(connection, vault, domain, speaker_id)
            limits.require(connection, speaker_id)
            events += limits.count_miss(connection, domain, speaker_id, digest, rejected=False)
        service.outbox.put(connection, events, service.clock())


def _reference(
    connection: Connection, domain: domains.Domain, vault: Vault, speaker_id: str
) -> _EnrolledVoice:
    speaker = require_speaker(connection, vault, domain, speaker_id)
    stored = speakers.load_sample(connection, vault, speaker)
    if stored is None:
        raise Validation("SpeakerIds names a speaker that is not enrolled")
    return _EnrolledVoice(
        customer_id=speaker.customer_id(vault), speaker_id=speaker.speaker_id, sample=stored
    )


def _similarity(probe: VoiceSample, reference: VoiceSample) -> float:
    try:
        return probe.similarity(reference)
    except ModelMismatch:
        raise Validation(
            f"SpeakerIds names a speaker whose voiceprint was made by the voice model {reference.model_id}, "
            f"not by the domain's, {probe.model_id}: enroll the speaker again, or have the operator bring "
            f"all voiceprints over with `sonant model upgrade DOMAIN {probe.model_id}`"
        ) from None
