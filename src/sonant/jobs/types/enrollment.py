"""Speaker enrollment jobs: find the speaker, process recordings if needed, decide, store."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from sonant.errors import IntegrityFault, SealBroken
from sonant.events.documents import Event, batch_enrollment_event, fraud_detection_event, speaker_event
from sonant.events.error_info import ErrorInfo
from sonant.ids import new_generated_id
from sonant.jobs.calibration_cache import CalibrationCache
from sonant.jobs.decide import (
    DAMAGED_SPEAKER,
    DELETED_SINCE,
    NO_CONSENT,
    Config,
    decide_by_status,
    decide_outcome,
    enrollment_state,
    is_void,
)
from sonant.jobs.entry import Task, TaskResult
from sonant.jobs.faults import Refusal
from sonant.jobs.fraud import (
    KNOWN_FRAUDSTER,
    Risk,
    describe_flags,
    known_fraudster,
    risk_details,
    with_replay,
)
from sonant.jobs.fraudster_gallery import FraudsterGallery
from sonant.jobs.job_type import EntryResult, JobContext, Lines, Outcome, WorkItem
from sonant.jobs.manifest import EnrollmentRequest, Request
from sonant.jobs.replay import AcceptedRecordings, ReplayDetector, ReplayMatch, load_apart
from sonant.jobs.result import enrollment_line, result_file
from sonant.jobs.risk_limits import JOBS, RiskLimits
from sonant.jobs.score_limits import probe_digest
from sonant.jobs.second_voices import log_second_voices
from sonant.jobs.speaker_lookup import SpeakerLookup
from sonant.jobs.states import Status
from sonant.jobs.voiceprints import store_voiceprint
from sonant.storage.crypto.vault import Vault
from sonant.storage.objects.store import ObjectUri
from sonant.storage.repositories import domains, jobs, speaker_groups, speakers, voiceprints
from sonant.storage.repositories.consents import with_consent
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.speaker_groups import NewSpeaker
from sonant.voice.models import shipped_encoder_id
from sonant.voice.replay.fingerprint import Fingerprint

log = logging.getLogger(__name__)


class EnrollmentJobType:
    """Implements `JobType` for speaker enrollment."""

    name = jobs.ENROLLMENT

    def processor(self, context: JobContext) -> EnrollmentProcessor:
        return EnrollmentProcessor(context)

    def result_files(self, output: ObjectUri, lines: Lines) -> Iterable[tuple[ObjectUri, Iterator[bytes]]]:
        errors, successes = ((line for _, line in lines(failed)) for failed in (True, False))
        yield output, result_file(errors, successes, "SuccessfulEnrollments")

    def end_event(self, domain: Domain, job: jobs.Job, status: Status, error: ErrorInfo | None) -> Event:
        return batch_enrollment_event(domain, job, status, error)


class EnrollmentProcessor:
    """Implements `EntryProcessor`. Entries of one speaker are processed one after the other."""

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

    def tasks(self, items: Sequence[WorkItem]) -> list[Task | None]:
        self._load_fingerprints()
        with self.context.database.read() as connection:
            known = SpeakerLookup(connection, self.context.job.domain_id, _hashes(items))
            domain = domains.find_by_id(connection, self.context.job.domain_id)
            if domain is None:
                return [None for _ in items]
            allowed = with_consent(connection, domain, _hashes(items), self.context.clock())
            # Recordings of people who have not consented are not even read.
            return [self._task(item, known) if item.dedup_key in allowed else None for item in items]

    def _load_fingerprints(self) -> None:
        """Read the domain's fingerprints before the first commit, which would hold up all other writers."""
        context = self.context
        if self._replays is not None or self.config.fraud_action == "IGNORE":
            return
        capacity = context.settings.fraud.replay_recordings
        replays = ReplayDetector(context.job.domain_id, capacity)
        if capacity:
            load_apart(context, replays.load)
        self._replays = replays

    def _task(self, item: WorkItem, known: SpeakerLookup) -> Task | None:
        try:
            standing = known.status(item.dedup_key or b"")
        except IntegrityFault:
            return None  # the decision meets it too
        if decide_by_status(enrollment_state(standing, self.model_id), self.config) is not None:
            return None
        return self.context.task(
            item,
            self.context.settings.enrollment.net_speech_s,
            second_voice=self.context.settings.enrollment.second_voice,
            detect_fraud=self.config.fraud_action != "IGNORE",
            risk_threshold=self.config.risk_threshold,
        )

    def batch(
        self,
        connection: Connection,
        domain: Domain,
        vault: Vault,
        done: Sequence[tuple[WorkItem, EntryResult]],
    ) -> EnrollmentTransaction:
        log_second_voices(self.context.job.job_id, done)
        if self._gallery is None:
            self._gallery = FraudsterGallery(
                domain.domain_id, self._watchlist_id or domain.default_watchlist_id
            )
        if self._replays is None:
            self._replays = ReplayDetector(domain.domain_id, self.context.settings.fraud.replay_recordings)
        results = {item.entry.request_id: one for item, one in done if isinstance(one, TaskResult)}
        if results:
            self._gallery.refresh(connection, vault, domain.fraudsters_version)
        if any(one.fingerprint for one in results.values()):
            self._replays.refresh(connection, vault)
        hashes = {item.entry.request_id: item.dedup_key for item, _ in done if item.dedup_key is not None}
        known = SpeakerLookup(connection, domain.domain_id, list(hashes.values()))
        return EnrollmentTransaction(
            self, connection, domain, vault, self._gallery, self._replays, results, hashes, known
        )


