"""The work on one job's requests, whatever its kind: open them, have them heard, settle and commit them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sonant.audit.findings import Finding
from sonant.errors import SetupError
from sonant.jobs.entry import Prepared, Task
from sonant.jobs.faults import JobFault, Refusal
from sonant.jobs.job_type import BatchTransaction, EntryProcessor, Heard, Item, JobContext, Outcome
from sonant.jobs.manifest import AudioFile, BadRequest, EnrollmentRequest, Entry, Request
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import counters, domains, jobs
from sonant.storage.repositories.domains import Domain

log = logging.getLogger(__name__)


class BatchWork:
    """One job's requests; see `window.Work`."""

    def __init__(self, context: JobContext, processor: EntryProcessor) -> None:
        self._context, self._processor = context, processor

    def fetch(self, start: int, limit: int) -> list[Item]:
        job_id = self._context.job.job_id
        with self._context.database.read() as connection:
            _, vault = self._context.open_domain(connection)
            return [
                self._item(vault, position, open_request(vault, job_id, position, sealed))
                for position, sealed in jobs.open_entries(connection, job_id, start, limit)
            ]

    def begin(self, item: Item) -> Task | None:
        return None if isinstance(item.entry, BadRequest) else self._processor.task(item)

    def commit(self, done: Sequence[tuple[Item, Heard]]) -> None:
        context, job_id = self._context, self._context.job.job_id
        with context.database.write() as connection:
            domains.lock(connection, context.job.domain_id)
            context.hold(connection)
            domain, vault = context.open_domain(connection)
            batch = self._processor.batch(connection, domain, vault, done)
            settled = [(item.position, _settle(batch, item, heard)) for item, heard in done]
            sealed = [
                (
                    position,
                    vault.seal_json("job outcome", f"{job_id}/{position}", outcome.line),
                    outcome.failed,
                )
                for position, outcome in settled
            ]
            jobs.record(connection, job_id, sealed)
            outcomes = [outcome for _, outcome in settled]
            self._note_findings(domain, settled)
            counters.add(connection, _work_done(outcomes, [heard for _, heard in done]))
            told = (event for outcome in outcomes for event in batch.events(outcome))
            context.outbox.put(connection, told, context.clock())
        batch.committed()

    def _note_findings(self, domain: Domain, settled: Sequence[tuple[int, Outcome]]) -> None:
        """Into the audit trail: what was flagged. Raises JobFault when it must be there and cannot."""
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
            for position, outcome in settled
            if outcome.details.get("reasons")
        ]
        try:
            context.findings.add(domain, found, context.clock())
        except (OSError, SetupError) as fault:
            log.error("the audit trail of jobs cannot be written: %s", fault)
            if context.settings.audit.required:
                raise JobFault(500, "the audit trail cannot be written; see the service's log") from None

    def _item(self, vault: Vault, position: int, entry: Entry) -> Item:
        dedup_key = None if isinstance(entry, BadRequest) else self._processor.dedup_key(vault, entry)
        return Item(position=position, dedup_key=dedup_key, entry=entry)


def _settle(batch: BatchTransaction, item: Item, heard: Heard) -> Outcome:
    if isinstance(item.entry, BadRequest):
        return Outcome.refused(item.entry.request_id, Refusal(400, item.entry.message))
    return batch.settle(item.entry, heard)


def seal_request(vault: Vault, job_id: str, position: int, entry: Entry) -> bytes:
    """The stored form of one request of a manifest."""
    value: dict[str, Any] = {"id": entry.request_id}
    if isinstance(entry, BadRequest):
        value["bad"] = entry.message
    else:
        value["audio"] = [[item.s3_uri, item.channel] for item in entry.audio]
        if isinstance(entry, EnrollmentRequest):
            value["speaker"] = entry.speaker_id
    return vault.seal_json("job request", f"{job_id}/{position}", value)


def open_request(vault: Vault, job_id: str, position: int, sealed: bytes) -> Entry:
    """What `seal_request` sealed. Raises SealBroken."""
    value = vault.open_json("job request", f"{job_id}/{position}", sealed)
    if "bad" in value:
        return BadRequest(request_id=value["id"], message=value["bad"])
    audio = tuple(AudioFile(s3_uri=uri, channel=channel) for uri, channel in value["audio"])
    if "speaker" in value:
        return EnrollmentRequest(request_id=value["id"], speaker_id=value["speaker"], audio=audio)
    return Request(request_id=value["id"], audio=audio)


def open_lines(
    vault: Vault, job_id: str, rows: Iterable[tuple[int, bytes]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Positions and lines of the result file from stored outcomes."""
    for position, sealed in rows:
        yield position, vault.open_json("job outcome", f"{job_id}/{position}", sealed)


def _work_done(outcomes: Iterable[Outcome], heard: Iterable[Heard]) -> dict[tuple[str, str], float]:
    """What a commit adds to the counters."""
    found = Counter((counters.OUTCOMES, outcome.label) for outcome in outcomes)
    amounts: dict[tuple[str, str], float] = dict(found)
    prepared = [one for one in heard if isinstance(one, Prepared)]
    amounts[counters.AUDIO, ""] = sum(one.heard_s for one in prepared)
    amounts[counters.SPEECH, ""] = sum(one.net_speech_s for one in prepared)
    amounts[counters.COMPUTE, ""] = sum(one.compute_s for one in prepared)
    amounts[counters.INFERENCE, ""] = sum(one.inference_s for one in prepared)
    return amounts
