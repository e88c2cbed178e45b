"""Backup and restore: a consistent snapshot of an installation in one sealed file."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from batch_testbed import Testbed
from batch_values import entry, fraud_entry
from forked_commands import run_sonant
from hypothesis import given, settings
from hypothesis import strategies as st
from postgres_server import not_default
from sqlalchemy import select
from waiting import PATIENCE_S, wait_until

from sonant.assembly.supervisor import STATE_FILE
from sonant.backup import sealed_file
from sonant.backup.create import TRANSIENT_TABLES, create, tables
from sonant.backup.restore import check, restore
from sonant.cli.service_client import ENDPOINT_FILE
from sonant.errors import SetupError
from sonant.settings import Enrollment, Fraud, Jobs, Registration, Settings
from sonant.storage.repositories import counters
from sonant.storage.times import now

SECRET = b"correct horse battery"


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Scrypt costs half a second, on purpose; here it is asked for hundreds of times."""
    before, sealed_file.COST = sealed_file.COST, 2**4
    yield
    sealed_file.COST = before


def settings_of(data: Path, database: str = "") -> Settings:
    return Settings(
        data=data,
        encoder="ge2e",
        database=not_default(database),
        enrollment=Enrollment(net_speech_s=6.0),
        registration=Registration(net_speech_s=6.0),
        jobs=Jobs(workers=1),
        fraud=Fraud(spoofing_max_s=0),
    )


@contextmanager
def furnished(settings: Settings, calls) -> Iterator[tuple[Testbed, str]]:
    """A testbed with people and fraudsters in it, and their domain."""
    testbed = Testbed.open(settings)
    try:
        for name, recording in calls.items():
            testbed.put(f"s3://calls/{name}", recording)
        domain_id = testbed.new_domain()
        testbed.call("OptOutSpeaker", DomainId=domain_id, SpeakerId="gone")
        testbed.enroll(domain_id, [entry("r1", "ada", "s3://calls/english.wav")])
        testbed.register(domain_id, [fraud_entry("f1", "s3://calls/french.wav")])
        yield testbed, domain_id
    finally:
        testbed.close()


def contents(testbed: Testbed) -> dict[str, list[tuple[object, ...]]]:
    """All rows."""
    with testbed.store.database.read() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
            for table in tables()
        }


@pytest.fixture
def other_database(request, postgres_server):
    with postgres_server.migrated() as url:
        yield url


def test_what_was_backed_up_comes_back_on_either_database(tmp_path, calls, database_url, other_database):
    with furnished(settings_of(tmp_path / "data", database_url), calls) as (testbed, domain_id):
        file = tmp_path / "sonant.backup"
        before, voices = contents(testbed), testbed.voiceprints(domain_id)
        fraudsters = testbed.fraudsters(domain_id)
        held = create(testbed.settings, file, SECRET, now)
        assert file.stat().st_mode & 0o777 == 0o600
        assert held.rows == sum(map(len, before.values()))
        noted = {row for row in contents(testbed)["counters"] if row not in before["counters"]}
        assert [row[0] for row in noted] == [counters.LAST_BACKUP], "the time of the backup, and nothing else"
    for number, target in enumerate(("", other_database)):
        new = settings_of(tmp_path / f"new-{number}", target)
        assert restore(new, file, SECRET).backup == check(file, SECRET)
        again = Testbed.open(new)
        try:
            assert contents(again) == before
            assert (again.settings.data / "credentials").read_bytes() == (
                tmp_path / "data" / "credentials"
            ).read_bytes()
            for name, vector in again.voiceprints(domain_id).items():
                assert np.array_equal(vector, voices[name])
            assert again.fraudsters(domain_id).keys() == fraudsters.keys()
            # It is a whole installation: new rows get new numbers, and enrollment goes on.
            for recording in ("english-again.wav",):
                again.put(f"s3://calls/{recording}", calls[recording])
            outcome = again.enroll(domain_id, [entry("r2", "bob", "s3://calls/english-again.wav")])
            assert outcome.status == "COMPLETED"
        finally:
            again.close()


