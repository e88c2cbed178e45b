"""Counters of the runners' work, updated in the transaction of the work."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, select

from sonant.storage.database.rows import insert_of
from sonant.storage.database.schema import counters

AUDIO = "audio_seconds"
"""Processed audio, in seconds."""
SPEECH = "speech_seconds"
"""Net speech of voiceprints, in seconds."""
COMPUTE = "compute_seconds"
"""Processor time of decoding, speech detection and embedding, in seconds."""
INFERENCE = "inference_seconds"
"""Time in the voice model's embedding, in seconds."""
NOT_EXPIRED = "not_expired"
"""Speakers that could not expire because their stored data is damaged; counted once every sweep."""
INTEGRITY_FAULTS = "integrity_faults"
"""Rows that were found to be changed by something else, by table; each once an hour and process at most."""
LOST_WORKERS = "lost_workers"
"""Worker processes of jobs that ended before they were ready."""
DAMAGED = "database_damaged"
"""1 when the last check found the database's file damaged, else 0; not a running count."""
LAST_BACKUP = "last_backup"
"""When the last backup was made, in seconds since 1970 UTC; not a running count."""
LOCKED_SPEAKERS = "locked_speakers"
"""Speakers that were locked after many rejections."""
PROBE_BUDGETS_USED = "probe_budgets_used"
"""How often a principal, or all of an account, used up the probes of a speaker."""
FRAUDSTER_BUDGETS_USED = "fraudster_budgets_used"
"""How often a principal, or all of an account, was told as many risks of a fraudster as the budget allows."""
OUTCOMES = "outcomes"
"""Requests of jobs by outcome: an enrollment status, or `ERROR_` and the result file's code."""


JOBS = "jobs"
"""Jobs that have ended, by type and status: `SPEAKER_ENROLLMENT:COMPLETED`."""
JOB_SECONDS = "job_seconds"
"""Working time of jobs that have ended, by type, in seconds."""
JOB_SECONDS_BUCKET = "job_seconds_bucket"
"""How many of these jobs took at most so long and longer than the next smaller bound: `TYPE:BOUND`."""
JOB_BUCKETS_S = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0)
"""Upper bounds of the working time of jobs, in seconds."""
STREAMS = "streams_ended"
"""Streams of live calls that have ended, by `EndReason`."""


def count_ended_job(connection: Connection, kind: str, status: str, worked_s: float) -> None:
    """Count a job that has ended, and its working time."""
    bound = next((one for one in JOB_BUCKETS_S if worked_s <= one), None)
    bucket = {} if bound is None else {(JOB_SECONDS_BUCKET, f"{kind}:{bound:g}"): 1.0}
    add(connection, {(JOBS, f"{kind}:{status}"): 1.0, (JOB_SECONDS, kind): worked_s, **bucket})


def add(connection: Connection, amounts: Mapping[tuple[str, str], float]) -> None:
    """Add to counters by (name, label). An empty label is a counter without one."""
    rows = [
        {"name": name, "label": label, "value": value} for (name, label), value in amounts.items() if value
    ]
    if rows:
        # In one order everywhere: two runners must not wait for each other.
        rows.sort(key=lambda row: (row["name"], row["label"]))
        connection.execute(_upsert(connection.dialect.name, adding=True), rows)


def put(connection: Connection, name: str, value: float) -> None:
    """Set a counter that is not a running count."""
    row = {"name": name, "label": "", "value": value}
    connection.execute(_upsert(connection.dialect.name, adding=False), row)


def read(connection: Connection) -> dict[tuple[str, str], float]:
    """Return all counters by (name, label)."""
    return {(row.name, row.label): row.value for row in connection.execute(select(counters))}


@lru_cache
def _upsert(dialect: str, *, adding: bool) -> Any:
    statement = insert_of(dialect)(counters)
    given = statement.excluded.value
    return statement.on_conflict_do_update(
        index_elements=[counters.c.name, counters.c.label],
        set_={"value": counters.c.value + given if adding else given},
    )
