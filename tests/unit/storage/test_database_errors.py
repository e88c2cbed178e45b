"""Errors of the database in one sentence, locks, and the write-ahead log."""

from __future__ import annotations

import gc
import resource
import sqlite3
import threading
from functools import partial

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError
from waiting import PATIENCE_S, in_time, wait_until

from sonant.errors import DatabaseUnavailable, SetupError
from sonant.storage.database import engine, sqlite
from sonant.storage.database.engine import Database
from sonant.storage.database.errors import error_text, sqlite_error

NOT_ONE = r"^the database cannot be used: file is not a database; restore a backup into another data folder "


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sonant.db"


@pytest.fixture
def database(path, monkeypatch):
    """Who waits for another's lock in vain, where nobody should, never comes back."""
    monkeypatch.setattr(sqlite, "LOCK_TIMEOUT_S", 3600.0)
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
def test_a_file_that_is_no_database_is_reported_in_one_sentence(path, content, how):
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


def test_damage_under_an_open_connection_is_reported(database, path):
    put(database, "x" * 20_000)
    database.truncate_wal()
    assert len(notes(database)) == 1
    database.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    other = Database(f"sqlite:///{path}")
    with pytest.raises(SetupError, match=r"^the database cannot be used: "):
        notes(other)
    other.close()


def test_a_folder_that_is_not_there_is_reported(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'none' / 'sonant.db'}")
    for use in (database.read, database.write):
        with pytest.raises(SetupError, match="unable to open database file"), use():
            pass
    with pytest.raises(SetupError, match="unable to open database file"):
        database.migrate()


def test_other_exceptions_pass_and_roll_back(database):
    with pytest.raises(IntegrityError), database.write() as connection:
        connection.execute(text("INSERT INTO notes (note) VALUES ('kept?')"))
        connection.execute(text("INSERT INTO notes (note) VALUES (NULL)"))
    with pytest.raises(OperationalError, match="no such table"), database.read() as connection:
        connection.execute(text("SELECT * FROM absent"))
    with pytest.raises(ZeroDivisionError), database.write() as connection:
        connection.execute(text("INSERT INTO notes (note) VALUES ('kept?')"))
        raise ZeroDivisionError
    assert notes(database) == []


def test_error_text_has_neither_sql_nor_values(database):
    with pytest.raises(IntegrityError) as raised, database.write() as connection:
        connection.execute(text("INSERT INTO notes (id, note) VALUES (1, :note)"), {"note": "jane-doe"})
        connection.execute(text("INSERT INTO notes (id, note) VALUES (1, :note)"), {"note": "jane-doe"})
    told = error_text(raised.value)
    assert told == "the database cannot be used: UNIQUE constraint failed: notes.id"
    assert error_text(sqlite3.OperationalError("database is locked")) == (
        "the database cannot be used: database is locked"
    )
    assert error_text(ValueError("other")) is None


# --- transactions


def test_a_snapshot_does_not_move_while_others_write(database):
    put(database, "first")
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM notes")).scalar() == 1
        in_time("a reader holds no writer up", lambda: put(database, "second"))
        assert connection.execute(text("SELECT count(*) FROM notes")).scalar() == 1
    assert notes(database) == ["first", "second"]


@pytest.mark.parametrize("outer", ["read", "write", "single"])
@pytest.mark.parametrize("inner", ["read", "write", "single"])
def test_a_transaction_within_another_is_refused(database, outer, inner):
    """It would wait for a connection while it holds one."""
    put(database, "first")
    with (
        getattr(database, outer)(),
        pytest.raises(RuntimeError, match="within another"),
        getattr(database, inner)(),
    ):
        raise AssertionError("it began")
    assert notes(database) == ["first"]


def test_every_thread_reads_while_many_more_have_read(database):
    """A thread keeps its connection for reading; no number of them takes another's away."""
    put(database, "first")
    together, seen = threading.Barrier(40), []

    def read():
        together.wait()
        seen.append(notes(database))
        together.wait()

    threads = [threading.Thread(target=read) for _ in range(39)]
    for thread in threads:
        thread.start()
    together.wait()
    together.wait()
    put(database, "second")
    assert seen == [["first"]] * 39
    for thread in threads:
        thread.join()
    gc.collect()
    assert database.use.reading <= 1, "threads that ended leave no connection open"


def test_closing_leaves_a_transaction_of_another_thread_whole(database, monkeypatch):
    """SQLite crashes the process when a connection is closed in the middle of a statement."""
    monkeypatch.setattr(engine, "CLOSE_WAIT_S", 0.01)
    put(database, "first")
    reading, closed, seen = threading.Event(), threading.Event(), []

    def read():
        with database.read() as connection:
            reading.set()
            assert closed.wait(PATIENCE_S)
            seen.extend(connection.execute(text("SELECT note FROM notes")).scalars())
        seen.extend(notes(database))

    thread = threading.Thread(target=read)
    thread.start()
    assert reading.wait(PATIENCE_S)
    database.close()
    closed.set()
    thread.join(PATIENCE_S)
    assert seen == ["first", "first"]


def _waiting(database, count):
    return database.use.waiting == count


def test_writers_are_admitted_in_the_order_of_arrival(database):
    threads = []
    with database.write():
        for number in range(12):
            thread = threading.Thread(target=put, args=(database, str(number)))
            thread.start()
            threads.append(thread)
            wait_until("it is in line", partial(_waiting, database, number + 1))
    for thread in threads:
        thread.join()
    assert notes(database) == [str(number) for number in range(12)]