@pytest.mark.slow
def test_a_backup_under_load_is_of_one_moment(tmp_path, calls, database_url):
    with furnished(settings_of(tmp_path / "data", database_url), calls) as (testbed, domain_id):
        stop = threading.Event()
        made: list[str] = []

        def write() -> None:
            # Each speaker is one transaction over several tables, and one more of a count that is kept.
            while not stop.is_set():
                made.append(f"late-{len(made)}")
                testbed.call("OptOutSpeaker", DomainId=domain_id, SpeakerId=made[-1])

        writer = threading.Thread(target=write)
        writer.start()
        try:
            wait_until("some are made", lambda: len(made) >= 5)
            create(testbed.settings, tmp_path / "sonant.backup", SECRET, now)
        finally:
            stop.set()
            writer.join()
    new = settings_of(tmp_path / "new")
    restore(new, tmp_path / "sonant.backup", SECRET)
    again = Testbed.open(new)
    try:
        found = contents(again)
        (count,) = [row for row in found["speaker_counts"] if row[0] == domain_id]
        assert count[1] == len(found["speakers"]) == len(found["speaker_keys"])
        assert set(again.speakers(domain_id)) <= {"ada", "gone", *made}
    finally:
        again.close()


# --- damage -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of an installation with little in it."""
    folder = tmp_path_factory.mktemp("whole")
    testbed = Testbed.open(settings_of(folder / "data"))
    testbed.call("OptOutSpeaker", DomainId=testbed.new_domain(), SpeakerId="ada")
    for name in (STATE_FILE, ENDPOINT_FILE):
        (testbed.settings.data / name).write_text("of the processes that run now")
    create(testbed.settings, folder / "sonant.backup", SECRET, now)
    testbed.close()
    return folder / "sonant.backup"


def refused(file: Path, secret: bytes = SECRET) -> str:
    with pytest.raises(SetupError) as fault:
        check(file, secret)
    return str(fault.value)


def test_only_its_passphrase_opens_it(whole):
    assert "another passphrase" in refused(whole, SECRET + b"!")


