"""Counters in the database: what the runners have done, counted in the transaction that did it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from sonant.storage.database.schema import counters

AUDIO = "audio_seconds"
"""Audio listened to, in seconds."""
SPEECH = "speech_seconds"
"""Speech that voiceprints were made from, in seconds."""
COMPUTE = "compute_seconds"
"""Processor time of decoding, finding speech and embedding, in seconds."""
INFERENCE = "inference_seconds"
"""Time in the voice model's embedding, in seconds."""
NOT_EXPIRED = "not_expired"
"""Speakers that a sweep could not expire because what is stored of them is damaged; once every sweep."""
LOST_WORKERS = "lost_workers"
"""Worker processes of jobs that ended before they were ready."""
DAMAGED = "database_damaged"
"""1 when the housekeeper's last check found the database's file damaged, else 0; not counted up."""
OUTCOMES = "outcomes"
"""Requests of jobs by outcome: an enrollment status, or `ERROR_` and the result file's code."""


def add(connection: Connection, amounts: Mapping[tuple[str, str], float]) -> None:
    """Add to counters named (name, label); an empty label is a counter without one."""
    rows = [
        {"name": name, "label": label, "value": value} for (name, label), value in amounts.items() if value
    ]
    if rows:
        # By name and label in one order everywhere: two runners must not wait for each other.
        rows.sort(key=lambda row: (row["name"], row["label"]))
        connection.execute(_UPSERT[connection.dialect.name], rows)


def put(connection: Connection, name: str, value: float) -> None:
    """Set a number that is not counted up."""
    row = {"name": name, "label": "", "value": value}
    connection.execute(_REPLACE[connection.dialect.name], row)


def read(connection: Connection) -> dict[tuple[str, str], float]:
    return {(row.name, row.label): row.value for row in connection.execute(select(counters))}


def _upsert(dialect: Any, *, adding: bool) -> Any:
    statement = dialect.insert(counters)
    given = statement.excluded.value
    return statement.on_conflict_do_update(
        index_elements=[counters.c.name, counters.c.label],
        set_={"value": counters.c.value + given if adding else given},
    )


_UPSERT = {
    name: _upsert(dialect, adding=True) for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql))
}
_REPLACE = {
    name: _upsert(dialect, adding=False) for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql))
}
