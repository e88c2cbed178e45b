"""A database that cannot be used is told in one sentence; what was destroyed leaves the log."""

from __future__ import annotations

import sqlite3
import threading

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError

from sonant.errors import SetupError
from sonant.store.database import engine
from sonant.store.database.engine import Database, fault_text
from waiting import PATIENCE_S, in_time

NOT_ONE = r"^the database cannot be used: file is not a database$"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sonant.db"


@pytest.fixture
def database(path, monkeypatch):
    """Who waits for another's lock in vain, where nobody should, never comes back."""
    monkeypatch.setattr(engine, "LOCK_WAIT_S", 3600.0)
    made = Database(f"sqlite:///{path}")
    with made.write() as connection:
        connection.execute(text("CREATE TABLE notes (id INTEGER PRIMARY KEY, note TEXT NOT NULL)"))
    yield made
    made.close()


def put(database, note):
    with database.write() as connection:
        connection.execute(text("INSERT INTO notes (note) VALUES (:note)"), {"note": note})


def notes(database):
    with database.read() as connection:
        return list(connection.execute(text("SELECT note FROM notes ORDER BY id")).scalars())


# --- what cannot be used


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be one" * 100, b"SQLite format 4\0" * 64]
)
@pytest.mark.parametrize("how", ["read", "write", "migrate"])
def test_a_file_that_is_no_database_is_told_in_one_sentence(path, content, how):
    path.write_bytes(content)
    database = Database(f"sqlite:///{path}")
    with pytest.raises(SetupError, match=NOT_ONE):
        if how == "migrate":
            database.migrate()
        else:
            with getattr(database, how)() as connection:
                connection.execute(text("SELECT 1"))
    database.close()
    assert path.read_bytes() == content, "it is left as it is"


def test_a_database_that_turns_bad_under_an_open_connection_is_told_too(database, path):
    put(database, "x" * 20_000)
    database.scrub()
    assert len(notes(database)) == 1
    database.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    other = Database(f"sqlite:///{path}")
    with pytest.raises(SetupError, match=r"^the database cannot be used: "):
        notes(other)
    other.close()


def test_a_folder_that_is_not_there_is_told(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'none' / 'sonant.db'}")
    for use in (database.read, database.write):
        with pytest.raises(SetupError, match="unable to open database file"), use():
            pass
    with pytest.raises(SetupError, match="unable to open database file"):
        database.migrate()


def test_other_faults_pass_as_they_are_and_undo_the_transaction(database):
    with pytest.raises(IntegrityError), database.write() as connection:
        connection.execute(text("INSERT INTO notes (note) VALUES ('kept?')"))
        connection.execute(text("INSERT INTO notes (note) VALUES (NULL)"))
    with pytest.raises(OperationalError, match="no such table"), database.read() as connection:
        connection.execute(text("SELECT * FROM absent"))
    with pytest.raises(ZeroDivisionError), database.write() as connection:
        connection.execute(text("INSERT INTO notes (note) VALUES ('kept?')"))
        raise ZeroDivisionError
    assert notes(database) == []


def test_a_faults_sentence_holds_neither_sql_nor_values(database):
    with pytest.raises(IntegrityError) as raised, database.write() as connection:
        connection.execute(text("INSERT INTO notes (id, note) VALUES (1, :note)"), {"note": "jane-doe"})
        connection.execute(text("INSERT INTO notes (id, note) VALUES (1, :note)"), {"note": "jane-doe"})
    told = fault_text(raised.value)
    assert told == "the database cannot be used: UNIQUE constraint failed: notes.id"
    assert fault_text(sqlite3.OperationalError("database is locked")) == (
        "the database cannot be used: database is locked"
    )
    assert fault_text(ValueError("other")) is None


# --- transactions


def test_a_snapshot_does_not_move_while_others_write(database):
    put(database, "first")
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM notes")).scalar() == 1
        in_time("a reader holds no writer up", lambda: put(database, "second"))
        assert connection.execute(text("SELECT count(*) FROM notes")).scalar() == 1
    assert notes(database) == ["first", "second"]


def test_a_read_within_a_read_works(database):
    put(database, "first")
    with database.read() as outer:
        assert notes(database) == ["first"]
        assert outer.execute(text("SELECT count(*) FROM notes")).scalar() == 1
    assert notes(database) == ["first"]


def test_writers_wait_for_each_other_and_none_is_lost(database):
    threads = [
        threading.Thread(target=lambda n=n: [put(database, f"{n}-{m}") for m in range(10)]) for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(notes(database)) == sorted(f"{n}-{m}" for n in range(6) for m in range(10))


# --- the write-ahead log


def test_scrubbing_takes_what_was_destroyed_out_of_every_file(database, path):
    put(database, "a-wrapped-key-" + "k" * 200)
    with database.write() as connection:
        connection.execute(text("DELETE FROM notes"))
    log = path.with_name("sonant.db-wal")
    assert b"a-wrapped-key-" in log.read_bytes()
    database.scrub()
    assert log.stat().st_size == 0
    assert b"a-wrapped-key-" not in path.read_bytes()


def test_scrubbing_leaves_the_log_of_a_reader_who_stays_to_the_next_one(database, path):
    put(database, "before")
    log = path.with_name("sonant.db-wal")
    with database.engine.connect() as reader:
        reader.execute(text("SELECT count(*) FROM notes")).scalar()
        put(database, "after")
        in_time("it is left", database.scrub)
        assert log.stat().st_size > 0
    database.scrub()
    assert log.stat().st_size == 0
    assert notes(database) == ["before", "after"]


def test_scrubbing_while_somebody_writes_is_no_error_and_later_writers_wait_as_long_as_ever(database):
    with database.write() as connection:
        connection.execute(text("INSERT INTO notes (note) VALUES ('in hand')"))
        in_time("it is left", database.scrub)
    with database.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver.execute("PRAGMA busy_timeout").fetchone() == (3_600_000,)
    assert notes(database) == ["in hand"]


def test_scrubbing_a_database_that_cannot_be_used_is_no_error(path, caplog):
    path.write_bytes(b"not a database, but long enough to be one" * 100)
    database = Database(f"sqlite:///{path}")
    database.scrub()
    assert "the write-ahead log could not be emptied: the database cannot be used" in caplog.text
    database.close()
