"""Dry runs of speaker enrollment: every recording is inspected and reported; no speaker is enrolled.

Decisions are those of the job, in manifest order. Report lines are stored sealed with the job's requests
until the report is written, and deleted with them.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import islice

from sqlalchemy import Connection

from sonant.errors import IntegrityFault, ProbeBudgetUsed, SealBroken, SpeakerLocked
from sonant.events.documents import Event
from sonant.events.error_info import ErrorInfo
from sonant.jobs.batch import open_lines
from sonant.jobs.calibration_cache import CalibrationCache
from sonant.jobs.decide import (
    DAMAGED_SPEAKER,
    DELETED_SINCE,
    ENROLLS,
    NO_CONSENT,
    Config,
    OutcomePredictor,
    enrollment_state,
    is_void,
)
from sonant.jobs.entry import Task, TaskResult
from sonant.jobs.faults import Refusal
from sonant.jobs.fraud import Risk
from sonant.jobs.fraud_preview import EntryRef, FraudPreview
from sonant.jobs.inspect import InspectionResult, VoiceprintComparison
from sonant.jobs.job_type import EntryResult, JobContext, Lines, Outcome, WorkItem
from sonant.jobs.manifest import EnrollmentRequest, Request
from sonant.jobs.replay import load_apart
from sonant.jobs.report import report_files
from sonant.jobs.report_line import ERROR, FINGERPRINT, PROTECTED_VOICE, protect_line, report_line
from sonant.jobs.risk_limits import JOBS, RiskLimits
from sonant.jobs.score_limits import DRY_RUN, ScoreLimits, probe_digest
from sonant.jobs.speaker_lookup import SpeakerLookup
from sonant.jobs.states import Status
from sonant.storage.crypto.template_spaces import spaces_of_job
from sonant.storage.crypto.vault import Vault
from sonant.storage.objects.store import ObjectUri
from sonant.storage.repositories import erasure, jobs, speakers, templates
from sonant.storage.repositories.consents import with_consent
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.speakers import SpeakerStatus
from sonant.voice.disclosure import SCORE_BANDS, coarse_score
from sonant.voice.models import shipped_encoder_id

log = logging.getLogger(__name__)

#: Opens a connection for reading.
Read = Callable[[], AbstractContextManager[Connection]]


class DryRunJobType:
    """Implements `JobType` for dry runs."""

    name = jobs.DRY_RUN

    def processor(self, context: JobContext) -> DryRunProcessor:
        return DryRunProcessor(context)

    def result_files(self, output: ObjectUri, lines: Lines) -> Iterable[tuple[ObjectUri, Iterator[bytes]]]:
        page = ObjectUri(output.bucket, output.key + ".html")
        json_pieces, html_pieces = report_files(lines)
        yield output, json_pieces
        yield page, html_pieces

    def end_event(self, domain: Domain, job: jobs.Job, status: Status, error: ErrorInfo | None) -> None:
        """Return no event: a dry run changes nothing."""


class DryRunProcessor:
    """Implements `EntryProcessor`. Entries need not wait for each other: every recording is processed."""

    def __init__(self, context: JobContext) -> None:
        self.context = context
        self.need_s = context.settings.enrollment.net_speech_s
        self.predictor: OutcomePredictor | None = None
        self.model_id = context.model_id or shipped_encoder_id()
        self._fraud = context.job.config["FraudDetectionConfig"]
        self.risk_threshold: int = self._fraud["RiskThreshold"]
        self.fraud_preview = self._new_preview()
        self._erasures = 0
        self._loaded: FraudPreview | None = None
        """The preview that has read the domain's fingerprints."""

    def dedup_key(self, vault: Vault, request: Request) -> bytes | None:
        return None

    def tasks(self, items: Sequence[WorkItem]) -> list[Task | None]:
        self._restore()
        self._load_fingerprints()
        return [self._task(item) for item in items]

    def _load_fingerprints(self) -> None:
        preview, context = self.fraud_preview, self.context
        if self._loaded is preview or self._fraud["FraudDetectionAction"] == "IGNORE":
            return
        if context.settings.fraud.replay_recordings:
            domain_id = context.job.domain_id
            load_apart(
                context, lambda connection, vault, most: preview.load(connection, vault, domain_id, most)
            )
        self._loaded = preview

    def _restore(self) -> None:
        """Rebuild what later decisions depend on, where it is missing, outside of a transaction that commits:
        a run that goes on may have a hundred thousand decisions behind it."""
        database, job_id = self.context.database, self.context.job.job_id
        with database.read() as connection:
            domain, vault = self.context.open_domain(connection)
        if self.predictor is not None and self._erasures == domain.erasures:
            return
        if has_unprotected_lines(database.read, vault, job_id):
            with database.write() as connection:
                self.context.renew_lease(connection)
                protect_lines(connection, vault, job_id)
        self._erasures, self.fraud_preview = domain.erasures, self._new_preview()
        self.predictor = self._restore_predictor(database.read, domain, vault, self._renew_lease)

    def _renew_lease(self) -> None:
        with self.context.database.write() as connection:
            self.context.renew_lease(connection)

    def _task(self, item: WorkItem) -> Task:
        task = self.context.task(
            item,
            self.need_s,
            second_voice=self.context.settings.enrollment.second_voice,
            detect_fraud=self._fraud["FraudDetectionAction"] != "IGNORE",
            risk_threshold=self.risk_threshold,
        )
        return replace(task, inspect=True, keep_audio=False)

    def batch(
        self,
        connection: Connection,
        domain: Domain,
        vault: Vault,
        done: Sequence[tuple[WorkItem, EntryResult]],
    ) -> DryRunTransaction:
        if self.predictor is None or self._erasures != domain.erasures:
            # After an erasure the fingerprints of the others are read again from what is stored of this run.
            # Seldom here: `tasks` has done it, unless the erasure came since.
            self._erasures, self.fraud_preview = domain.erasures, self._new_preview()
            protect_lines(connection, vault, self.context.job.job_id)
            self.predictor = self._restore_predictor(lambda: nullcontext(connection), domain, vault)
        results = {item.entry.request_id: result for item, result in done}
        risks = self.fraud_preview.risks(connection, domain, vault, results)
        return DryRunTransaction(self, self.predictor, connection, domain, vault, risks)

    def _new_preview(self) -> FraudPreview:
        watchlist_id = next(iter(self._fraud.get("WatchlistIds", ())), None)
        capacity = self.context.settings.fraud.replay_recordings
        return FraudPreview(watchlist_id, capacity, self.context.calibration_of)

    def _restore_predictor(
        self, read: Read, domain: Domain, vault: Vault, between: Callable[[], None] = lambda: None
    ) -> OutcomePredictor:
        """Rebuild the predictor from outcomes committed before, by this runner or one that was killed.

        `between` is called between batches of them.
        """
        config = self.context.job.config
        rules = Config(
            overwrite=config["ExistingEnrollmentAction"] == "OVERWRITE",
            fraud_action=self._fraud["FraudDetectionAction"],
            risk_threshold=self.risk_threshold,
        )
        predictor = OutcomePredictor(rules, self.context.settings.quotas.speakers_per_domain)
        job_id = self.context.job.job_id
        lines = (line for _, line in open_lines(vault, job_id, jobs.outcomes(read, job_id, failed=False)))
        while batch := [(vault.lookup(line["SpeakerId"]), line) for line in islice(lines, jobs.BATCH)]:
            with read() as connection:
                known = SpeakerLookup(connection, domain.domain_id, [dedup_key for dedup_key, _ in batch])
                for dedup_key, line in batch:
                    status = enrollment_state(_standing(known, dedup_key), self.model_id)
                    predictor.record(dedup_key, status, line["LikelyOutcome"])
                    if FINGERPRINT in line:
                        self.fraud_preview.accept(dedup_key, base64.b64decode(line[FINGERPRINT]))
            between()
        return predictor


