"""Rows that decide carry a MAC: what something else than Sonant writes there is found when it is read."""

from __future__ import annotations

import pytest
from sqlalchemy import insert, select, text, update

from sonant.errors import IntegrityFault
from sonant.storage.database.bound_connection import unverified, without_changed_rows
from sonant.storage.database.engine import Database
from sonant.storage.database.row_macs import RowMacs, bound_tables, encode
from sonant.storage.database.schema import metadata
from sonant.storage.database.schema.binding import BOUND, NOT_BOUND, ROW_MAC

BOUND_TABLES = [pytest.param(bound, id=bound.name) for bound in bound_tables()]


def value_of(column, other=False):
    """A value that may stand in the column, and another one."""
    kind = column.type.python_type
    if kind is str:
        return ("y" if other else "x") * min(column.type.length or 12, 12)
    return {bool: other, int: 8 + other, float: 0.25 + other, bytes: b"\x00\xff" + bytes([other])}[kind]


def row_of(table, other=False):
    return {column.name: value_of(column, other) for column in table.columns if column.name != ROW_MAC}


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


def put(connection, bound, other=False):
    connection.execute(insert(bound.table).values(row_of(bound.table, other)))


def forge(connection, bound, **values):
    """Change rows as somebody does who can write to the database and has no keys."""
    connection.execute(unverified(update(bound.table).values(values), "an attack"))


# --- the declaration


def test_every_table_is_bound_or_says_why_not():
    assert set(BOUND).isdisjoint(NOT_BOUND)
    assert set(metadata.tables) == set(BOUND) | set(NOT_BOUND)
    assert all(NOT_BOUND.values())


@pytest.mark.parametrize("bound", BOUND_TABLES)
def test_every_column_is_covered_or_says_why_not(bound):
    left_out = BOUND[bound.name]
    columns = {column.name for column in bound.table.columns}
    assert columns == {ROW_MAC, *bound.names, *left_out}
    assert all(left_out.values())
    assert set(bound.key_names) <= set(bound.names)


def test_no_column_that_decides_is_left_out():
    """An exception for a column whose name is like those that decisions rest on needs a look at this list."""
    decide = ("status", "hash", "threshold", "_arn", "model_id", "watchlist_id", "speaker_id", "active")
    left_out = [f"{table}.{column}" for table, columns in BOUND.items() for column in columns]
    assert [name for name in left_out if any(word in name.partition(".")[2] for word in decide)] == []


# --- reading


@pytest.mark.parametrize("bound", BOUND_TABLES)
def test_row_reads_as_it_was_written_without_its_mac(connection, bound):
    put(connection, bound)
    (row,) = connection.execute(select(bound.table)).mappings()
    assert dict(row) == row_of(bound.table)


@pytest.mark.parametrize("bound", BOUND_TABLES)
def test_row_with_any_covered_column_changed_is_an_integrity_fault(connection, bound):
    put(connection, bound)
    for name in bound.names:
        column = bound.table.c[name]
        values = [value_of(column, other=True), *([None] if column.nullable else [])]
        for value in values:
            forge(connection, bound, **{name: value})
            with pytest.raises(IntegrityFault, match=bound.name):
                connection.execute(select(bound.table)).all()
            with pytest.raises(IntegrityFault, match=bound.name):
                connection.execute(select(bound.table.c[bound.key_names[0]])).all()
        forge(connection, bound, **{name: value_of(column)})
    assert len(connection.execute(select(bound.table)).all()) == 1


@pytest.mark.parametrize("bound", BOUND_TABLES)
def test_inserted_row_is_an_integrity_fault(connection, bound):
    put(connection, bound)
    mac = connection.execute(text(f"SELECT row_mac FROM {bound.name}")).scalar_one()
    for stolen in (None, bytes(33), mac):
        connection.execute(bound.table.delete())
        statement = insert(bound.table).values({**row_of(bound.table, other=True), ROW_MAC: stolen})
        connection.execute(statement)
        with pytest.raises(IntegrityFault, match=bound.name):
            connection.execute(select(bound.table)).all()


