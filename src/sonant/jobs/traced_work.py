"""Trace a job: a span each time that a runner takes it, for each group of entries, and for each task."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sonant.jobs.batch import BatchWork
from sonant.jobs.entry import Task
from sonant.jobs.faults import Refusal
from sonant.jobs.job_type import EntryResult, WorkItem
from sonant.jobs.work_time import add_work_span
from sonant.storage.repositories.jobs import Job
from sonant.traces import Span, Tracer


def begin_job_span(tracer: Tracer, job: Job) -> Span:
    """Begin the span of a job that a runner has taken, under the request that started the job."""
    parent = {} if job.trace_parent is None else {"traceparent": job.trace_parent}
    attributes = {"sonant.job_id": job.job_id, "sonant.domain_id": job.domain_id, "sonant.job_type": job.kind}
    return tracer.begin("job", parent=parent, attributes=attributes)


class TracedWork:
    """The entries of one job (see `window.Work`), with a span for each group that is committed."""

    def __init__(self, work: BatchWork, job_span: Span) -> None:
        self._work, self._job_span = work, job_span

    def fetch(self, start: int, limit: int) -> list[WorkItem]:
        """Read the next entries."""
        return self._work.fetch(start, limit)

    def tasks(self, items: Sequence[WorkItem]) -> list[Task | None]:
        """Build the tasks of entries, and have their work measured."""
        return [None if task is None else task.measured() for task in self._work.tasks(items)]

    def commit(self, done: Sequence[tuple[WorkItem, EntryResult]]) -> float:
        """Commit entries. The span of the group begins with the first of its tasks."""
        worked = [result.worked for _, result in done if result is not None and result.worked is not None]
        group = self._job_span.child(
            "entries",
            started_ns=min((one.started_ns for one in worked), default=time.time_ns()),
            **{"sonant.entries": len(done)},
        )
        error = "interrupted"
        try:
            for _, result in done:
                if result is not None:
                    refused = result.code if isinstance(result, Refusal) else None
                    add_work_span(group, "recording", result.worked, refused=refused)
            spent_s = self._work.commit(done)
            error = ""
            return spent_s
        finally:
            group.end(error=error)
