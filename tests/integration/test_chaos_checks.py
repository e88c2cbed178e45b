"""The chaos suite's search of disks finds what lies open, and hurts nobody's database."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from chaos_checks import of_speech, of_vector, search
from waiting import PATIENCE_S

RNG = np.random.default_rng(7)
VECTOR = RNG.standard_normal(192).astype("<f4")
SPEECH = RNG.integers(-9000, 9000, 8000, dtype="<i2")
WRITE = (
    "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('pragma journal_mode=wal');"
    "c.execute('create table if not exists t(a)'); c.execute('insert into t values(1)'); c.commit();"
    "c.close()"
)


@pytest.mark.parametrize(
    ("planted", "needles"),
    [
        (VECTOR.tobytes(), of_vector(VECTOR)[:1]),
        (VECTOR.astype("<f2").tobytes(), of_vector(VECTOR)[1:2]),
        (VECTOR[64:].tobytes(), of_vector(VECTOR)[2:3]),
        (VECTOR[64:].astype("<f2").tobytes(), of_vector(VECTOR)[3:]),
        (SPEECH.tobytes(), of_speech(SPEECH)[:1]),
        ((SPEECH / np.float32(2**15)).astype("<f4").tobytes(), of_speech(SPEECH)[1:]),
    ],
)
def test_search_finds_readable_voices_and_skips_the_users_own_files(
    planted: bytes, needles: list[bytes], tmp_path: Path
) -> None:
    (tmp_path / "deep" / "results").mkdir(parents=True)
    (tmp_path / "other").write_bytes(b"something else")
    (tmp_path / "deep" / "results" / "file").write_bytes(b"odd" + planted)
    with pytest.raises(AssertionError, match="file holds"):
        search([tmp_path], skipped=[], needles=needles)
    search([tmp_path], skipped=[tmp_path / "deep"], needles=needles)


def test_what_a_database_has_written_to_its_log_is_found(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "some.db") as database:
        database.execute("pragma journal_mode=wal")
        database.execute("create table t(a)")
        database.execute("insert into t values('planted-marker-1')")
        database.commit()
        with pytest.raises(AssertionError, match=r"some\.db(-wal)? holds"):
            search([tmp_path], skipped=[], needles=[b"planted-marker"])


def test_a_search_of_nothing_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="nothing was looked at"):
        search([tmp_path / "absent"], skipped=[], needles=[b"x"])


def test_reader_of_a_database_sees_later_writes_after_a_search(tmp_path: Path) -> None:
    def write() -> None:
        subprocess.run([sys.executable, "-c", WRITE, path], check=True, timeout=PATIENCE_S)

    path = tmp_path / "some.db"
    write()
    reader = sqlite3.connect(path)
    reader.execute("pragma journal_mode=wal")
    count = "select count(*) from t"
    assert reader.execute(count).fetchall() == [(1,)]
    search([tmp_path], skipped=[], needles=[b"planted-marker"])
    for expected in (2, 3):
        write()
        assert reader.execute(count).fetchall() == [(expected,)]
    reader.close()
