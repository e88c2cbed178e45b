"""`first_row` returns the same values as an ordinary read, for every column."""

from __future__ import annotations

import enum
import uuid
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Date,
    DateTime,
    Enum,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    TypeDecorator,
    Uuid,
    bindparam,
    insert,
    select,
    true,
)
from strict_json import assert_same

from sonant.storage.database.bound_connection import unverified
from sonant.storage.database.rows import first_row
from sonant.storage.database.schema import metadata

WHOLE, PARTS = 7, 0.25


class Colour(enum.Enum):
    RED = "r"


class Spaced(TypeDecorator[str]):
    """A type of one's own: text that is kept with dashes for spaces."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else value.replace(" ", "-")

    def process_result_value(self, value, dialect):
        return None if value is None else value.replace("-", " ")


#: A value of every kind that a driver may know otherwise than Python does.
KINDS: dict[str, tuple[Any, Any]] = {
    "flag": (Boolean, False),
    "moment": (DateTime(timezone=False), datetime.fromisoformat("2026-03-01T12:30:00.000125")),
    "day": (Date, date(2026, 3, 1)),
    "lasting": (Interval, timedelta(hours=3, microseconds=5)),
    "document": (JSON, {"a": [True, None, 0.5]}),
    "colour": (Enum(Colour), Colour.RED),
    "price": (Numeric(8, 2, asdecimal=True), Decimal("12.30")),
    "identity": (Uuid, uuid.UUID("12345678-1234-5678-1234-567812345678")),
    "own": (Spaced, "a b"),
    "sealed": (LargeBinary, b"\x00\xff"),
}
OTHERS = Table(
    "others",
    MetaData(),
    Column("number", Integer, primary_key=True),
    *(Column(name, kind) for name, (kind, _) in KINDS.items()),
)


def value_of(column, flag):
    """Something that may stand in the column."""
    kind = column.type.python_type
    if kind is bool:
        return flag
    if kind is str:
        return "x" * min(column.type.length or 12, 12)
    return {int: WHOLE, float: PARTS, bytes: b"\x00\xff"}[kind]


@pytest.fixture
def connection(database):
    """Rows may refer to rows that are not there: here it is about one table at a time. Nothing is kept."""
    lenient = {
        "sqlite": "PRAGMA defer_foreign_keys=ON",
        "postgresql": "SET session_replication_role = replica",
    }
    with database.engine.connect() as connection:
        connection.exec_driver_sql(lenient[connection.dialect.name])
        yield connection


def both_ways(connection, statement, parameters=None):
    """The row of the quick read, after it was compared with that of the ordinary one."""
    found = named(first_row(connection, statement, parameters or {}))
    assert_same(found, named(connection.execute(statement, parameters or {}).mappings().one()))
    return found


def whole(table):
    """All columns as they are, without a look at the MACs: the rows of these tests have none that fit."""
    return unverified(select(table), "made-up rows")


def named(row):
    """A row by plain names: those of SQLAlchemy are of a type of its own."""
    return {str(name): value for name, value in row.items()}


@pytest.mark.parametrize("flag", [False, True])
def test_every_table_reads_as_it_was_written(connection, flag):
    for table in metadata.sorted_tables:
        row = {str(column.name): value_of(column, flag) for column in table.columns}
        connection.execute(insert(table).values(row))
        assert_same({str(table.name): both_ways(connection, whole(table))}, {str(table.name): row})


def test_what_is_absent_stays_absent(connection):
    for table in metadata.sorted_tables:
        row = {
            str(column.name): None if column.nullable else value_of(column, False) for column in table.columns
        }
        connection.execute(insert(table).values(row))
        assert_same({str(table.name): both_ways(connection, whole(table))}, {str(table.name): row})


def test_first_row_converts_types_that_no_table_has_yet(connection):
    OTHERS.create(connection)
    row = {"number": 1, **{name: value for name, (_, value) in KINDS.items()}}
    connection.execute(insert(OTHERS).values(row))
    connection.execute(insert(OTHERS).values(number=2))
    assert_same(both_ways(connection, select(OTHERS).where(OTHERS.c.number == bindparam("n")), {"n": 1}), row)
    for name, (_, value) in KINDS.items():
        if name == "document":
            continue  # PostgreSQL does not compare JSON
        column = OTHERS.c[name]
        asked = select(OTHERS.c.number, column).where(column == bindparam("wanted"))
        assert_same(both_ways(connection, asked, {"wanted": value}), {"number": 1, name: value})
        fixed = select(OTHERS.c.number).where(column == value)
        assert_same(both_ways(connection, fixed), {"number": 1})


def test_expressions_and_names_of_ones_own_are_typed_too(connection):
    OTHERS.create(connection)
    connection.execute(insert(OTHERS).values(number=1, flag=False))
    asked = select(OTHERS.c.flag.label("is_so"), true().label("always"), (OTHERS.c.number > 0).label("more"))
    assert_same(both_ways(connection, asked), {"is_so": False, "always": True, "more": True})


def test_no_row_is_none(connection):
    OTHERS.create(connection)
    assert first_row(connection, select(OTHERS), {}) is None
