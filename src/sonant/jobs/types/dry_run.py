"""Dry runs of speaker enrollment: every recording is inspected and reported; no speaker is enrolled.

Decisions are those of the job, in manifest order. Report lines are stored sealed with the job's requests
until the report is written, and deleted with them.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace

from sqlalchemy import Connection

from sonant.events.documents import Event
from sonant.events.error_info import ErrorInfo
from sonant.jobs.batch import open_lines
from sonant.jobs.decide import ENROLLS, Config, OutcomePredictor, enrollment_state
from sonant.jobs.entry import Task, TaskResult
from sonant.jobs.fraud import Risk
from sonant.jobs.fraud_preview import EntryRef, FraudPreview
from sonant.jobs.job_type import EntryResult, JobContext, Lines, Outcome, WorkItem
from sonant.jobs.manifest import EnrollmentRequest, Request
from sonant.jobs.report import report_files
from sonant.jobs.report_line import ERROR, FINGERPRINT, report_line
from sonant.jobs.states import Status
from sonant.storage.crypto.vault import Vault
from sonant.storage.objects.store import ObjectUri
from sonant.storage.repositories import jobs, speakers
from sonant.storage.repositories.domains import Domain
from sonant.voice.models import shipped_encoder_id


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
        watchlist_id = next(iter(self._fraud.get("WatchlistIds", ())), None)
        capacity = context.settings.fraud.replay_recordings
        self.fraud_preview = FraudPreview(watchlist_id, capacity, context.calibration_of)

    def dedup_key(self, vault: Vault, request: Request) -> bytes | None:
        return None

    def task(self, item: WorkItem) -> Task | None:
        task = self.context.task(
            item,
            self.need_s,
            detect_fraud=self._fraud["FraudDetectionAction"] != "IGNORE",
            risk_threshold=self._fraud["RiskThreshold"],
        )
        return replace(task, inspect=True, keep_audio=False)

    def batch(
        self,
        connection: Connection,
        domain: Domain,
        vault: Vault,
        done: Sequence[tuple[WorkItem, EntryResult]],
    ) -> DryRunTransaction:
        if self.predictor is None:
            self.predictor = self._restore_predictor(connection, domain, vault)
        results = {item.entry.request_id: result for item, result in done}
        risks = self.fraud_preview.risks(connection, domain, vault, results)
        return DryRunTransaction(self, self.predictor, connection, domain, vault, risks)

    def _restore_predictor(self, connection: Connection, domain: Domain, vault: Vault) -> OutcomePredictor:
        """Rebuild the predictor from outcomes committed before, by this runner or one that was killed."""
        config = self.context.job.config
        rules = Config(
            overwrite=config["ExistingEnrollmentAction"] == "OVERWRITE",
            fraud_action=self._fraud["FraudDetectionAction"],
            risk_threshold=self._fraud["RiskThreshold"],
        )
        predictor = OutcomePredictor(rules, self.context.settings.quotas.speakers_per_domain)
        job_id = self.context.job.job_id
        for _, line in open_lines(
            vault, job_id, jobs.outcomes(lambda: nullcontext(connection), job_id, failed=False)
        ):
            dedup_key = vault.lookup(line["SpeakerId"])
            status = enrollment_state(
                speakers.find_status(connection, domain.domain_id, dedup_key), self.model_id
            )
            predictor.record(dedup_key, status, line["LikelyOutcome"])
            if FINGERPRINT in line:
                self.fraud_preview.accept(dedup_key, base64.b64decode(line[FINGERPRINT]))
        return predictor


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
        self._present = speakers.count(connection, domain.domain_id)

    def decide(self, request: Request, result: EntryResult) -> Outcome:
        assert isinstance(request, EnrollmentRequest)
        domain_id, preview = self._domain.domain_id, self._processor.fraud_preview
        dedup_key = self._vault.lookup(request.speaker_id)
        speaker = speakers.find(self._connection, self._vault, domain_id, request.speaker_id)
        speaker_id = None if speaker is None else speaker.speaker_id
        standing = speakers.find_status(self._connection, domain_id, dedup_key)
        status = enrollment_state(standing, self._processor.model_id)
        entry = EntryRef(
            connection=self._connection, vault=self._vault, domain_id=domain_id, speaker_id=speaker_id
        )
        result = preview.with_risks(result, dedup_key, self._risks.get(request.request_id), entry)
        assert result is not None
        outcome = self._predictor.predict(dedup_key, status, result, speakers_present=self._present)
        self._predictor.record(dedup_key, status, outcome)
        line = report_line(request, result, outcome, self._processor.need_s)
        if outcome in ENROLLS and isinstance(result, TaskResult) and result.fingerprint is not None:
            preview.accept(dedup_key, result.fingerprint)
            line[FINGERPRINT] = base64.b64encode(result.fingerprint).decode()
        return Outcome(line=line, label="DRY_RUN", failed=line["LikelyOutcome"] == ERROR)

    def events(self, outcome: Outcome) -> Sequence[Event]:
        return ()

    def committed(self) -> None:
        pass
