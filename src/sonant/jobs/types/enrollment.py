"""Speaker enrollment jobs: look the speaker up, listen if need be, decide, store."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from sonant.events.documents import (
    ErrorInfo,
    Event,
    batch_enrollment_event,
    fraud_detection_event,
    speaker_event,
)
from sonant.ids import new_generated_id
from sonant.jobs import result
from sonant.jobs.calibration_cache import CalibrationCache
from sonant.jobs.decide import Config, after_listening, before_listening, state_of
from sonant.jobs.entry import Prepared, Task
from sonant.jobs.faults import Refusal
from sonant.jobs.fraud import Risk, known_fraudster, told, with_replay
from sonant.jobs.fraudster_gallery import FraudsterGallery, Sample
from sonant.jobs.job_type import Heard, Item, JobContext, Lines, Outcome
from sonant.jobs.manifest import EnrollmentRequest, Request
from sonant.jobs.replay import ReplayDetector, ReplayMatch
from sonant.jobs.states import Status
from sonant.jobs.voiceprints import store_voiceprint
from sonant.storage.crypto.vault import Vault
from sonant.storage.objects.store import ObjectUri
from sonant.storage.repositories import jobs, speakers
from sonant.storage.repositories.domains import Domain
from sonant.voice.models import shipped_encoder_id
from sonant.voice.replay.fingerprint import Fingerprint

log = logging.getLogger(__name__)


class EnrollmentKind:
    """See `kind.Kind`."""

    name = jobs.ENROLLMENT

    def processor(self, context: JobContext) -> EnrollmentDecider:
        return EnrollmentDecider(context)

    def result_files(self, output: ObjectUri, lines: Lines) -> Iterable[tuple[ObjectUri, Iterator[bytes]]]:
        errors, successes = ((line for _, line in lines(failed)) for failed in (True, False))
        yield output, result.result_file(errors, successes, "SuccessfulEnrollments")

    def told(self, domain: Domain, job: jobs.Job, status: Status, error: ErrorInfo | None) -> Event:
        return batch_enrollment_event(domain, job, status, error)


class EnrollmentDecider:
    """See `kind.Decider`. Requests for one speaker are done one after the other."""

    def __init__(self, context: JobContext) -> None:
        fraud = context.job.config["FraudDetectionConfig"]
        self.context = context
        self.config = Config(
            overwrite=context.job.config["ExistingEnrollmentAction"] == "OVERWRITE",
            fraud_action=fraud["FraudDetectionAction"],
            risk_threshold=fraud["RiskThreshold"],
        )
        self.model_id = context.model_id or shipped_encoder_id()
        self._watchlist_id: str | None = next(iter(fraud.get("WatchlistIds", ())), None)
        self._gallery: FraudsterGallery | None = None
        self._replays: ReplayDetector | None = None

    def dedup_key(self, vault: Vault, request: Request) -> bytes | None:
        return vault.lookup(_speaker_of(request))

    def task(self, item: Item) -> Task | None:
        with self.context.database.read() as connection:
            standing = speakers.find_status(connection, self.context.job.domain_id, item.dedup_key or b"")
        if before_listening(state_of(standing, self.model_id), self.config) is not None:
            return None
        guard = self.config.fraud_action != "IGNORE"
        need_s = self.context.settings.enrollment.net_speech_s
        return self.context.task(item, need_s, guard=guard, risk_threshold=self.config.risk_threshold)

    def batch(
        self, connection: Connection, domain: Domain, vault: Vault, done: Sequence[tuple[Item, Heard]]
    ) -> EnrollmentSitting:
        if self._gallery is None:
            self._gallery = FraudsterGallery(
                domain.domain_id, self._watchlist_id or domain.default_watchlist_id
            )
        if self._replays is None:
            self._replays = ReplayDetector(domain.domain_id, self.context.settings.fraud.replay_recordings)
        heard = {item.entry.request_id: one for item, one in done if isinstance(one, Prepared)}
        if heard:
            self._gallery.follow(connection, vault, domain.fraudsters_version)
        if any(one.fingerprint for one in heard.values()):
            self._replays.follow(connection, vault)
        return EnrollmentSitting(self, connection, domain, vault, self._gallery, self._replays, heard)


class EnrollmentSitting:
    """See `kind.Sitting`."""

    def __init__(
        self,
        processor: EnrollmentDecider,
        connection: Connection,
        domain: Domain,
        vault: Vault,
        gallery: FraudsterGallery,
        replays: ReplayDetector,
        heard: Mapping[str, Prepared],
    ) -> None:
        """`heard` is by request id."""
        self._processor, self._context = processor, processor.context
        self._connection, self._domain, self._vault = connection, domain, vault
        self._gallery, self._replays = gallery, replays
        self._scales = CalibrationCache(connection, domain.domain_id, self._context.calibration_of)
        samples = [Sample(model_id=one.model_id, vector=one.vector) for one in heard.values()]
        self._nearest = dict(zip(heard, gallery.nearest(samples), strict=True))
        self._present: int | None = None  # speakers of the domain, counted when first needed

    def settle(self, request: Request, heard: Heard) -> Outcome:
        customer_id = _speaker_of(request)
        speaker = speakers.find(self._connection, self._vault, self._domain.domain_id, customer_id)
        status = state_of(
            speakers.find_status(self._connection, self._domain.domain_id, self._vault.lookup(customer_id)),
            self._processor.model_id,
        )
        details: dict[str, Any] = {}
        if isinstance(heard, Prepared):
            copy = self._copy(heard, None if speaker is None else speaker.speaker_id)
            risks = (self._known_risk(request, heard), *with_replay(heard.risks, copy))
            heard = replace(heard, risks=risks)
            details = self._details(request, heard)
        if heard is None:
            outcome = before_listening(status, self._processor.config) or Refusal(
                409, "the speaker was deleted or changed while the job ran; submit the request again"
            )
        else:
            outcome = after_listening(
                status,
                self._processor.config,
                heard,
                speakers_present=self._count() if isinstance(heard, Prepared) else 0,
                quota=self._context.settings.quotas.speakers_per_domain,
            )
        if isinstance(outcome, Refusal):
            return Outcome.refused(request.request_id, outcome, details)
        speaker_id = new_generated_id() if speaker is None else speaker.speaker_id
        if isinstance(heard, Prepared) and outcome != "DUPLICATE_SKIPPED":
            self._store(speaker, speaker_id, customer_id, heard)
        line = result.enrollment_line(request.request_id, speaker_id, customer_id, outcome)
        return Outcome(line=line, label=outcome, details=details)

    def events(self, outcome: Outcome) -> Sequence[Event]:
        speaker_id, job_id = outcome.line.get("GeneratedSpeakerId"), self._context.job.job_id
        enrolled = speaker_event(
            self._domain,
            "ENROLL_SPEAKER",
            speaker_id=speaker_id,
            error=outcome.error,
            source="BATCH_ENROLLMENT",
            source_id=job_id,
            enrollment_status=outcome.line.get("EnrollmentStatus"),
        )
        if not outcome.details:
            return (enrolled,)
        detected = fraud_detection_event(
            self._domain,
            speaker_id=speaker_id,
            source="BATCH_ENROLLMENT",
            source_id=job_id,
            found=outcome.details,
        )
        return (detected, enrolled)

    def committed(self) -> None:
        pass

    def _known_risk(self, request: Request, heard: Prepared) -> Risk:
        scale = self._scales.of(heard.model_id)
        tail = scale.tail(heard.net_speech_s, heard.snr_db, highpass_300hz=heard.highpass_300hz)
        return known_fraudster(self._nearest[request.request_id], self._gallery.size(heard.model_id), tail)

    def _copy(self, heard: Prepared, speaker_id: str | None) -> ReplayMatch | None:
        """The recording of another speaker that this one repeats."""
        if heard.fingerprint is None:
            return None
        found = Fingerprint.from_bytes(heard.fingerprint)
        return self._replays.find(self._connection, self._vault, found, speaker_id)

    def _details(self, request: Request, heard: Prepared) -> dict[str, Any]:
        """What detection found, for the event and, when it is grave, for the log."""
        found = told(
            heard.risks,
            risk_threshold=self._processor.config.risk_threshold,
            watchlist_id=self._gallery.watchlist_id or "",
        )
        if found["reasons"]:
            log.info("job %s: a request is flagged: %s", self._context.job.job_id, found)
        return found

    def _count(self) -> int:
        if self._present is None:
            self._present = speakers.count(self._connection, self._domain.domain_id)
        return self._present

    def _store(
        self, speaker: speakers.Speaker | None, speaker_id: str, customer_id: str, heard: Prepared
    ) -> None:
        now = self._context.clock()
        if speaker is None:
            self._present = self._count() + 1
            seal = speakers.add(
                self._connection,
                self._vault,
                domain_id=self._domain.domain_id,
                speaker_id=speaker_id,
                customer_id=customer_id,
                status="PENDING",
                now=now,
            )
        else:
            seal = speaker.seal(self._vault)
        domain_id = self._domain.domain_id
        store_voiceprint(
            self._connection, self._vault, domain_id, speaker_id, seal, heard, now, before=speaker
        )
        if heard.fingerprint is not None:
            self._replays.store(self._connection, self._vault, seal, speaker_id, heard.fingerprint, now)


def _speaker_of(request: Request) -> str:
    assert isinstance(request, EnrollmentRequest)
    return request.speaker_id
