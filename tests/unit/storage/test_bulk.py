"""Many rows written at once are the rows that single statements write."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, LargeBinary, String, Table, func, insert, select, text
from sqlalchemy.exc import IntegrityError, OperationalError
from test_row_macs import BOUND_TABLES, row_of

from sonant.storage.database.bound_connection import unverified
from sonant.storage.database.bulk import insert_rows
from sonant.storage.database.schema import job_entries, metadata, voiceprints
from sonant.storage.database.schema.binding import ROW_MAC

UNBOUND_TABLES = [
    pytest.param(table, id=table.name)
    for table in metadata.sorted_tables
    if ROW_MAC not in table.c and all(column.default is None for column in table.columns)
]


class Undone(Exception):
    """Rolls a transaction back."""


@pytest.fixture
def connection(database):
    """A transaction whose rows may refer to rows that are not there. Nothing is kept."""
    lenient = {
        "sqlite": "PRAGMA defer_foreign_keys=ON",
        "postgresql": "SET LOCAL session_replication_role = replica",
    }
    with pytest.raises(Undone), database.write() as connection:
        connection.execute(text(lenient[connection.dialect.name]))
        yield connection
        raise Undone


def stored(connection, table):
    query = unverified(select(table), "compared as they are")
    return [dict(row) for row in connection.execute(query).mappings()]


@pytest.mark.parametrize("bound", BOUND_TABLES)
def test_rows_of_a_bound_table_are_stored_with_their_macs(connection, bound):
    insert_rows(connection, bound.table, [row_of(bound.table)])
    at_once = stored(connection, bound.table)
    assert len(connection.execute(select(bound.table)).all()) == 1, "it is checked when it is read"
    connection.execute(bound.table.delete())
    connection.execute(insert(bound.table).values(row_of(bound.table)))
    assert at_once == stored(connection, bound.table)


@pytest.mark.parametrize("table", UNBOUND_TABLES)
def test_rows_of_other_tables_are_stored_as_given(connection, table):
    row = row_of(table)
    insert_rows(connection, table, [row])
    assert stored(connection, table) == [row]


def test_columns_that_a_row_does_not_name_get_their_defaults(connection):
    given = {"speaker_id": "id#1", "model_id": "m", "vector_sealed": b"v", "net_speech_s": 2, "created_at": 7}
    insert_rows(connection, voiceprints, [given, {**given, "speaker_id": "id#2", "snr_db": 20.0}])
    first, second = connection.execute(select(voiceprints).order_by(voiceprints.c.speaker_id)).mappings()
    assert (first["template_version"], first["snr_db"], first["audio_sealed"]) == (0, None, None)
    assert (first["net_speech_s"], second["snr_db"]) == (2.0, 20.0)


def test_thousands_of_rows_are_all_stored(connection):
    rows = [{"job_id": "j", "position": n, "request_sealed": b"%d" % n} for n in range(3000)]
    insert_rows(connection, job_entries, rows)
    found = connection.execute(
        select(job_entries.c.request_sealed).order_by(job_entries.c.position)
    ).scalars()
    assert list(found) == [row["request_sealed"] for row in rows]


def test_a_row_that_is_there_already_is_an_error_of_the_database(database):
    row = {"job_id": "j", "position": 1, "request_sealed": b"x"}
    with pytest.raises(IntegrityError), database.write() as connection:
        insert_rows(connection, job_entries, [row, row])
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(job_entries)).scalar_one() == 0


def test_an_error_of_the_driver_shows_no_values(database):
    missing = Table(
        "no_such_table", metadata.__class__(), Column("key", String), Column("value", LargeBinary)
    )
    with pytest.raises(Exception, match="no_such_table") as raised, database.write() as connection:
        insert_rows(connection, missing, [{"key": "k", "value": b"secret"}])
    assert not isinstance(raised.value, OperationalError) or "secret" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_column_that_the_table_has_not_is_refused(connection):
    with pytest.raises(ValueError, match="job_entries has no columns nothing"):
        insert_rows(connection, job_entries, [{"job_id": "j", "position": 1, "nothing": 1}])
