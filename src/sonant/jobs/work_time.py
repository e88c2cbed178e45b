"""Measure when a worker process worked on a task, for the span that its runner or service makes of it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from sonant.traces import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkTime:
    """When a task was in work, by the wall clock of the worker's host, and in which process."""

    started_ns: int
    ended_ns: int
    pid: int


def work_time_since(started_ns: int) -> WorkTime:
    """Return the time of work that ends now, in this process."""
    return WorkTime(started_ns=started_ns, ended_ns=time.time_ns(), pid=os.getpid())


def add_work_span(parent: Span, name: str, work: WorkTime | None, *, refused: int | None = None) -> None:
    """Add the span of a task to its parent; `refused` is the code of a refusal."""
    if work is None or not parent.recorded:
        return
    span = parent.child(name, started_ns=work.started_ns)
    span.describe({"process.pid": work.pid})
    span.end(
        error="" if refused is None else str(refused),
        failed=refused is not None and refused >= 500,
        ended_ns=work.ended_ns,
    )
