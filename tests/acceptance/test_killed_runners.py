"""A runner is killed at random moments of a job of thousands of requests: nothing is lost or done twice.

`SONANT_KILLS` says how often (20), `SONANT_KILLS_ENTRIES` how many requests there are (4000), and
`SONANT_KILLS_SEED` when; the seed is printed.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import instant_runner
import orjson
import pytest
from batch_testbed import Testbed
from batch_values import entry
from postgres_server import not_default
from sqlalchemy import func, select
from waiting import wait_until

from sonant.assembly.jobs import build_housekeeper
from sonant.events.documents import SPEAKER
from sonant.settings import Events, Fraud, Jobs, Quotas, Settings, loading
from sonant.storage.database import schema
from sonant.storage.integrity_walk import walk
from sonant.storage.repositories import counters

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

KILLS = int(os.environ.get("SONANT_KILLS", "20"))
ENTRIES = int(os.environ.get("SONANT_KILLS_ENTRIES", "4000"))
SEED = int(os.environ.get("SONANT_KILLS_SEED", str(time.time_ns() % 1_000_000)))


def requests() -> list[dict[str, Any]]:
    """Good ones, and among each ten a bad field, a recording with too little speech, and a speaker again."""
    made = []
    for n in range(ENTRIES):
        match n % 10:
            case 3:
                made.append(entry(f"r{n}", "two words", "s3://calls/a.wav"))
            case 5:
                made.append(entry(f"r{n}", f"c{n}", f"s3://calls/{n}-{instant_runner.REFUSED}.wav"))
            case 7:
                made.append(entry(f"r{n}", f"c{n - 1}", f"s3://calls/{n}.wav"))
            case _:
                made.append(entry(f"r{n}", f"c{n}", f"s3://calls/{n}.wav"))
    return made


def expected() -> tuple[list[tuple[str, int]], list[tuple[str, str, str]]]:
    """The lines of the result file, in their order: errors, and successes with the speaker of each."""
    errors, successes = [], []
    for n in range(ENTRIES):
        match n % 10:
            case 3 | 5:
                errors.append((f"r{n}", 400))
            case 7:
                successes.append((f"r{n}", f"c{n - 1}", "DUPLICATE_SKIPPED"))
            case _:
                successes.append((f"r{n}", f"c{n}", "NEW_ENROLLMENT"))
    return errors, successes


class Killed:
    """Runners one after the other, each killed."""

    def __init__(self, settings: Settings) -> None:
        self._flags = loading.as_flags(settings)
        self._process: Any = None

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=instant_runner.run, args=(self._flags,))
        self._process.start()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


@pytest.fixture
def testbed(tmp_path: Path, database_url: str) -> Any:
    settings = Settings(
        data=tmp_path / "data",
        encoder="ge2e",
        database=not_default(database_url),
        fraud=Fraud(spoofing_max_s=0, replay_recordings=0),
        jobs=Jobs(workers=1, poll_s=0.02),
        quotas=Quotas(speakers_per_domain=2 * ENTRIES, speakers_per_enrollment_job=ENTRIES),
        events=Events(sinks="file"),
    )
    made = Testbed.open(settings)
    yield made
    made.close()


def test_runner_that_is_killed_at_random_loses_and_doubles_nothing(testbed: Testbed) -> None:
    print(f"\nseed {SEED}, {KILLS} kills, {ENTRIES} requests")
    chance, runners = random.Random(SEED), Killed(testbed.settings)
    domain_id = testbed.new_domain()
    job_id = testbed.start(domain_id, requests())
    shown, killed_at = [], Counter[str]()
    for _ in range(KILLS):
        before = testbed.progress(job_id)
        if before[0].startswith("COMPLETED"):
            break
        runners.start()
        # Most kills come soon after it has begun to commit, some while it starts or imports.
        if chance.random() < 0.8:
            wait_until("it goes on", partial(has_moved, testbed, job_id, before))
            time.sleep(chance.random() * 0.25)
        else:
            time.sleep(chance.random() * 3.0)
        runners.kill()
        status, done, _failed = testbed.progress(job_id)
        shown.append(testbed.describe(domain_id, job_id)["JobProgress"]["PercentComplete"])
        killed_at["before the first commit" if not done else status] += 1
    print(dict(killed_at), shown)
    assert shown == sorted(shown), "progress goes forward only"
    runners.start()
    try:
        wait_until("the job ends", lambda: testbed.progress(job_id)[0].startswith("COMPLETED"))
    finally:
        runners.kill()
    build_housekeeper(testbed.store).delete_ended_requests()
    check(testbed, domain_id, job_id)


def has_moved(testbed: Testbed, job_id: str, before: tuple[str, int, int]) -> bool:
    return testbed.progress(job_id) != before


def check(testbed: Testbed, domain_id: str, job_id: str) -> None:
    """Compare everything that the job has left with what it must leave."""
    outcome = testbed.outcome(domain_id, job_id)
    errors, successes = expected()
    result = outcome.result
    assert result is not None
    assert [(line["RequestId"], line["ErrorCode"]) for line in result["Errors"]] == errors
    lines = result["SuccessfulEnrollments"]
    assert [
        (line["RequestId"], line["CustomerSpeakerId"], line["EnrollmentStatus"]) for line in lines
    ] == successes
    ids = {line["CustomerSpeakerId"]: line["GeneratedSpeakerId"] for line in lines}
    assert all(ids[line["CustomerSpeakerId"]] == line["GeneratedSpeakerId"] for line in lines)
    assert outcome.job["JobProgress"]["PercentComplete"] == 100
    assert testbed.progress(job_id)[1:] == (ENTRIES, len(errors))
    new = sum(status == "NEW_ENROLLMENT" for _, _, status in successes)
    with testbed.store.database.read() as connection:
        stored = {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (schema.speakers, schema.speaker_keys, schema.voiceprints)
        }
        counted = connection.execute(select(schema.speaker_counts.c.present)).scalar_one()
        documents = connection.execute(
            select(schema.events.c.document).where(schema.events.c.type == SPEAKER)
        ).scalars()
        found = Counter(event_outcome(document) for document in documents)
        totals = counters.read(connection)
    assert stored == dict.fromkeys(stored, new)
    assert counted == new
    wanted = Counter(status for _, _, status in successes) + Counter({"error": len(errors)})
    assert found == wanted, "each request has one event"
    for status in ("NEW_ENROLLMENT", "DUPLICATE_SKIPPED"):
        assert totals[counters.OUTCOMES, status] == wanted[status]
    assert not list(walk(testbed.store.database, testbed.store.backends.keys))


def event_outcome(document: str) -> str:
    """The enrollment status of an event, or `error`."""
    data = orjson.loads(document)["detail"].get("data") or {}
    return str(data.get("enrollmentStatus") or "error")
