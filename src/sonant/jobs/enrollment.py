"""Speaker enrollment jobs: look the speaker up, listen if need be, decide, store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Connection

from sonant.events.documents import BatchStatus, ErrorInfo, Event, batch_enrollment_event, speaker_event
from sonant.ids import new_generated_id
from sonant.jobs import result
from sonant.jobs.decide import Config, after_listening, before_listening
from sonant.jobs.entry import Prepared, Task
from sonant.jobs.faults import Refusal
from sonant.jobs.kind import Desk, Item, Outcome
from sonant.jobs.manifest import EnrollmentRequest, Request
from sonant.store import jobs, speakers
from sonant.store.domains import Domain
from sonant.store.vault import Vault


class EnrollmentKind:
    """See `kind.Kind`."""

    name = jobs.ENROLLMENT

    def decider(self, desk: Desk) -> EnrollmentDecider:
        return EnrollmentDecider(desk)

    def result_file(
        self, errors: Iterable[dict[str, Any]], successes: Iterable[dict[str, Any]]
    ) -> Iterator[bytes]:
        return result.result_file(errors, successes, "SuccessfulEnrollments")

    def told(self, domain: Domain, job: jobs.Job, status: BatchStatus, error: ErrorInfo | None) -> Event:
        return batch_enrollment_event(domain, job, status, error)


class EnrollmentDecider:
    """See `kind.Decider`. Requests for one speaker are done one after the other."""

    def __init__(self, desk: Desk) -> None:
        fraud = desk.job.config["FraudDetectionConfig"]
        self.desk = desk
        self.config = Config(
            overwrite=desk.job.config["ExistingEnrollmentAction"] == "OVERWRITE",
            fraud_action=fraud["FraudDetectionAction"],
            risk_threshold=fraud["RiskThreshold"],
        )

    def mark(self, vault: Vault, request: Request) -> bytes | None:
        return vault.lookup(_speaker_of(request))

    def task(self, item: Item) -> Task | None:
        with self.desk.database.read() as connection:
            status = speakers.status_by_hash(connection, self.desk.job.domain_id, item.mark or b"")
        if before_listening(status, self.config) is not None:
            return None
        return self.desk.task(item, self.desk.settings.enrollment.net_speech_s)

    def sitting(self, connection: Connection, domain: Domain, vault: Vault) -> EnrollmentSitting:
        return EnrollmentSitting(self, connection, domain, vault)


class EnrollmentSitting:
    """See `kind.Sitting`."""

    def __init__(
        self, decider: EnrollmentDecider, connection: Connection, domain: Domain, vault: Vault
    ) -> None:
        self._decider, self._desk = decider, decider.desk
        self._connection, self._domain, self._vault = connection, domain, vault
        self._present: int | None = None  # speakers of the domain, counted when first needed

    def settle(self, request: Request, heard: Prepared | Refusal | None) -> Outcome:
        customer_id = _speaker_of(request)
        speaker = speakers.find(self._connection, self._vault, self._domain.domain_id, customer_id)
        status = None if speaker is None else speaker.status
        if heard is None:
            outcome = before_listening(status, self._decider.config) or Refusal(
                409, "the speaker was deleted or changed while the job ran; submit the request again"
            )
        else:
            outcome = after_listening(
                status,
                self._decider.config,
                heard,
                speakers_present=self._count() if isinstance(heard, Prepared) else 0,
                quota=self._desk.settings.quotas.speakers_per_domain,
            )
        if isinstance(outcome, Refusal):
            return Outcome.refused(request.request_id, outcome)
        speaker_id = new_generated_id() if speaker is None else speaker.speaker_id
        if isinstance(heard, Prepared) and outcome != "DUPLICATE_SKIPPED":
            self._store(speaker, speaker_id, customer_id, heard)
        line = result.enrollment_line(request.request_id, speaker_id, customer_id, outcome)
        return Outcome(line=line, label=outcome)

    def event(self, outcome: Outcome) -> Event:
        return speaker_event(
            self._domain,
            "ENROLL_SPEAKER",
            speaker_id=outcome.line.get("GeneratedSpeakerId"),
            error=outcome.error,
            source="BATCH",
            source_id=self._desk.job.job_id,
            enrollment_status=outcome.line.get("EnrollmentStatus"),
        )

    def committed(self) -> None:
        pass

    def _count(self) -> int:
        if self._present is None:
            self._present = speakers.count(self._connection, self._domain.domain_id)
        return self._present

    def _store(
        self, speaker: speakers.Speaker | None, speaker_id: str, customer_id: str, heard: Prepared
    ) -> None:
        now = self._desk.clock()
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
        voiceprint = speakers.Voiceprint(
            model_id=heard.model_id,
            vector=heard.vector,
            audio=heard.audio,
            net_speech_s=heard.net_speech_s,
        )
        speakers.enroll(self._connection, seal, speaker_id, voiceprint, now)


def _speaker_of(request: Request) -> str:
    assert isinstance(request, EnrollmentRequest)
    return request.speaker_id
