"""A year in minutes: growth stays within the documented bound, and only documented steps are done by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from documents import REPOSITORY
from simulated_year import AUDIT_STAYS, CHORES, ENROLLED, SESSIONS, Sizes, Year

from sonant.settings import Events, Jobs, Settings

DAYS = 365
EVENT_FILE_BYTES, EVENT_FILES = 200_000, 3


def documented(what: str) -> float:
    """How many kilobytes one of something takes at most, by docs/operations.md; in bytes."""
    page = (REPOSITORY / "docs" / "operations.md").read_text("utf-8")
    (found,) = re.findall(rf"^\| {re.escape(what)} \| ([\d.]+) kB \|", page, re.M)
    return float(found) * 1000


@pytest.fixture
def year(tmp_path: Path) -> Iterator[Year]:
    settings = Settings(
        data=tmp_path / "data",
        jobs=Jobs(workers=1),
        events=Events(sinks="file", file_max_bytes=EVENT_FILE_BYTES, file_keep=EVENT_FILES),
    )
    made = Year(settings, tmp_path)
    yield made
    made.close()


def most_database(year: Year, found: Sizes) -> float:
    """The documented bound of the database's file."""
    of_a_session = documented("a session, until it is deleted")
    # Deletions are made once a day: a day's sessions are there twice.
    sessions = max(found.sessions, 2 * SESSIONS)
    return (
        documented("an empty installation")
        + found.speakers * documented("a speaker, with the voiceprint")
        + sessions * of_a_session
        + found.waiting_events * documented("an event, until it is deleted")
        + year.done["jobs"] * documented("a job that has ended")
    )


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_year_needs_no_hand_but_the_documented_ones(year: Year) -> None:
    for _ in range(DAYS):
        year.live_a_day()
        if year.day % 30 == 0 or year.day == DAYS:
            check_growth(year, year.sizes())
    for every, command in CHORES:
        assert year.done[" ".join(command[:2])] >= DAYS // every, command
    assert year.done["enrollments"] == DAYS * ENROLLED
    checked = year.command("doctor", "--output", "json", "--integrity")
    faults = [one for one in json.loads(checked.out)["Checks"] if not one["Passed"]]
    assert {one["Name"] for one in faults} <= {"data folder"}, faults  # the machine's own disk may be full


def check_growth(year: Year, found: Sizes) -> None:
    """Compare each part of the data folder with its documented bound."""
    assert found.database <= most_database(year, found), (year.day, found)
    assert found.events <= EVENT_FILE_BYTES * (EVENT_FILES + 1), (year.day, found)
    assert found.ledger <= year.done["DeleteSpeaker"] * documented("a deletion in the ledger"), found
    lines = sum(len(file.read_bytes().splitlines()) for file in trail(year))
    assert sum(file.stat().st_size for file in trail(year)) <= lines * documented("an audit record")
    # Removed once a month: what is older than the retention period and a month is gone.
    oldest = f"{year.clock() - AUDIT_STAYS - timedelta(days=31):%Y-%m-%d}"
    assert [file.name for file in trail(year) if file.stem[9:] < oldest] == []


def trail(year: Year) -> list[Path]:
    """The files of the audit trail, but for statements about removals."""
    files = (year.settings.data / "audit").rglob("*.jsonl")
    return [file for file in files if "removals" not in file.parts]


def test_each_step_by_hand_is_documented() -> None:
    page = (REPOSITORY / "docs" / "operations.md").read_text("utf-8")
    (section,) = re.findall(r"^## What is to be done by hand$(.+?)^## ", page, re.M | re.S)
    for _every, command in CHORES:
        words = [word for word in command if " " not in word and word != "--yes"]
        assert all(word in section for word in words), command
        assert f"`sonant {' '.join(command[:2] if command[0] != 'backup' else command)}" in section