@settings(max_examples=60)
@given(st.data())
def test_a_changed_backup_does_not_open(whole, data):
    content = bytearray(whole.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    changed = whole.with_name("changed")
    changed.write_bytes(content)
    assert "does not open" in refused(changed) or "not a backup" in refused(changed)


@settings(max_examples=40)
@given(st.data())
def test_a_backup_that_was_cut_short_does_not_open(whole, data):
    content = whole.read_bytes()
    cut = whole.with_name("cut")
    cut.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    refused(cut)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"file": "../outside", "bytes": 0}, "outside"),
        ({"file": "/etc/passwd", "bytes": 0}, "outside"),
        ({"file": "keys/../../x", "bytes": 0}, "outside"),
        ({"file": "sonant.db", "bytes": 0}, "database's name"),
        ({"file": "x/" * 40 + "y", "bytes": 0}, "outside"),
        ({"table": "passwd", "columns": []}, "passwd"),
        ({"table": "domains", "columns": ["password"]}, "does not know"),
        ({"nothing": 1}, "an unknown line"),
        ({"end": {"rows": 7, "files": 0}}, "follows its end"),
        ([1, 2], "an unknown line"),
    ],
)
def test_whoever_knows_the_passphrase_still_writes_nowhere_else(tmp_path, whole, line, said):
    head = next(sealed_file.read(whole, SECRET))
    hostile = tmp_path / "hostile"
    sealed_file.write(hostile, [head, line, {"end": {"rows": 0, "files": 1}}], SECRET)
    new = settings_of(tmp_path / "new")
    with pytest.raises(SetupError, match="not a backup that this release can read") as fault:
        restore(new, hostile, SECRET)
    assert said in str(fault.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hostile"]


def test_a_hostile_key_cannot_make_the_reader_work_for_ever(whole):
    content = whole.read_bytes()
    greedy = whole.with_name("greedy")
    asked = json.dumps({"n": 2**40, "r": 8, "p": 1, "salt": "00" * 16}).encode()
    greedy.write_bytes(content[:16] + len(asked).to_bytes(2, "big") + asked + b"\0\6scrypt" + bytes(64))
    assert "an unknown form" in refused(greedy)


def test_a_key_that_needs_more_memory_than_there_is_does_not_open(whole, monkeypatch):
    def greedy(**_):
        raise MemoryError

    monkeypatch.setattr(sealed_file, "Scrypt", greedy)
    assert "more memory than is free" in refused(whole)


# --- places that are taken -------------------------------------------------------------------------------


def test_nothing_is_overwritten(tmp_path, whole, other_database):
    testbed = Testbed.open(settings_of(tmp_path / "data", other_database))
    try:
        with pytest.raises(SetupError, match="is not empty"):
            restore(testbed.settings, whole, SECRET)
        with pytest.raises(SetupError, match="the database has rows in"):
            restore(replace(testbed.settings, data=tmp_path / "elsewhere"), whole, SECRET)
        assert not (tmp_path / "elsewhere").exists()
        with pytest.raises(SetupError, match="exists already"):
            create(testbed.settings, whole, SECRET, now)
    finally:
        testbed.close()


def test_what_belongs_to_other_settings_is_reported(tmp_path, whole):
    with pytest.raises(SetupError, match="set `account` to it"):
        restore(replace(settings_of(tmp_path / "new"), account="1" * 12), whole, SECRET)
    assert not list(tmp_path.iterdir())


def test_a_backup_of_another_release_is_refused(tmp_path, whole):
    head, *lines = sealed_file.read(whole, SECRET)
    other = tmp_path / "other"
    sealed_file.write(other, [head | {"schema": "9999", "version": "9.9"}, *lines], SECRET)
    with pytest.raises(SetupError, match=r"made by Sonant 9\.9, whose tables are others"):
        restore(settings_of(tmp_path / "new"), other, SECRET)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


# --- the commands ----------------------------------------------------------------------------------------


def sonant(*arguments: str, data: Path, secret: bytes = SECRET, **how) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SONANT_")}
    known = {**kept, "SONANT_DATA": str(data), "SONANT_BACKUP_PASSPHRASE": secret.decode()}
    command = [sys.executable, "-m", "sonant", *arguments]
    if not how:
        return subprocess.CompletedProcess(command, *run_sonant(arguments, known, data.parent))
    return subprocess.run(command, env=known, capture_output=True, text=True, timeout=PATIENCE_S, **how)


def test_the_commands_say_what_they_did(tmp_path, whole):
    file = tmp_path / "new.backup"
    done = sonant("backup", str(file), data=whole.parent / "data")
    assert done.returncode == 0, done.stderr
    assert "rows" in done.stdout and "sealed" in done.stdout
    done = sonant("restore", "--check", str(file), data=tmp_path / "none")
    assert done.returncode == 0 and "is whole" in done.stdout
    assert not (tmp_path / "none").exists()
    done = sonant("restore", str(file), data=tmp_path / "none", secret=b"something else entirely")
    assert done.returncode == 1 and "another passphrase" in done.stderr
    done = sonant("restore", str(file), data=tmp_path / "none")
    assert done.returncode == 0, done.stderr
    (tmp_path / "none" / "audit").mkdir(mode=0o700)  # which a service makes; none has run here
    done = sonant("doctor", data=tmp_path / "none")
    assert done.returncode == 0, done.stdout
    done = sonant("backup", str(tmp_path / "x"), data=tmp_path / "none", secret=b"short")
    assert done.returncode == 1 and "12 characters" in done.stderr
    assert not (tmp_path / "x").exists()


def test_a_full_disk_leaves_no_backup(tmp_path, whole):
    (tmp_path / "data").mkdir(mode=0o700)
    shutil.copytree(whole.parent / "data", tmp_path / "data", dirs_exist_ok=True)
    (tmp_path / "data" / "note").write_bytes(bytes(500_000))
    limit = 200_000  # the database's own files are smaller

    def small() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = sonant("backup", str(tmp_path / "x"), data=tmp_path / "data", preexec_fn=small)
    assert done.returncode == 1, done.stdout
    assert "File too large" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_backup_that_was_killed_bears_no_name(tmp_path, whole):
    shutil.copytree(whole.parent / "data", tmp_path / "data")
    with (tmp_path / "data" / "note").open("wb") as note:
        note.truncate(2**32)  # takes no room, and long to read
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SONANT_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "sonant", "backup", str(tmp_path / "x")],
        env={**kept, "SONANT_DATA": str(tmp_path / "data"), "SONANT_BACKUP_PASSPHRASE": SECRET.decode()},
    )

    def begun() -> bool:
        assert process.poll() is None
        return any(path.stat().st_size for path in tmp_path.glob(".x.*"))

    wait_until("it is written", begun)
    process.kill()
    process.wait(PATIENCE_S)
    assert not (tmp_path / "x").exists()
    (unfinished,) = tmp_path.glob(".x.*")
    assert "does not open" in refused(unfinished)


def test_rates_are_all_that_is_left_out(whole):
    lines = [line for line in sealed_file.read(whole, SECRET) if isinstance(line, dict)]
    named = {line["table"] for line in lines if "table" in line}
    assert named == {table.name for table in tables()}
    assert TRANSIENT_TABLES == ("rate_buckets",)


def test_files_of_running_processes_are_left_out(whole):
    lines = [line for line in sealed_file.read(whole, SECRET) if isinstance(line, dict)]
    files = {line["file"] for line in lines if "file" in line}
    assert files and not files & {STATE_FILE, ENDPOINT_FILE}


def test_nothing_of_it_can_be_read_without_the_passphrase(whole):
    content = whole.read_bytes()
    assert b"domains" not in content and b"speaker_id" not in content and b"service.key" not in content