def test_writer_that_waits_too_long_gets_database_unavailable(path, monkeypatch):
    monkeypatch.setattr("sonant.storage.database.sqlite.LOCK_TIMEOUT_S", 0.2)
    database, raised = Database(f"sqlite:///{path}"), []

    def write():
        try:
            with database.write():
                raise AssertionError("two wrote at once")
        except DatabaseUnavailable as fault:
            raised.append(str(fault))

    with database.write():
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert raised == ["the database is busy: no turn to write came free within 0.2 s"]
    assert (database.use.in_use, database.use.waiting) == (0, 0)
    database.close()


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


def test_truncating_the_wal_removes_destroyed_values_from_all_files(database, path):
    put(database, "a-wrapped-key-" + "k" * 200)
    with database.write() as connection:
        connection.execute(text("DELETE FROM notes"))
    log = path.with_name("sonant.db-wal")
    assert b"a-wrapped-key-" in log.read_bytes()
    database.truncate_wal()
    assert log.stat().st_size == 0
    assert b"a-wrapped-key-" not in path.read_bytes()


def test_truncating_the_wal_during_a_read_leaves_it_to_the_next_call(database, path):
    put(database, "before")
    log = path.with_name("sonant.db-wal")
    with database.engine.connect() as reader:
        reader.execute(text("SELECT count(*) FROM notes")).scalar()
        put(database, "after")
        in_time("it is left", database.truncate_wal)
        assert log.stat().st_size > 0
    database.truncate_wal()
    assert log.stat().st_size == 0
    assert notes(database) == ["before", "after"]


def test_truncating_the_wal_during_a_write_keeps_the_lock_timeout(database):
    with database.write() as connection:
        connection.execute(text("INSERT INTO notes (note) VALUES ('in hand')"))
        in_time("it is left", database.truncate_wal)
    with database.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver.execute("PRAGMA busy_timeout").fetchone() == (3_600_000,)
    assert notes(database) == ["in hand"]


def test_truncating_the_wal_of_an_unusable_database_raises_nothing(path, caplog):
    path.write_bytes(b"not a database, but long enough to be one" * 100)
    database = Database(f"sqlite:///{path}")
    database.truncate_wal()
    assert "the write-ahead log could not be emptied: the database cannot be used" in caplog.text
    database.close()


# --- what may work later


@pytest.fixture
def impatient(path, monkeypatch):
    """Another process's view of the same file, which waits for locks no longer than a moment."""
    monkeypatch.setattr(sqlite, "LOCK_TIMEOUT_S", 0.05)
    made = Database(f"sqlite:///{path}")
    yield made
    made.close()


def test_lock_of_another_process_is_a_temporary_error(database, impatient):
    with (
        database.write() as connection,
        pytest.raises(DatabaseUnavailable, match=r"^the database cannot be used: database is locked$"),
    ):
        connection.execute(text("INSERT INTO notes (note) VALUES ('theirs')"))
        put(impatient, "ours")
    put(impatient, "ours")
    assert notes(database) == ["theirs", "ours"]


def test_full_disk_is_a_temporary_error_and_rolls_back(database):
    def write_much():
        with database.write() as connection:
            connection.execute(text("INSERT INTO notes (note) VALUES ('first')"))
            pages = connection.execute(text("PRAGMA page_count")).scalar_one()
            connection.connection.driver_connection.execute(f"PRAGMA max_page_count={pages}")
            connection.execute(text("INSERT INTO notes (note) VALUES (:note)"), {"note": "x" * 100_000})

    with pytest.raises(DatabaseUnavailable, match="database or disk is full"):
        write_much()
    assert notes(database) == []


def test_lack_of_file_descriptors_is_a_temporary_error(path, database):
    put(database, "kept")
    fresh = Database(f"sqlite:///{path}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        for use in (fresh.read, fresh.write):
            with pytest.raises(DatabaseUnavailable, match="unable to open database file"), use():
                pass
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert notes(fresh) == ["kept"]
    fresh.close()


@pytest.mark.parametrize(
    "code", ["BUSY_SNAPSHOT", "LOCKED", "NOMEM", "IOERR_READ", "IOERR_FSYNC", "FULL", "PROTOCOL"]
)
def test_faults_of_the_machine_are_temporary(code):
    # Devices that fail cannot be had here; the driver tells of them like this.
    fault = sqlite3.OperationalError("of the machine")
    fault.sqlite_errorcode = getattr(sqlite3, f"SQLITE_{code}")
    assert isinstance(sqlite_error(fault, None), DatabaseUnavailable)
    assert isinstance(sqlite_error(OperationalError("SELECT", {}, fault), None), DatabaseUnavailable)
    assert isinstance(sqlite_error(MemoryError(), None), DatabaseUnavailable)


@pytest.mark.parametrize("code", ["ERROR", "CONSTRAINT_UNIQUE", "MISMATCH", "TOOBIG"])
def test_faults_of_the_statement_are_not_temporary(code):
    fault = sqlite3.OperationalError("of the statement")
    fault.sqlite_errorcode = getattr(sqlite3, f"SQLITE_{code}")
    assert sqlite_error(fault, None) is None
    assert sqlite_error(ValueError("of ours"), None) is None
