"""Real speech put into the store as whoever listens to calls does: voices enrolled, and heard in sessions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from service_process import ServiceProcess
from sqlalchemy import Connection

from sonant.ids import new_generated_id
from sonant.storage.crypto.vault import Vault, open_vault
from sonant.storage.repositories import (
    domains,
    fraud_voices,
    session_hearings,
    session_streams,
    sessions,
    speakers,
    voiceprints,
)
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.session_hearings import AUTHENTICATION, FRAUD, Hearing
from sonant.voice.enrollment import RecordingSource, gather_speech
from sonant.voice.models import load_models
from sonant.voice.models.embedding import embed
from sonant.voice.replay.fingerprint import fingerprint

OWNER = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """What the engine makes of a recording's first speech."""

    model_id: str
    vector: bytes
    fingerprint: bytes
    net_speech_s: float
    snr_db: float


def listen(recording: bytes, net_speech_s: float) -> Voice:
    models = load_models()
    source = RecordingSource(name="call", data=recording, channel=0)
    speech = gather_speech([source], need_s=net_speech_s, models=models, strict=False, max_duration_s=600.0)
    voice = embed(speech.samples, models)
    return Voice(
        model_id=voice.model_id,
        vector=voice.vector.astype("<f4").tobytes(),
        fingerprint=fingerprint(speech.samples).to_bytes(),
        net_speech_s=speech.net_speech_s,
        snr_db=speech.quality.snr_db,
    )


@contextmanager
def written(service: ServiceProcess, domain_id: str) -> Iterator[tuple[Connection, Domain, Vault]]:
    """A transaction on the service's own store."""
    with service.store.database.write() as connection:
        domain = domains.find_by_id(connection, domain_id)
        assert domain is not None
        keys = service.store.accounts.keys(domain.account_id)
        yield connection, domain, open_vault(keys, domain_id, domain.arn, domain.data_key_wrapped)


def enroll(service: ServiceProcess, domain_id: str, customer_id: str, voice: Voice, **more: Any) -> str:
    """An enrolled speaker whose recording the replay guard knows; the generated id."""
    now, speaker_id = service.store.clock(), new_generated_id()
    printed: dict[str, Any] = {
        "model_id": voice.model_id,
        "vector": voice.vector,
        "audio": None,
        "net_speech_s": voice.net_speech_s,
        "snr_db": voice.snr_db,
        **more,
    }
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
        speakers.enroll(connection, seal, speaker_id, speakers.Voiceprint(**printed), now)
        voiceprints.add_fingerprint(connection, seal, domain_id, speaker_id, voice.fingerprint, now)
    return speaker_id


def register(service: ServiceProcess, domain_id: str, voice: Voice, watchlist_id: str = "") -> str:
    """A fraudster on the default list or another; the generated id."""
    fraudster_id = new_generated_id()
    with written(service, domain_id) as (connection, domain, vault):
        fraud_voices.register(
            connection,
            vault,
            domain_id=domain_id,
            fraudster_id=fraudster_id,
            watchlist_id=watchlist_id or domain.default_watchlist_id,
            voiceprint=speakers.Voiceprint(
                model_id=voice.model_id, vector=voice.vector, audio=None, net_speech_s=voice.net_speech_s
            ),
            now=service.store.clock(),
        )
    return fraudster_id


def begin(service: ServiceProcess, domain_id: str, name: str) -> datetime:
    """Audio begins to come in a session; when."""
    now = service.store.clock()
    with written(service, domain_id) as (connection, _domain, _vault):
        session = sessions.find(connection, domain_id, name, now)
        assert session is not None
        until = now + timedelta(hours=1)
        assert session_streams.claim(connection, session.session_id, session.stream, OWNER, now, until)
    return now


def hear(
    service: ServiceProcess,
    domain_id: str,
    name: str,
    voice: Voice,
    purposes: tuple[str, ...] = (AUTHENTICATION, FRAUD),
    **more: Any,
) -> Hearing:
    """Enough speech has been heard in an ongoing session; `more` are members of the hearing."""
    with written(service, domain_id) as (connection, _domain, vault):
        session = sessions.find(connection, domain_id, name, service.store.clock())
        assert session is not None
        assert session.stream_started_at is not None
        for purpose in purposes:
            heard: dict[str, Any] = {
                "purpose": purpose,
                "stream": session.stream,
                "started_at": session.stream_started_at,
                "ended_at": session.stream_started_at + timedelta(seconds=voice.net_speech_s),
                "net_speech_s": voice.net_speech_s,
                "snr_db": voice.snr_db,
                "model_id": voice.model_id,
                "vector": voice.vector,
                "fingerprint": voice.fingerprint if purpose == FRAUD else None,
                "spoofing_score": 7 if purpose == FRAUD else None,
                **more,
            }
            hearing = Hearing(**heard)
            session_hearings.save_hearing(connection, session.seal(vault), session.session_id, hearing)
    return hearing
