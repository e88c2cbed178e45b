"""Dry runs of speaker enrollment: every recording is listened to, a report is written, nobody is enrolled.

Decisions are those of the job, in manifest order. What was found lies sealed with the job's requests until
the report is written, and goes with them.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace

from sqlalchemy import Connection

from sonant.events.documents import ErrorInfo, Event
from sonant.jobs.batch import open_lines
from sonant.jobs.decide import Config, state_of
from sonant.jobs.entry import Prepared, Task
from sonant.jobs.fraud import Risk
from sonant.jobs.fraud_preview import EntryRef, Screening
from sonant.jobs.job_type import Heard, Item, JobContext, Lines, Outcome
from sonant.jobs.manifest import EnrollmentRequest, Request
from sonant.jobs.predict import ENROLLS, Forecast
from sonant.jobs.report import report_files
from sonant.jobs.report_line import ERROR, FINGERPRINT, finding
from sonant.jobs.states import Status
from sonant.storage.crypto.vault import Vault
from sonant.storage.objects.store import ObjectUri
from sonant.storage.repositories import jobs, speakers
from sonant.storage.repositories.domains import Domain
from sonant.voice.models import shipped_encoder_id


class DryRunKind:
    """See `kind.Kind`."""

    name = jobs.DRY_RUN

    def processor(self, context: JobContext) -> DryRunDecider:
        return DryRunDecider(context)

    def result_files(self, output: ObjectUri, lines: Lines) -> Iterable[tuple[ObjectUri, Iterator[bytes]]]:
        page = ObjectUri(output.bucket, output.key + ".html")
        json_pieces, html_pieces = report_files(lines)
        yield output, json_pieces
        yield page, html_pieces

    def told(self, domain: Domain, job: jobs.Job, status: Status, error: ErrorInfo | None) -> None:
        """Nothing has happened that anyone must be told of."""


class DryRunDecider:
    """See `kind.Decider`. All is listened to, so requests need not wait for each other."""

    def __init__(self, context: JobContext) -> None:
        self.context = context
        self.need_s = context.settings.enrollment.net_speech_s
        self.forecast: Forecast | None = None
        self.model_id = context.model_id or shipped_encoder_id()
        self._fraud = context.job.config["FraudDetectionConfig"]
        watchlist_id = next(iter(self._fraud.get("WatchlistIds", ())), None)
        remembered = context.settings.fraud.replay_recordings
        self.screening = Screening(watchlist_id, remembered, context.calibration_of)

    def dedup_key(self, vault: Vault, request: Request) -> bytes | None:
        return None

    def task(self, item: Item) -> Task | None:
        guard = self._fraud["FraudDetectionAction"] != "IGNORE"
        task = self.context.task(item, self.need_s, guard=guard, risk_threshold=self._fraud["RiskThreshold"])
        return replace(task, inspect=True, keep_audio=False)

    def batch(
        self, connection: Connection, domain: Domain, vault: Vault, done: Sequence[tuple[Item, Heard]]
    ) -> DryRunSitting:
        if self.forecast is None:
            self.forecast = self._recalled(connection, domain, vault)
        heard = {item.entry.request_id: one for item, one in done}
        risks = self.screening.risks(connection, domain, vault, heard)
        return DryRunSitting(self, self.forecast, connection, domain, vault, risks)

    def _recalled(self, connection: Connection, domain: Domain, vault: Vault) -> Forecast:
        """The forecast as far as requests were settled before, by this runner or one that was killed."""
        config = self.context.job.config
        rules = Config(
            overwrite=config["ExistingEnrollmentAction"] == "OVERWRITE",
            fraud_action=self._fraud["FraudDetectionAction"],
            risk_threshold=self._fraud["RiskThreshold"],
        )
        forecast = Forecast(rules, self.context.settings.quotas.speakers_per_domain)
        job_id = self.context.job.job_id
        for _, line in open_lines(
            vault, job_id, jobs.outcomes(lambda: nullcontext(connection), job_id, failed=False)
        ):
            dedup_key = vault.lookup(line["SpeakerId"])
            status = state_of(speakers.find_status(connection, domain.domain_id, dedup_key), self.model_id)
            forecast.note(dedup_key, status, line["LikelyOutcome"])
            if FINGERPRINT in line:
                self.screening.accept(dedup_key, base64.b64decode(line[FINGERPRINT]))
        return forecast


class DryRunSitting:
    """See `kind.Sitting`."""

    def __init__(
        self,
        processor: DryRunDecider,
        forecast: Forecast,
        connection: Connection,
        domain: Domain,
        vault: Vault,
        risks: Mapping[str, Risk],
    ) -> None:
        """`risks` of known fraudsters are by request id."""
        self._processor, self._forecast, self._risks = processor, forecast, risks
        self._connection, self._domain, self._vault = connection, domain, vault
        self._present = speakers.count(connection, domain.domain_id)

    def settle(self, request: Request, heard: Heard) -> Outcome:
        assert isinstance(request, EnrollmentRequest)
        domain_id, screening = self._domain.domain_id, self._processor.screening
        dedup_key = self._vault.lookup(request.speaker_id)
        speaker = speakers.find(self._connection, self._vault, domain_id, request.speaker_id)
        speaker_id = None if speaker is None else speaker.speaker_id
        status = state_of(
            speakers.find_status(self._connection, domain_id, dedup_key), self._processor.model_id
        )
        place = EntryRef(
            connection=self._connection, vault=self._vault, domain_id=domain_id, speaker_id=speaker_id
        )
        heard = screening.screened(heard, dedup_key, self._risks.get(request.request_id), place)
        assert heard is not None
        outcome = self._forecast.settle(dedup_key, status, heard, speakers_present=self._present)
        self._forecast.note(dedup_key, status, outcome)
        line = finding(request, heard, outcome, self._processor.need_s)
        if outcome in ENROLLS and isinstance(heard, Prepared) and heard.fingerprint is not None:
            screening.accept(dedup_key, heard.fingerprint)
            line[FINGERPRINT] = base64.b64encode(heard.fingerprint).decode()
        return Outcome(line=line, label="DRY_RUN", failed=line["LikelyOutcome"] == ERROR)

    def events(self, outcome: Outcome) -> Sequence[Event]:
        return ()

    def committed(self) -> None:
        pass
