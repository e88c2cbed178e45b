"""A damaged page of SQLite's file is found, counted and reported with advice."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from sonant.errors import CheckUnfinished, SetupError
from sonant.metrics import MetricsRegistry
from sonant.retention.housekeeping import Housekeeper
from sonant.storage.database.engine import Database
from sonant.storage.database.row_macs import RowMacs
from sonant.storage.database.schema import principals
from sonant.storage.repositories import counters
from sonant.storage.times import now

CURE = "restore a backup into another data folder (`sonant restore` with another --data)"
LONG_S = 3600.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sonant.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{path}")
    made.migrate()
    made.check_rows_by(RowMacs(bytes(32)))
    with made.write() as connection:
        rows = [
            {"arn": f"arn:{n}", "account_id": "0" * 12, "policies": "x" * 900, "created_at": n}
            for n in range(400)
        ]
        connection.execute(insert(principals), rows)
    made.truncate_wal()
    yield made
    made.close()


def no_keys(_account_id: str, _region: str) -> Any:
    raise AssertionError("no key is needed")


def keeper_of(database: Database) -> Housekeeper:
    return Housekeeper(database=database, keys_of=no_keys, clock=now)


@pytest.fixture
def keeper(database: Database) -> Housekeeper:
    return keeper_of(database)


def damage_a_page(path: Path) -> None:
    """A leaf of a table, in the middle of the file."""
    with closing(sqlite3.connect(path)) as database:
        (page,) = database.execute("SELECT max(pageno) - 5 FROM dbstat WHERE name = 'principals'").fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


def test_a_sound_database_has_no_damage(database_url: str) -> None:
    with closing(Database(database_url)) as database:
        database.migrate()
        assert database.find_damage(LONG_S) is None
        assert keeper_of(database).check_database() is False
        assert b"sonant_database_damaged 0.0" in MetricsRegistry(database, 0, lambda: False).render()


def test_a_damaged_page_is_found_counted_and_reported(
    database: Database, path: Path, keeper: Housekeeper, caplog: pytest.LogCaptureFixture
) -> None:
    database.close()
    damage_a_page(path)
    told = database.find_damage(LONG_S)
    assert told is not None
    assert told.startswith("the database is damaged (")
    assert told.endswith(CURE)
    assert "\n" not in told
    with caplog.at_level(logging.ERROR):
        keeper.turn({})
    assert told in caplog.messages
    assert b"sonant_database_damaged 1.0" in MetricsRegistry(database, 0, lambda: False).render()


def test_what_stumbles_over_a_damaged_page_names_the_remedy(database: Database, path: Path) -> None:
    database.close()
    damage_a_page(path)
    with pytest.raises(SetupError) as fault, database.read() as connection:
        connection.execute(select(principals)).all()
    assert str(fault.value).endswith(CURE)


def test_a_look_that_may_not_take_so_long_is_left_to_the_doctor(
    database: Database, keeper: Housekeeper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sonant.storage.database.sqlite.CHECK_STEPS", 10)
    monkeypatch.setattr("sonant.retention.housekeeping.CHECK_S", -1.0)
    with pytest.raises(CheckUnfinished, match="was not checked within -1 s"):
        database.find_damage(-1.0)
    with caplog.at_level(logging.INFO):
        assert keeper.check_database() is False
    assert "run `sonant doctor`" in caplog.text
    assert database.find_damage(LONG_S) is None, "the next look is not broken off"


def test_a_number_that_is_put_takes_the_place_of_the_last(database: Database) -> None:
    for value in (1.0, 0.0, 1.0):
        with database.write() as connection:
            counters.put(connection, counters.DAMAGED, value)
            assert counters.read(connection)[counters.DAMAGED, ""] == value
