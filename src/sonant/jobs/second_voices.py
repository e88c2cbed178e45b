"""Log the requests of a job from whose recordings a second person's speech was left out."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sonant.jobs.entry import TaskResult
from sonant.jobs.job_type import EntryResult, WorkItem

log = logging.getLogger(__name__)


def log_second_voices(job_id: str, done: Sequence[tuple[WorkItem, EntryResult]]) -> None:
    """Log a warning for each result with a second voice, by the request's number in the manifest."""
    for item, result in done:
        found = result.second_voice if isinstance(result, TaskResult) else None
        if found is not None and found.possible:
            log.warning(
                "job %s: request %d: %s a second voice, about %.0f %% of the speech, which was left out",
                job_id,
                item.position + 1,
                "certainly" if found.certain else "possibly",
                100 * found.share,
            )
