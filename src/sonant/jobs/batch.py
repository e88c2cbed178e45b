"""Process one job's entries, whatever its type: open, decide and commit them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection

from sonant.audit.findings import Finding
from sonant.errors import SetupError
from sonant.jobs.entry import Task, TaskResult
from sonant.jobs.faults import JobFault, Refusal
from sonant.jobs.job_type import BatchTransaction, EntryProcessor, EntryResult, JobContext, Outcome, WorkItem
from sonant.jobs.manifest import AudioFile, BadRequest, EnrollmentRequest, Entry, Request
from sonant.jobs.speaker_selection import CHANNEL
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import counters, domains, jobs
from sonant.storage.repositories.domains import Domain

log = logging.getLogger(__name__)


class BatchWork:
    """The entries of one job; see `window.Work`."""

    def __init__(self, context: JobContext, processor: EntryProcessor) -> None:
        self._context, self._processor = context, processor

    def fetch(self, start: int, limit: int) -> list[WorkItem]:
        job_id = self._context.job.job_id
        with self._context.database.read() as connection:
            _, vault = self._context.open_domain(connection)
            return [
                self._item(vault, position, open_request(vault, job_id, position, sealed))
                for position, sealed in jobs.open_entries(connection, job_id, start, limit)
            ]

    def tasks(self, items: Sequence[WorkItem]) -> list[Task | None]:
        valid = [item for item in items if not isinstance(item.entry, BadRequest)]
        if not valid:
            return [None] * len(items)
        found = dict(zip((item.position for item in valid), self._processor.tasks(valid), strict=True))
        return [found.get(item.position) for item in items]

    def commit(self, done: Sequence[tuple[WorkItem, EntryResult]]) -> float:
        context, job_id = self._context, self._context.job.job_id
        with context.database.write() as connection:
            domains.lock(connection, context.job.domain_id)
            context.renew_lease(connection)
            domain, vault = context.open_domain(connection)
            batch = self._processor.batch(connection, domain, vault, done)
            begun_s = time.monotonic()
            decided = [(item.position, _decide(batch, item, result)) for item, result in done]
            batch.write()
            sealed = [
                jobs.SealedOutcome(
                    position=position,
                    sealed=vault.seal_json("job outcome", f"{job_id}/{position}", outcome.line),
                    failed=outcome.failed,
                    speaker_hash=outcome.voice_of,
                )
                for position, outcome in decided
            ]
            jobs.record(connection, job_id, sealed)
            spent_s = time.monotonic() - begun_s
            outcomes = [outcome for _, outcome in decided]
            self._audit_findings(connection, domain, decided)
            counters.add(connection, _work_done(outcomes, [result for _, result in done]))
            events = (event for outcome in outcomes for event in batch.events(outcome))
            context.outbox.put(connection, events, context.clock())
        batch.committed()
        return spent_s

    def _audit_findings(
        self, connection: Connection, domain: Domain, decided: Sequence[tuple[int, Outcome]]
    ) -> None:
        """Write flagged entries into the audit trail. Raises JobFault if they must be and cannot."""
        context = self._context
        if context.findings is None:
            return
        found = [
            Finding(
                job_id=context.job.job_id,
                request_number=position + 1,
                outcome=outcome.label,
                details=outcome.details,
            )
            for position, outcome in decided
            if outcome.details.get("reasons")
        ]
        try:
            context.findings.add(domain, found, context.clock(), connection)
        except (OSError, SetupError) as fault:
            log.error("the audit trail of jobs cannot be written: %s", fault)
            if context.settings.audit.required:
                raise JobFault(500, "the audit trail cannot be written; see the service's log") from None

    def _item(self, vault: Vault, position: int, entry: Entry) -> WorkItem:
        dedup_key = None if isinstance(entry, BadRequest) else self._processor.dedup_key(vault, entry)
        return WorkItem(position=position, dedup_key=dedup_key, entry=entry)


def _decide(batch: BatchTransaction, item: WorkItem, result: EntryResult) -> Outcome:
    if isinstance(item.entry, BadRequest):
        return Outcome.refused(item.entry.request_id, Refusal(400, item.entry.message))
    return batch.decide(item.entry, result)


def seal_request(vault: Vault, job_id: str, position: int, entry: Entry) -> bytes:
    """Seal one entry of a manifest in its stored form."""
    value: dict[str, Any] = {"id": entry.request_id}
    if isinstance(entry, BadRequest):
        value["bad"] = entry.message
    else:
        value["audio"] = [[item.s3_uri, item.channel] for item in entry.audio]
        if isinstance(entry, EnrollmentRequest):
            value["speaker"] = entry.speaker_id
            if entry.selection != CHANNEL:
                value["selection"] = entry.selection
                value["agents"] = [[item.s3_uri, item.channel] for item in entry.agents]
    return vault.seal_json("job request", f"{job_id}/{position}", value)


def open_request(vault: Vault, job_id: str, position: int, sealed: bytes) -> Entry:
    """Open an entry that `seal_request` sealed. Raises SealBroken."""
    value = vault.open_json("job request", f"{job_id}/{position}", sealed)
    if "bad" in value:
        return BadRequest(request_id=value["id"], message=value["bad"])
    audio = _files(value["audio"])
    if "speaker" in value:
        return EnrollmentRequest(
            request_id=value["id"],
            speaker_id=value["speaker"],
            audio=audio,
            selection=value.get("selection", CHANNEL),
            agents=_files(value.get("agents", ())),
        )
    return Request(request_id=value["id"], audio=audio)


def _files(stored: Iterable[tuple[str, int]]) -> tuple[AudioFile, ...]:
    return tuple(AudioFile(s3_uri=uri, channel=channel) for uri, channel in stored)


def open_lines(
    vault: Vault, job_id: str, rows: Iterable[tuple[int, bytes]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Open stored outcomes: positions and lines of the result file."""
    for position, sealed in rows:
        yield position, vault.open_json("job outcome", f"{job_id}/{position}", sealed)


def _work_done(outcomes: Iterable[Outcome], results: Iterable[EntryResult]) -> dict[tuple[str, str], float]:
    """Count what a commit adds to the counters."""
    found = Counter((counters.OUTCOMES, outcome.label) for outcome in outcomes)
    amounts: dict[tuple[str, str], float] = dict(found)
    done = [one for one in results if isinstance(one, TaskResult)]
    amounts[counters.AUDIO, ""] = sum(one.audio_s for one in done)
    amounts[counters.SPEECH, ""] = sum(one.sample.quality.net_speech_s for one in done)
    amounts[counters.COMPUTE, ""] = sum(one.compute_s for one in done)
    amounts[counters.INFERENCE, ""] = sum(one.inference_s for one in done)
    return amounts
