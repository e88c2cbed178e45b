"""A service to attack without its wire: real operations on a real store, asked by a user with few rights.

The attacker gives embeddings instead of recordings: whoever controls the sound can come close to any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection

from leakage_attack import Floats
from sonant.assembly import installation
from sonant.iam import parse
from sonant.ids import new_generated_id
from sonant.operations import OPERATIONS
from sonant.operations.service import Answer, Caller, Service
from sonant.settings import Quotas, Scores, Settings
from sonant.storage.crypto.vault import Vault, open_vault
from sonant.storage.repositories import (
    domains,
    fraud_voices,
    session_samples,
    session_streams,
    sessions,
    speakers,
)
from sonant.storage.repositories.access import Principal
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.session_samples import AUTHENTICATION, FRAUD, SessionSample
from sonant.voice.quality import Quality
from sonant.voice.sample import VoiceSample

#: What the attacker may do: everything with recordings and calls, but neither read a voiceprint nor exact
#: scores.
POLICY = """{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Action": ["voiceid:*", "sonant:*", "kms:*", "iam:PassRole"], "Resource": "*"},
  {"Effect": "Deny", "Action": ["sonant:ExportSpeaker", "sonant:ReadExactScores", "sonant:UnlockSpeaker"],
   "Resource": "*"}]}"""
ALL = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}'
#: Long and quiet speech, for which the calibration asks least.
QUALITY = Quality(net_speech_s=30.0, snr_db=30.0, highpass_300hz=False)


@dataclass
class ProbeListener:
    """Hands out the embedding that the attacker chose."""

    sample: VoiceSample | None = None

    def analyse(
        self,
        role_arn: str,
        s3_uri: str,
        channel: int,
        need_s: float,
        model_id: str | None = None,
        domain: Domain | None = None,
    ) -> VoiceSample:
        assert self.sample is not None
        return self.sample


@dataclass
class Clock:
    """The present, and moved on at will: waiting costs an attacker nothing here."""

    ahead: timedelta = timedelta()
    begun: datetime = field(default_factory=lambda: datetime.now().astimezone())

    def __call__(self) -> datetime:
        return self.begun + self.ahead


@dataclass
class AttackedService:
    """One domain with enrolled speakers."""

    store: installation.Store
    service: Service
    listener: ProbeListener
    clock: Clock
    model_id: str
    domain_id: str = ""
    calls: int = 0
    attacker: int = 1
    """Who asks: the first user, or an accomplice."""
    watched: str = ""
    """The speaker whose voice is the only one on the watchlist."""

    def compare(self, speaker_id: str, probe: Floats, *, exact: bool = False) -> Mapping[str, Any]:
        """Compare a probe with a speaker: the entry of CompareRecording's answer."""
        self.listener.sample = self._sample(probe)
        answer = self.call(
            "CompareRecording",
            exact=exact,
            DomainId=self.domain_id,
            DataAccessRoleArn=f"arn:aws:iam::{self.store.settings.account}:role/sonant",
            AudioSpecification={"S3Uri": "s3://calls/probe.wav", "ChannelId": 0},
            SpeakerIds=[speaker_id],
        )
        found: Mapping[str, Any] = answer["Comparisons"][0]
        return found

    def decide(self, speaker_id: str, probe: Floats, threshold: int) -> Mapping[str, Any]:
        """Bring a probe as the speech of a call and evaluate it: the AuthenticationResult."""
        self.calls += 1
        name = f"call-{self.calls}"
        session: dict[str, Any] = {"DomainId": self.domain_id, "SessionNameOrId": name}
        self.call(
            "StartSession",
            DomainId=self.domain_id,
            SessionName=name,
            SpeakerId=speaker_id,
            AuthenticationConfiguration={"AcceptanceThreshold": threshold},
            IsFraudDetectionEnabled=False,
        )
        try:
            self._bring(name, self._sample(probe))
            found: Mapping[str, Any] = self.call("EvaluateSession", **session)["AuthenticationResult"]
            return found
        finally:
            self.call("EndStream", **session)

    def risk(self, name: str, probe: Floats) -> int:
        """Bring a probe as the speech of a call, against a watchlist that holds only the voice of `name`: the
        RiskScore of known fraudsters."""
        if self.watched != name:
            self._watch(name)
        self.calls += 1
        call = f"call-{self.calls}"
        session: dict[str, Any] = {"DomainId": self.domain_id, "SessionNameOrId": call}
        self.call(
            "StartSession",
            DomainId=self.domain_id,
            SessionName=call,
            FraudDetectionConfiguration={"RiskThreshold": 50},
        )
        try:
            self._bring(call, self._sample(probe), FRAUD)
            result = self.call("EvaluateSession", **session)["FraudDetectionResult"]
            return int(result["RiskDetails"]["KnownFraudsterRisk"]["RiskScore"])
        finally:
            self.call("EndStream", **session)

    def _watch(self, name: str) -> None:
        with self._opened() as (connection, domain, vault):
            speaker = speakers.find(connection, vault, self.domain_id, name)
            assert speaker is not None and not self.watched
            sample = speakers.load_sample(connection, vault, speaker)
            assert sample is not None
            fraud_voices.register(
                connection,
                vault,
                domain_id=self.domain_id,
                fraudster_id=new_generated_id(),
                watchlist_id=domain.default_watchlist_id,
                sample=sample,
                now=self.clock(),
            )
        self.watched = name

    def unlock(self, speaker_id: str) -> None:
        """Do what an administrator does after an alert."""
        self.call("UnlockSpeaker", exact=True, DomainId=self.domain_id, SpeakerId=speaker_id)

    def call(self, operation: str, *, exact: bool = False, **request: Any) -> Answer:
        account = self.store.settings.account
        principal = Principal(
            arn=f"arn:aws:iam::{account}:user/{'owner' if exact else f'attacker-{self.attacker}'}",
            account_id=account,
            policies=(parse(ALL if exact else POLICY),),
            tags={},
        )
        caller = Caller(principal=principal, region=self.store.settings.region)
        answer = OPERATIONS[operation](self.service, caller, request)
        assert answer is not None
        return answer

    def _sample(self, probe: Floats) -> VoiceSample:
        return VoiceSample(model_id=self.model_id, vector=probe.astype(np.float32), quality=QUALITY)

    def _bring(self, name: str, sample: VoiceSample, purpose: str = AUTHENTICATION) -> None:
        now = self.clock()
        with self._opened() as (connection, _, vault):
            session = sessions.find(connection, self.domain_id, name, now)
            assert session is not None
            until = now + timedelta(hours=1)
            session_streams.claim(connection, session.session_id, session.stream, "attack", now, until)
            spoken = SessionSample(
                purpose=purpose,
                stream=session.stream,
                started_at=now,
                ended_at=now,
                sample=sample,
            )
            session_samples.save_sample(connection, session.seal(vault), session.session_id, spoken)

    @contextmanager
    def _opened(self) -> Iterator[tuple[Connection, Domain, Vault]]:
        with self.store.database.write() as connection:
            domain = domains.find_by_id(connection, self.domain_id)
            assert domain is not None
            keys = self.store.backends.keys(domain.account_id, domain.region)
            yield (
                connection,
                domain,
                open_vault(keys, domain.domain_id, domain.arn, domain.data_key_wrapped),
            )


