"""Fraudster registration jobs: process recordings, search the domain for the same voice, decide, store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy import Connection

from sonant.errors import quota_sentence
from sonant.events.documents import Event, batch_registration_event, fraudster_event
from sonant.events.error_info import ErrorInfo
from sonant.ids import new_generated_id
from sonant.jobs.calibration_cache import CalibrationCache
from sonant.jobs.entry import Task, TaskResult
from sonant.jobs.faults import Refusal
from sonant.jobs.fraud import KNOWN_FRAUDSTER, Risk
from sonant.jobs.fraudster_gallery import FraudsterGallery
from sonant.jobs.job_type import EntryResult, JobContext, Lines, Outcome, WorkItem
from sonant.jobs.manifest import Request
from sonant.jobs.result import registration_line, result_file
from sonant.jobs.risk_limits import JOBS, RiskLimits
from sonant.jobs.score_limits import probe_digest
from sonant.jobs.second_voices import log_second_voices
from sonant.jobs.states import Status
from sonant.storage.crypto.vault import Vault
from sonant.storage.objects.store import ObjectUri
from sonant.storage.repositories import fraud_voices, jobs, watchlists
from sonant.storage.repositories.domains import Domain
from sonant.voice.disclosure import RISK_BANDS, coarse_score
from sonant.voice.sample import VoiceSample
from sonant.voice.scoring import fraudster_similarity
from sonant.voice.search import Match


class RegistrationJobType:
    """Implements `JobType` for fraudster registration."""

    name = jobs.REGISTRATION

    def processor(self, context: JobContext) -> RegistrationProcessor:
        return RegistrationProcessor(context)

    def result_files(self, output: ObjectUri, lines: Lines) -> Iterable[tuple[ObjectUri, Iterator[bytes]]]:
        errors, successes = ((line for _, line in lines(failed)) for failed in (True, False))
        yield output, result_file(errors, successes, "SuccessfulRegistrations")

    def end_event(self, domain: Domain, job: jobs.Job, status: Status, error: ErrorInfo | None) -> Event:
        return batch_registration_event(domain, job, status, error)


class RegistrationProcessor:
    """Implements `EntryProcessor`."""

    def __init__(self, context: JobContext) -> None:
        config = context.job.config
        self.context = context
        self.skip_duplicates = config["DuplicateRegistrationAction"] == "SKIP"
        self.threshold: int = config["FraudsterSimilarityThreshold"]
        self.watchlist_id: str | None = next(iter(config.get("WatchlistIds", ())), None)
        self.gallery = FraudsterGallery(context.job.domain_id, None)

    def dedup_key(self, vault: Vault, request: Request) -> bytes | None:
        return None

    def tasks(self, items: Sequence[WorkItem]) -> list[Task | None]:
        registration = self.context.settings.registration
        return [
            self.context.task(item, registration.net_speech_s, second_voice=registration.second_voice)
            for item in items
        ]

    def batch(
        self,
        connection: Connection,
        domain: Domain,
        vault: Vault,
        done: Sequence[tuple[WorkItem, EntryResult]],
    ) -> RegistrationTransaction:
        log_second_voices(self.context.job.job_id, done)
        return RegistrationTransaction(self, connection, domain, vault, done)


class RegistrationTransaction:
    """Implements `BatchTransaction`. Voices registered earlier in the same transaction are compared, too."""

    def __init__(
        self,
        processor: RegistrationProcessor,
        connection: Connection,
        domain: Domain,
        vault: Vault,
        done: Sequence[tuple[WorkItem, EntryResult]],
    ) -> None:
        self._processor, self._context = processor, processor.context
        self._connection, self._domain, self._vault = connection, domain, vault
        self._calibrations = CalibrationCache(connection, domain.domain_id, self._context.calibration_of)
        self._watchlist_id = processor.watchlist_id or domain.default_watchlist_id
        self._new: dict[str, tuple[VoiceSample, int]] = {}  # registered in this transaction: voice, version
        self._nearest: dict[str, Match | None] = {}  # by request id, among those known before
        self._limits = RiskLimits(
            settings=self._context.settings, now=self._context.clock(), principal_arn=JOBS
        )
        self._events: list[Event] = []  # of limits that decisions have used up
        # No other registration may come between the comparison and the commit.
        version = fraud_voices.version(connection, domain.domain_id, lock=True)
        if processor.skip_duplicates:
            processor.gallery.refresh(connection, vault, version)
            samples = {item.entry.request_id: one.sample for item, one in done if isinstance(one, TaskResult)}
            self._nearest = dict(zip(samples, processor.gallery.nearest(list(samples.values())), strict=True))

    def decide(self, request: Request, result: EntryResult) -> Outcome:
        if not isinstance(result, TaskResult):
            refusal = result or Refusal(500, "the recording was not processed")
            return Outcome.refused(request.request_id, refusal)
        if self._processor.skip_duplicates and (found := self._duplicate(request, result.sample)):
            fraudster_id, score = found
            line = registration_line(request.request_id, fraudster_id, "DUPLICATE_SKIPPED", score)
            return Outcome(line=line, label="DUPLICATE_SKIPPED")
        full = self._quota_refusal()
        if full is not None:
            return Outcome.refused(request.request_id, full)
        fraudster_id = self._register(result)
        line = registration_line(request.request_id, fraudster_id, "NEW_REGISTRATION", None)
        return Outcome(line=line, label="NEW_REGISTRATION")

    def write(self) -> None:
        pass

    def events(self, outcome: Outcome) -> Sequence[Event]:
        fraudster_id = outcome.line.get("GeneratedFraudsterId")
        lists: tuple[str, ...] = (self._watchlist_id,)
        if outcome.label == "DUPLICATE_SKIPPED" and fraudster_id is not None:
            known = watchlists.find_fraudster(self._connection, self._domain.domain_id, fraudster_id)
            lists = known.watchlist_ids if known is not None else ()
        registered = fraudster_event(
            self._domain,
            "REGISTER_FRAUDSTER",
            fraudster_id=fraudster_id,
            watchlist_ids=lists,
            error=outcome.error,
            source="BATCH_REGISTRATION",
            source_id=self._context.job.job_id,
            registration_status=outcome.line.get("RegistrationStatus"),
        )
        found, self._events = self._events, []
        return (*found, registered)

    def committed(self) -> None:
        if self._processor.skip_duplicates:
            for fraudster_id, (sample, version) in self._new.items():
                self._processor.gallery.add(fraudster_id, sample, version)

    def _duplicate(self, request: Request, sample: VoiceSample) -> tuple[str, int] | None:
        """Find the fraudster with the same voice, and the band of the score; None for a new voice, and for
        one whose likeness may not be told."""
        best = self._nearest[request.request_id]
        new = {key: one for key, (one, _) in self._new.items() if one.model_id == sample.model_id}
        for key, other in new.items():
            similarity = other.similarity(sample)
            if best is None or similarity > best.similarity:
                best = Match(key=key, similarity=similarity)
        if best is None:
            return None
        known = self._processor.gallery.size(sample.model_id) + len(new)
        tail = self._calibrations.of(sample.model_id).tail_for(sample.quality)
        score = fraudster_similarity(best.similarity, known, tail)
        threshold = self._processor.threshold
        if score < threshold:
            return None
        found = Risk(name=KNOWN_FRAUDSTER, score=score, fraudster_id=best.key)
        probe = probe_digest(self._vault, sample, threshold)
        told, events = self._limits.apply(self._connection, self._domain, found, probe, threshold=threshold)
        self._events += events
        if told.fraudster_id is None:
            return None
        return best.key, coarse_score(score, RISK_BANDS, threshold=threshold)

    def _quota_refusal(self) -> Refusal | None:
        if watchlists.find(self._connection, self._domain.domain_id, self._watchlist_id) is None:
            return Refusal(404, "the watchlist was deleted while the job ran")
        limit = self._context.settings.quotas.fraudsters_per_watchlist
        if watchlists.size(self._connection, self._watchlist_id) >= limit:
            return Refusal(402, quota_sentence("fraudsters_per_watchlist", limit))
        return None

    def _register(self, result: TaskResult) -> str:
        fraudster_id = new_generated_id()
        fraud_voices.register(
            self._connection,
            self._vault,
            domain_id=self._domain.domain_id,
            fraudster_id=fraudster_id,
            watchlist_id=self._watchlist_id,
            sample=result.sample,
            audio=result.audio,
            now=self._context.clock(),
        )
        version = fraud_voices.version(self._connection, self._domain.domain_id)
        self._new[fraudster_id] = (result.sample, version)
        return fraudster_id