def _standing(known: SpeakerLookup, dedup_key: bytes) -> speakers.SpeakerStatus | None:
    try:
        return known.status(dedup_key)
    except IntegrityFault:  # changed since its request was decided; the log names it when it is met
        return None


def has_unprotected_lines(read: Read, vault: Vault, job_id: str) -> bool:
    """Return whether a release without template spaces has stored lines of this run."""
    spaces, model_id = spaces_of_job(vault.templates, job_id), shipped_encoder_id()
    return any(
        protect_line(line, spaces, model_id)
        for failed in (False, True)
        for _, line in open_lines(vault, job_id, jobs.outcomes(read, job_id, failed=failed))
    )


def protect_lines(connection: Connection, vault: Vault, job_id: str) -> None:
    """Protect the voices in lines that a release without template spaces has stored."""
    spaces, model_id = spaces_of_job(vault.templates, job_id), shipped_encoder_id()
    for failed in (False, True):
        stored = jobs.outcomes(lambda: nullcontext(connection), job_id, failed=failed)
        lines = open_lines(vault, job_id, stored)
        changed = [(position, line) for position, line in lines if protect_line(line, spaces, model_id)]
        for position, line in changed:
            sealed = vault.seal_json("job outcome", f"{job_id}/{position}", line)
            jobs.replace_outcome(connection, job_id, position, sealed)


