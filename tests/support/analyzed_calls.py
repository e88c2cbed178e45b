"""Real speech stored as the stream manager stores it: enrolled voices, and analyzed speech of sessions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from service_process import ServiceProcess
from sqlalchemy import Connection
from voice_models import voice_models

from sonant.ids import new_generated_id
from sonant.settings import Settings
from sonant.storage.crypto.vault import Vault, open_vault
from sonant.storage.repositories import (
    domains,
    fraud_voices,
    session_samples,
    session_streams,
    sessions,
    speakers,
    voiceprints,
)
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.session_samples import AUTHENTICATION, FRAUD, SessionSample
from sonant.voice.enrollment import RecordingSource, collect_speech
from sonant.voice.models.packaged import named_embedder
from sonant.voice.replay.fingerprint import fingerprint
from sonant.voice.sample import VoiceSample

OWNER = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """The embedding, fingerprint and quality of a recording's first speech."""

    sample: VoiceSample
    fingerprint: bytes


def analyze(recording: bytes, net_speech_s: float) -> Voice:
    """Analyze the first `net_speech_s` seconds of speech of a recording, with the model of new domains."""
    models = voice_models()
    source = RecordingSource(name="call", data=recording, channel=0)
    speech = collect_speech([source], need_s=net_speech_s, models=models, strict=False, max_duration_s=600.0)
    voice = named_embedder(Settings().encoder, models)(speech.samples)
    return Voice(
        sample=VoiceSample(model_id=voice.model_id, vector=voice.vector, quality=speech.quality),
        fingerprint=fingerprint(speech.samples).to_bytes(),
    )


@contextmanager
def written(service: ServiceProcess, domain_id: str) -> Iterator[tuple[Connection, Domain, Vault]]:
    """Open a transaction on the service's own store."""
    with service.store.database.write() as connection:
        domain = domains.find_by_id(connection, domain_id)
        assert domain is not None
        keys = service.store.accounts.keys(domain.account_id)
        yield connection, domain, open_vault(keys, domain_id, domain.arn, domain.data_key_wrapped)


def enroll(service: ServiceProcess, domain_id: str, customer_id: str, voice: Voice, **more: Any) -> str:
    """Enroll a speaker, with the recording's fingerprint in the replay index; return the generated id."""
    now, speaker_id = service.store.clock(), new_generated_id()
    with written(service, domain_id) as (connection, _domain, vault):
        seal = speakers.add(
            connection,
            vault,
            domain_id=domain_id,
            speaker_id=speaker_id,
            customer_id=customer_id,
            status="PENDING",
            now=now,
        )
        speakers.enroll(connection, seal, speaker_id, replace(voice.sample, **more), now)
        voiceprints.add_fingerprint(connection, seal, domain_id, speaker_id, voice.fingerprint, now)
    return speaker_id


def register(service: ServiceProcess, domain_id: str, voice: Voice, watchlist_id: str = "") -> str:
    """Register a fraudster on the default watchlist or another; return the generated id."""
    fraudster_id = new_generated_id()
    with written(service, domain_id) as (connection, domain, vault):
        fraud_voices.register(
            connection,
            vault,
            domain_id=domain_id,
            fraudster_id=fraudster_id,
            watchlist_id=watchlist_id or domain.default_watchlist_id,
            sample=voice.sample,
            now=service.store.clock(),
        )
    return fraudster_id


def start_audio(service: ServiceProcess, domain_id: str, name: str) -> datetime:
    """Claim a session's stream, as its first audio does; return when."""
    now = service.store.clock()
    with written(service, domain_id) as (connection, _domain, _vault):
        session = sessions.find(connection, domain_id, name, now)
        assert session is not None
        until = now + timedelta(hours=1)
        assert session_streams.claim(connection, session.session_id, session.stream, OWNER, now, until)
    return now


def store_speech(
    service: ServiceProcess,
    domain_id: str,
    name: str,
    voice: Voice,
    purposes: tuple[str, ...] = (AUTHENTICATION, FRAUD),
    **more: Any,
) -> SessionSample:
    """Store analyzed speech of an ongoing session; `more` are members of it."""
    with written(service, domain_id) as (connection, _domain, vault):
        session = sessions.find(connection, domain_id, name, service.store.clock())
        assert session is not None
        assert session.stream_started_at is not None
        for purpose in purposes:
            members: dict[str, Any] = {
                "purpose": purpose,
                "stream": session.stream,
                "started_at": session.stream_started_at,
                "ended_at": session.stream_started_at + timedelta(seconds=voice.sample.quality.net_speech_s),
                "sample": voice.sample,
                "fingerprint": voice.fingerprint if purpose == FRAUD else None,
                "spoofing_score": 7 if purpose == FRAUD else None,
                **more,
            }
            hearing = SessionSample(**members)
            session_samples.save_sample(connection, session.seal(vault), session.session_id, hearing)
    return hearing
