"""Define what differs between types of job. Claim, manifest, window, commit and result file are shared.

JobType            one constant a type: its name, result files, the event of its end; builds an
EntryProcessor     one a job: which entries of the manifest need their recordings processed; builds a
BatchTransaction   one a database transaction: decides entries in manifest order and stores the outcomes
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Connection

from sonant.audit.findings import FindingsTrail
from sonant.events.documents import Event
from sonant.events.error_info import ErrorInfo
from sonant.events.outbox import Outbox
from sonant.jobs.calibration_cache import CalibrationOf
from sonant.jobs.entry import Role, Task, TaskResult, quality_floors, recurring_voice_agents
from sonant.jobs.faults import Refusal
from sonant.jobs.manifest import Entry, Request
from sonant.jobs.result import error_line
from sonant.jobs.states import Status
from sonant.settings import Settings
from sonant.storage.crypto.vault import Vault
from sonant.storage.database.engine import Database
from sonant.storage.objects.store import ObjectUri
from sonant.storage.repositories import jobs
from sonant.storage.repositories.domains import Domain
from sonant.voice.calibration.file import calibration_of
from sonant.voice.floors import QualityFloors

EntryResult = TaskResult | Refusal | None
"""The result of an entry's task; None for an entry that needed none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """A running job, and the parts of the service that process it."""

    job: jobs.Job
    role: Role
    settings: Settings
    database: Database
    open_domain: Callable[[Connection], tuple[Domain, Vault]]
    """Opens the job's domain, which must still be active. Raises JobFault."""
    renew_lease: Callable[[Connection], None]
    """Renews the lease in a transaction. Raises LeaseLost when the job is no longer this runner's."""
    clock: Callable[[], datetime]
    outbox: Outbox
    calibration_of: CalibrationOf = calibration_of
    """The calibration that comes with a voice model. Raises SetupError for a model without one."""
    findings: FindingsTrail | None = None
    """The audit trail of flagged entries; None with the audit trail switched off."""
    model_id: str | None = None
    """The domain's voice model when the job was claimed; None is the one that ships with Sonant."""
    floors: QualityFloors = field(init=False)
    """Limits of the job's audio, by the settings."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "floors", quality_floors(self.settings))

    def task(
        self,
        item: WorkItem,
        need_s: float,
        *,
        second_voice: str,
        detect_fraud: bool = False,
        risk_threshold: int = 0,
    ) -> Task:
        """Build the task that collects `need_s` seconds of speech from an entry's recordings.

        `second_voice` is one of `single_voice.POLICIES`.
        With `detect_fraud` the spoofing detectors run and a fingerprint is taken; risks below
        `risk_threshold` need not be exact.
        """
        assert isinstance(item.entry, Request)
        return Task(
            task_id=item.position,
            role=self.role,
            audio=item.entry.audio,
            need_s=need_s,
            keep_audio=self.settings.audio.keep,
            detect=detect_fraud,
            risk_threshold=risk_threshold,
            fingerprint=detect_fraud and self.settings.fraud.replay_recordings > 0,
            model_id=self.model_id,
            recurring_voice=recurring_voice_agents(item.entry),
            floors=self.floors,
            second_voice=second_voice,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItem:
    """One entry in work. Entries that share a `dedup_key` are processed one after the other."""

    position: int
    dedup_key: bytes | None
    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of one entry."""

    line: dict[str, Any]
    """Its line in the result file."""
    label: str
    """Its name in the counters."""
    failed: bool = False
    error: ErrorInfo | None = None
    """The reason of a failure, for its event."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Findings of fraud detection, for its event."""
    voice_of: bytes | None = None
    """Of a line that holds voice data: `Vault.lookup` of the speaker's customer id."""

    @classmethod
    def refused(cls, request_id: str, refusal: Refusal, details: Mapping[str, Any] | None = None) -> Outcome:
        return cls(
            line=error_line(request_id, refusal.code, refusal.message),
            label=f"ERROR_{refusal.code}",
            failed=True,
            error=refusal.event_error,
            details=details or {},
        )


#: Reads positions and lines of the entries that failed (True) or succeeded (False), in manifest order. Each
#: call reads from the start, so that files can be written in several passes.
Lines = Callable[[bool], Iterator[tuple[int, dict[str, Any]]]]


class BatchTransaction(Protocol):
    """Decides entries within one database transaction."""

    def decide(self, request: Request, result: EntryResult) -> Outcome:
        """Decide one entry and store its effects, or collect them for `write`; called in manifest order.

        The decision may depend on the request, the result and the store only: after a crash it is repeated.
        """
        ...

    def write(self) -> None:
        """Write what the decisions have collected; called once, after the last of them."""
        ...

    def events(self, outcome: Outcome) -> Sequence[Event]:
        """Build the events of one outcome."""
        ...

    def committed(self) -> None:
        """Update what is held in memory, after the transaction was committed."""
        ...


class EntryProcessor(Protocol):
    """Processes the entries of one job."""

    def dedup_key(self, vault: Vault, request: Request) -> bytes | None:
        """Compute the key of `WorkItem.dedup_key`."""
        ...

    def tasks(self, items: Sequence[WorkItem]) -> list[Task | None]:
        """Build the tasks that entries need, None for one that can be decided without. No two share a key."""
        ...

    def batch(
        self,
        connection: Connection,
        domain: Domain,
        vault: Vault,
        done: Sequence[tuple[WorkItem, EntryResult]],
    ) -> BatchTransaction:
        """Begin a transaction that will decide exactly the entries of `done`."""
        ...


class JobType(Protocol):
    """A type of job; `name` is the one in the store."""

    name: str

    def processor(self, context: JobContext) -> EntryProcessor: ...

    def result_files(self, output: ObjectUri, lines: Lines) -> Iterable[tuple[ObjectUri, Iterator[bytes]]]:
        """Build the files to write, in pieces; `output` is the name of the result file."""
        ...

    def end_event(
        self, domain: Domain, job: jobs.Job, status: Status, error: ErrorInfo | None
    ) -> Event | None:
        """Build the event of the job's end with this status; None for no event."""
        ...
