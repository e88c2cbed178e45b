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
LOST_WORKERS = "lost_workers"
"""Worker processes of jobs that ended before they were ready."""
DAMAGED = "database_damaged"
"""1 when the last check found the database's file damaged, else 0; not a running count."""
OUTCOMES = "outcomes"
"""Requests of jobs by outcome: an enrollment status, or `ERROR_` and the result file's code."""


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