@contextmanager
def attacked(
    data: Path, model_id: str, voices: Mapping[str, VoiceSample], scores: Scores
) -> Iterator[AttackedService]:
    """Open a data folder with a domain in which these voices are enrolled."""
    clock, listener = Clock(), ProbeListener()
    quotas = Quotas(active_sessions_per_domain=1000)
    settings = Settings(data=data, scores=scores, quotas=quotas)
    store = installation.open_store(settings, create=True, clock=clock)
    try:
        installation.first_start(store)
        service = Service(
            settings=settings,
            database=store.database,
            keys_of=store.backends.keys,
            secret=store.secret,
            listener=listener,
            clock=clock,
        )
        found = AttackedService(
            store=store, service=service, listener=listener, clock=clock, model_id=model_id
        )
        domain = found.call(
            "CreateDomain",
            exact=True,
            Name="attacked",
            ServerSideEncryptionConfiguration={"KmsKeyId": installation.DEFAULT_ALIAS},
        )["Domain"]
        found.domain_id = domain["DomainId"]
        _enroll(found, voices)
        yield found
    finally:
        store.database.close()


def _enroll(attacked_service: AttackedService, voices: Mapping[str, VoiceSample]) -> None:
    store, now = attacked_service.store, attacked_service.clock()
    with store.database.write() as connection:
        domain = domains.find_by_id(connection, attacked_service.domain_id)
        assert domain is not None
        keys = store.backends.keys(domain.account_id, domain.region)
        vault = open_vault(keys, domain.domain_id, domain.arn, domain.data_key_wrapped)
        for name, sample in voices.items():
            speaker_id = new_generated_id()
            seal = speakers.add(
                connection,
                vault,
                domain_id=domain.domain_id,
                speaker_id=speaker_id,
                customer_id=name,
                status="PENDING",
                now=now,
            )
            # As noisy as the probes: the attacker then knows the calibration that is used.
            enrolled = replace(sample, quality=QUALITY)
            speakers.enroll(connection, seal, speaker_id, enrolled, now)
