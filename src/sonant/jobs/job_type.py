"""What makes a kind of job. Everything else - claim, manifest, window, commit, result file - is one engine.

Kind      a constant for each kind: names, result file, the event of its end; makes
Decider   for one job: which requests must be heard, and a
Sitting   for one transaction: settles requests, in manifest order
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Connection

from sonant.audit.findings import FindingsTrail
from sonant.events.documents import ErrorInfo, Event
from sonant.events.outbox import Outbox
from sonant.jobs.calibration_cache import CalibrationOf
from sonant.jobs.entry import Role, Task, TaskResult
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

Heard = TaskResult | Refusal | None
"""What came back for a request; None for one that needed no listening."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """One job in hand, and what it is done with."""

    job: jobs.Job
    role: Role
    settings: Settings
    database: Database
    open_domain: Callable[[Connection], tuple[Domain, Vault]]
    """The job's domain, still active, and its vault. Raises JobFault."""
    hold: Callable[[Connection], None]
    """Renews the lease in a transaction; raises when the job is no longer this runner's."""
    clock: Callable[[], datetime]
    outbox: Outbox
    calibration_of: CalibrationOf = calibration_of
    """What comes with a voice model; raises SetupError for one without."""
    findings: FindingsTrail | None = None
    """Where what fraud detection found is written down; None with the audit trail switched off."""
    model_id: str | None = None
    """The domain's voice model when the job was taken in hand; None is the one that ships with Sonant."""

    def task(self, item: Item, need_s: float, *, guard: bool = False, risk_threshold: int = 0) -> Task:
        """Listen to a request's recordings until there are `need_s` seconds of speech.

        `guard` looks for spoofing too; what lies below `risk_threshold` is not told apart any further.
        """
        assert isinstance(item.entry, Request)
        return Task(
            task_id=item.position,
            role=self.role,
            audio=item.entry.audio,
            need_s=need_s,
            keep_audio=self.settings.audio.keep,
            detect=guard,
            risk_threshold=risk_threshold,
            fingerprint=guard and self.settings.fraud.replay_recordings > 0,
            model_id=self.model_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One request in work; no two in work share a `dedup_key`."""

    position: int
    dedup_key: bytes | None
    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one request."""

    line: dict[str, Any]
    """Its line in the result file."""
    label: str
    """What the counters call it."""
    failed: bool = False
    error: ErrorInfo | None = None
    """Why it failed, for its event."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What the request's event tells beyond the line."""

    @classmethod
    def refused(cls, request_id: str, refusal: Refusal, details: Mapping[str, Any] | None = None) -> Outcome:
        return cls(
            line=error_line(request_id, refusal.code, refusal.message),
            label=f"ERROR_{refusal.code}",
            failed=True,
            error=refusal.told,
            details=details or {},
        )


#: Positions and lines of the requests that failed (True) or succeeded (False), in manifest order; anew with
#: every call, so that files may be written in several passes.
Lines = Callable[[bool], Iterator[tuple[int, dict[str, Any]]]]


class BatchTransaction(Protocol):
    """Settles requests within one transaction."""

    def settle(self, request: Request, heard: Heard) -> Outcome:
        """Decide one request and store what hangs on it; called in manifest order.

        Nothing but the request, what was heard and the store may decide: after a crash it is done again.
        """
        ...

    def events(self, outcome: Outcome) -> Sequence[Event]:
        """What is told of one request's outcome."""
        ...

    def committed(self) -> None:
        """The transaction is through: what is kept in memory may follow."""
        ...


class EntryProcessor(Protocol):
    """One job's part in the work on its requests."""

    def dedup_key(self, vault: Vault, request: Request) -> bytes | None:
        """See `Item.dedup_key`."""
        ...

    def task(self, item: Item) -> Task | None:
        """What must be heard of a request, None when it can be settled without."""
        ...

    def batch(
        self, connection: Connection, domain: Domain, vault: Vault, done: Sequence[tuple[Item, Heard]]
    ) -> BatchTransaction:
        """`done` is all that will be settled in it."""
        ...


class JobType(Protocol):
    """A kind of job; `name` is the one in the store."""

    name: str

    def processor(self, context: JobContext) -> EntryProcessor: ...

    def result_files(self, output: ObjectUri, lines: Lines) -> Iterable[tuple[ObjectUri, Iterator[bytes]]]:
        """The files to write, in pieces; `output` is the name of the result file."""
        ...

    def told(self, domain: Domain, job: jobs.Job, status: Status, error: ErrorInfo | None) -> Event | None:
        """The event of the job's end, whose status it is."""
        ...