class EnrollmentTransaction:
    """Implements `BatchTransaction`."""

    def __init__(
        self,
        processor: EnrollmentProcessor,
        connection: Connection,
        domain: Domain,
        vault: Vault,
        gallery: FraudsterGallery,
        replays: ReplayDetector,
        results: Mapping[str, TaskResult],
        hashes: Mapping[str, bytes],
        known: SpeakerLookup,
    ) -> None:
        """`results`, and keyed `hashes` of the customers' ids, are by request id."""
        self._processor, self._context = processor, processor.context
        self._connection, self._domain, self._vault = connection, domain, vault
        self._gallery, self._replays, self._hashes, self._known = gallery, replays, hashes, known
        self._new: list[NewSpeaker] = []  # that are not written yet, as their recordings
        self._fingerprints: dict[str, bytes] = {}  # of new speakers, by generated id
        self._consenting = with_consent(connection, domain, [*hashes.values()], self._context.clock())
        self._accepted = AcceptedRecordings()
        self._calibrations = CalibrationCache(connection, domain.domain_id, self._context.calibration_of)
        samples = [one.sample for one in results.values()]
        self._nearest = dict(zip(results, gallery.nearest(samples), strict=True))
        self._present: int | None = None  # speakers of the domain, counted on first use
        self._limits = RiskLimits(
            settings=self._context.settings, now=self._context.clock(), principal_arn=JOBS
        )
        self._events: list[Event] = []  # of limits that decisions have used up

    def decide(self, request: Request, result: EntryResult) -> Outcome:
        try:
            return self._decide(request, result)
        except (IntegrityFault, SealBroken) as fault:  # of one speaker: no others are refused for it
            log.error("job %s: %s", self._context.job.job_id, fault)
            return Outcome.refused(request.request_id, DAMAGED_SPEAKER, {})

    def _decide(self, request: Request, result: EntryResult) -> Outcome:
        customer_id = _speaker_of(request)
        hashed = self._hashes[request.request_id]
        refusal = self._early_refusal(hashed)
        if refusal is not None:
            return Outcome.refused(request.request_id, refusal)
        speaker = self._known.speaker(hashed)
        if speaker is not None:
            speaker.require(self._vault, customer_id)
        status = enrollment_state(self._known.status(hashed), self._processor.model_id)
        details: dict[str, Any] = {}
        if isinstance(result, TaskResult):
            replay = self._replay(result, None if speaker is None else speaker.speaker_id)
            risks = (self._told_risk(request, result), *with_replay(result.risks, replay))
            result = replace(result, risks=risks)
            details = self._details(result)
        if result is None:
            outcome = decide_by_status(status, self._processor.config) or Refusal(
                409, "the speaker was deleted or changed while the job ran; submit the request again"
            )
        else:
            outcome = decide_outcome(
                status,
                self._processor.config,
                result,
                speakers_present=self._count() if isinstance(result, TaskResult) else 0,
                quota=self._context.settings.quotas.speakers_per_domain,
            )
        if isinstance(outcome, Refusal):
            return Outcome.refused(request.request_id, outcome, details)
        speaker_id = new_generated_id() if speaker is None else speaker.speaker_id
        if isinstance(result, TaskResult) and outcome != "DUPLICATE_SKIPPED":
            self._store(speaker, speaker_id, request, result)
        line = enrollment_line(request.request_id, speaker_id, customer_id, outcome)
        return Outcome(line=line, label=outcome, details=details)

    def _early_refusal(self, customer_id_hash: bytes) -> Refusal | None:
        """Return why a request fails whatever the recordings hold."""
        if is_void(self._known.erased(customer_id_hash), self._context.job.created_at):
            return DELETED_SINCE
        standing = self._known.status(customer_id_hash)
        opted_out = standing is not None and standing.status == "OPTED_OUT"  # which tells more
        return None if opted_out or customer_id_hash in self._consenting else NO_CONSENT

    def write(self) -> None:
        now, domain_id = self._context.clock(), self._domain.domain_id
        seals = speaker_groups.enroll_new(self._connection, self._vault, domain_id, self._new, now)
        voiceprints.add_first_fingerprints(
            self._connection,
            domain_id,
            [
                (seal, one.speaker_id, self._fingerprints[one.speaker_id])
                for seal, one in zip(seals, self._new, strict=True)
                if one.speaker_id in self._fingerprints
            ],
            now,
        )

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
        found, self._events = self._events, []
        if not outcome.details:
            return (*found, enrolled)
        detected = fraud_detection_event(
            self._domain,
            speaker_id=speaker_id,
            source="BATCH_ENROLLMENT",
            source_id=job_id,
            found=outcome.details,
        )
        return (*found, detected, enrolled)

    def committed(self) -> None:
        pass

    def _told_risk(self, request: Request, result: TaskResult) -> Risk:
        """Score the risk of known fraudsters, as far as it may be told."""
        known = self._known_risk(request, result)
        if known.fraudster_id is None:
            return known
        threshold = self._processor.config.risk_threshold
        probe = probe_digest(self._vault, result.sample, threshold)
        risk, events = self._limits.apply(self._connection, self._domain, known, probe, threshold=threshold)
        self._events += events
        return risk

    def _known_risk(self, request: Request, result: TaskResult) -> Risk:
        sample, nearest = result.sample, self._nearest[request.request_id]
        if nearest is None:
            return Risk(name=KNOWN_FRAUDSTER, score=0)
        tail = self._calibrations.of(sample.model_id).tail_for(sample.quality)
        return known_fraudster(nearest, self._gallery.size(sample.model_id), tail)

    def _replay(self, result: TaskResult, speaker_id: str | None) -> ReplayMatch | None:
        """Find a recording of another speaker that this one repeats."""
        if result.fingerprint is None:
            return None
        fingerprint = Fingerprint.from_bytes(result.fingerprint)
        stored = self._replays.find(self._connection, self._vault, fingerprint, speaker_id)
        accepted = self._accepted.find(fingerprint)
        found = [one for one in (stored, accepted) if one is not None]
        return max(found, key=lambda one: one.pairs, default=None)

    def _details(self, result: TaskResult) -> dict[str, Any]:
        """Build the findings for the event, and log them if the entry is flagged."""
        details = risk_details(
            result.risks,
            risk_threshold=self._processor.config.risk_threshold,
            watchlist_id=self._gallery.watchlist_id or "",
        )
        if details["reasons"]:
            flags = describe_flags(details)
            log.info("job %s: a request is flagged: %s", self._context.job.job_id, flags)
        return details

    def _count(self) -> int:
        if self._present is None:
            self._present = speakers.count(self._connection, self._domain.domain_id)
        return self._present

    def _store(
        self, speaker: speakers.Speaker | None, speaker_id: str, request: Request, result: TaskResult
    ) -> None:
        if speaker is None:
            self._present = self._count() + 1
            new = NewSpeaker(
                speaker_id=speaker_id,
                customer_id=_speaker_of(request),
                customer_id_hash=self._hashes[request.request_id],
                sample=result.sample,
                audio=result.audio,
            )
            self._new.append(new)
            if result.fingerprint is not None:
                self._fingerprints[speaker_id] = result.fingerprint
                self._accepted.add(speaker_id, Fingerprint.from_bytes(result.fingerprint))
            return
        now, domain_id = self._context.clock(), self._domain.domain_id
        seal = store_voiceprint(self._connection, self._vault, domain_id, speaker, result, now)
        if result.fingerprint is not None:
            self._replays.store(self._connection, self._vault, seal, speaker_id, result.fingerprint, now)


def _hashes(items: Iterable[WorkItem]) -> list[bytes]:
    return [item.dedup_key for item in items if item.dedup_key is not None]


def _speaker_of(request: Request) -> str:
    assert isinstance(request, EnrollmentRequest)
    return request.speaker_id