class DryRunTransaction:
    """Implements `BatchTransaction`."""

    def __init__(
        self,
        processor: DryRunProcessor,
        predictor: OutcomePredictor,
        connection: Connection,
        domain: Domain,
        vault: Vault,
        risks: Mapping[str, Risk],
    ) -> None:
        """`risks` of known fraudsters are by request id."""
        self._processor, self._predictor, self._risks = processor, predictor, risks
        self._connection, self._domain, self._vault = connection, domain, vault
        self._calibrations = CalibrationCache(connection, domain.domain_id, processor.context.calibration_of)
        self._present = speakers.count(connection, domain.domain_id)
        self._limits = ScoreLimits(
            settings=processor.context.settings, now=processor.context.clock(), principal_arn=DRY_RUN
        )
        self._risk_limits = RiskLimits(
            settings=processor.context.settings, now=processor.context.clock(), principal_arn=JOBS
        )
        self._events: list[Event] = []  # of limits that decisions have used up
        self._spaces = spaces_of_job(vault.templates, processor.context.job.job_id)

    def decide(self, request: Request, result: EntryResult) -> Outcome:
        assert isinstance(request, EnrollmentRequest)
        try:
            return self._decide(request, result)
        except (IntegrityFault, SealBroken) as fault:  # of one speaker: it ends no report on the others
            log.error("job %s: %s", self._processor.context.job.job_id, fault)
            need_s = self._processor.need_s
            line = report_line(request, DAMAGED_SPEAKER, DAMAGED_SPEAKER, need_s, self._spaces)
            return Outcome(line=line, label="DRY_RUN", failed=True)

    def _decide(self, request: EnrollmentRequest, result: EntryResult) -> Outcome:
        domain_id, preview = self._domain.domain_id, self._processor.fraud_preview
        dedup_key = self._vault.lookup(request.speaker_id)
        erased = erasure.find_erased(self._connection, domain_id, dedup_key)
        if is_void(erased, self._processor.context.job.created_at):
            return self._refused(request, DELETED_SINCE)
        standing = speakers.find_status(self._connection, domain_id, dedup_key)
        if self._lacks_consent(standing, dedup_key):
            return self._refused(request, NO_CONSENT)
        speaker = speakers.find(self._connection, self._vault, domain_id, request.speaker_id)
        speaker_id = None if speaker is None else speaker.speaker_id
        status = enrollment_state(standing, self._processor.model_id)
        entry = EntryRef(
            connection=self._connection, vault=self._vault, domain_id=domain_id, speaker_id=speaker_id
        )
        result = preview.with_risks(result, dedup_key, self._told_risk(request, result), entry)
        assert result is not None
        outcome = self._predictor.predict(dedup_key, status, result, speakers_present=self._present)
        self._predictor.record(dedup_key, status, outcome)
        if outcome == "ENROLLMENT_OVERWRITE" and speaker is not None and isinstance(result, InspectionResult):
            result = replace(result, existing=self._compare_existing(speaker, result))
        line = report_line(request, result, outcome, self._processor.need_s, self._spaces)
        if outcome in ENROLLS and isinstance(result, TaskResult) and result.fingerprint is not None:
            preview.accept(dedup_key, result.fingerprint)
            line[FINGERPRINT] = base64.b64encode(result.fingerprint).decode()
        holds_voice = PROTECTED_VOICE in line or FINGERPRINT in line
        return Outcome(
            line=line,
            label="DRY_RUN",
            failed=line["LikelyOutcome"] == ERROR,
            voice_of=dedup_key if holds_voice else None,
        )

    def _refused(self, request: EnrollmentRequest, refusal: Refusal) -> Outcome:
        """Report a request that fails whatever its recordings hold."""
        line = report_line(request, refusal, refusal, self._processor.need_s, self._spaces)
        return Outcome(line=line, label="DRY_RUN", failed=True)

    def _lacks_consent(self, standing: SpeakerStatus | None, customer_id_hash: bytes) -> bool:
        if standing is not None and standing.status == "OPTED_OUT":
            return False  # the opt-out tells more
        now = self._processor.context.clock()
        return not with_consent(self._connection, self._domain, [customer_id_hash], now)

    def _told_risk(self, request: EnrollmentRequest, result: EntryResult) -> Risk | None:
        """Return the risk of known fraudsters, as far as it may be told."""
        risk = self._risks.get(request.request_id)
        if risk is None or not isinstance(result, InspectionResult) or result.domain_sample is None:
            return risk
        threshold = self._processor.risk_threshold
        probe = probe_digest(self._vault, result.domain_sample, threshold)
        told, events = self._risk_limits.apply(
            self._connection, self._domain, risk, probe, threshold=threshold
        )
        self._events += events
        return told

    def _compare_existing(
        self, speaker: speakers.Speaker, result: InspectionResult
    ) -> VoiceprintComparison | None:
        """Compare a voice with the voiceprint that it would replace.

        None where they cannot be compared, or where dry runs have compared too many voices with the speaker.
        """
        probe = result.domain_sample
        try:
            self._limits.require(self._connection, speaker.speaker_id)
            reference = speakers.load_sample(self._connection, self._vault, speaker)
        except (SpeakerLocked, ProbeBudgetUsed):
            return None
        except (IntegrityFault, SealBroken) as fault:
            log.error("job %s: %s", self._processor.context.job.job_id, fault)
            return None
        if probe is None or reference is None or probe.model_id != reference.model_id:
            return None
        calibration = self._calibrations.of(probe.model_id)
        spaces = templates.open_spaces(self._connection, self._vault.templates)
        similarity = spaces.protect(probe).similarity(reference)
        score = calibration.score_for(similarity, probe.comparison_quality(reference))
        if self._limits.is_miss(score):
            digest = probe_digest(self._vault, probe)
            self._events += self._limits.count_miss(
                self._connection, self._domain, speaker.speaker_id, digest, rejected=False
            )
        return VoiceprintComparison(score=coarse_score(score, SCORE_BANDS))

    def write(self) -> None:
        pass

    def events(self, outcome: Outcome) -> Sequence[Event]:
        found, self._events = self._events, []
        return found

    def committed(self) -> None:
        pass