def test_rows_that_exchange_all_but_their_keys_are_integrity_faults(connection):
    (bound,) = [bound for bound in bound_tables() if bound.name == "speakers"]
    for other in (False, True):
        put(connection, bound, other)
    hashes = unverified(select(bound.table.c.speaker_id, bound.table.c.customer_id_hash), "an attack")
    one, two = connection.execute(hashes.order_by(bound.table.c.speaker_id)).all()
    for key, value in ((one[0], b"-"), (two[0], one[1]), (one[0], two[1])):
        statement = update(bound.table).where(bound.table.c.speaker_id == key)
        connection.execute(unverified(statement.values(customer_id_hash=value), "an attack"))
    for key in (one[0], two[0]):
        with pytest.raises(IntegrityFault):
            connection.execute(select(bound.table).where(bound.table.c.speaker_id == key)).all()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_value_of_another_type_is_an_integrity_fault(connection):
    """PostgreSQL stores no such value."""
    (bound,) = [bound for bound in bound_tables() if bound.name == "consents"]
    put(connection, bound)
    connection.execute(text("UPDATE consents SET principal_arn = CAST(principal_arn AS BLOB)"))
    with pytest.raises(IntegrityFault, match="consents"):
        connection.execute(select(bound.table)).all()


def test_changed_row_is_left_out_where_the_others_must_go_on(connection):
    (bound,) = [bound for bound in bound_tables() if bound.name == "consents"]
    put(connection, bound)
    forge(connection, bound, accepted_at=1)
    put(connection, bound, other=True)
    found = connection.execute(without_changed_rows(select(bound.table))).mappings().all()
    assert [dict(row) for row in found] == [row_of(bound.table, other=True)]


def test_row_that_was_left_out_is_reported(database):
    reported: list[IntegrityFault] = []
    database.report_faults_to(reported.append)
    (bound,) = [bound for bound in bound_tables() if bound.name == "consents"]
    with database.write() as connection:
        put(connection, bound)
        forge(connection, bound, accepted_at=1)
    with database.read() as connection:
        assert connection.execute(without_changed_rows(select(bound.table))).all() == []
    with pytest.raises(IntegrityFault), database.read() as connection:
        connection.execute(select(bound.table)).all()
    assert [(fault.table, fault.key) for fault in reported] == [("consents", "x" * 12)] * 2


# --- writing


@pytest.mark.parametrize("bound", BOUND_TABLES)
def test_update_of_a_changed_row_gives_it_no_mac(connection, bound):
    put(connection, bound)
    free = [name for name in bound.names if name not in bound.key_names] or list(bound.key_names)
    forged, updated = free[0], free[-1]
    forge(connection, bound, **{forged: value_of(bound.table.c[forged], other=True)})
    with pytest.raises(IntegrityFault, match=bound.name):
        value = value_of(bound.table.c[updated], other=True)
        connection.execute(update(bound.table).values({updated: value}))


def test_updates_of_one_and_of_many_rows_give_macs_that_fit(connection):
    (bound,) = [bound for bound in bound_tables() if bound.name == "consents"]
    for other in (False, True):
        put(connection, bound, other)
    table = bound.table
    one = update(table).where(table.c.account_id == "x" * 12).values(principal_arn="arn")
    assert connection.execute(one).rowcount == 1
    assert connection.execute(update(table).values(accepted_at=table.c.accepted_at + 1)).rowcount == 2
    rows = connection.execute(select(table).order_by(table.c.account_id)).all()
    assert [(row.principal_arn, row.accepted_at) for row in rows] == [("arn", 9), ("y" * 12, 10)]


def test_bound_tables_cannot_be_used_before_the_key_is_known(database_url):
    database = Database(database_url)
    (bound,) = [bound for bound in bound_tables() if bound.name == "consents"]
    with pytest.raises(RuntimeError), database.write() as connection:
        put(connection, bound)
    database.close()


def test_mac_of_another_installation_does_not_fit(database):
    (bound,) = [bound for bound in bound_tables() if bound.name == "consents"]
    with database.write() as connection:
        put(connection, bound)
    database.check_rows_by(RowMacs(bytes([1] * 32)))
    with pytest.raises(IntegrityFault), database.read() as connection:
        connection.execute(select(bound.table)).all()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["a", "b"], ["ab", ""]),
        (["a"], [b"a"]),
        ([1], [True]),
        ([1], [1.0]),
        ([1], ["1"]),
        ([None], [""]),
        ([0.0], [-0.0]),
    ],
)
def test_different_values_have_different_encodings(one, other):
    assert encode(one) != encode(other)
