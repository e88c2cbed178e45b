"""The entries of a job: imported in batches, given outcomes in groups, deleted a bit at a time."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import func, select
from test_job_turns import LEASE, NOW, add_domain, add_jobs

from sonant.errors import IntegrityFault
from sonant.storage.database import schema
from sonant.storage.database.engine import Database
from sonant.storage.repositories import jobs
from sonant.storage.repositories.jobs import BATCH, SealedOutcome


@pytest.fixture
def connection(database: Database):
    with database.write() as connection:
        add_domain(connection, "d", "0" * 12)
        add_jobs(connection, ("j", "d"), ("k", "d"))
        yield connection


def put_requests(connection, count, job_id="j"):
    jobs.add_requests(connection, job_id, 0, [b"%d" % n for n in range(count)])
    jobs.finish_import(connection, job_id, count)


def outcome(position, *, failed=False, voice=None):
    return SealedOutcome(position=position, sealed=b"o%d" % position, failed=failed, speaker_hash=voice)


def left(connection, job_id):
    query = select(func.count()).where(schema.job_entries.c.job_id == job_id)
    return connection.execute(query).scalar_one()


def test_outcomes_are_stored_and_counted(connection):
    put_requests(connection, 6)
    jobs.record(connection, "j", [outcome(0), outcome(1, failed=True), outcome(2, voice=b"h" * 32)])
    jobs.record(connection, "j", [outcome(3, voice=b"i" * 32)])
    assert jobs.open_entries(connection, "j", 0, 10) == [(4, b"4"), (5, b"5")]
    assert jobs.voice_outcomes(connection, "d", b"h" * 32) == [("j", 2, b"o2")]
    job = jobs.find(connection, jobs.ENROLLMENT, "d", "j")
    assert job is not None
    assert (job.entries_total, job.entries_done, job.entries_failed) == (6, 4, 1)


@pytest.mark.parametrize("position", [1, 6], ids=["done before", "never imported"])
def test_an_outcome_is_never_stored_twice_or_for_nothing(connection, position):
    put_requests(connection, 6)
    jobs.record(connection, "j", [outcome(0), outcome(1)])
    with pytest.raises(IntegrityFault, match="job_entries"):
        jobs.record(connection, "j", [outcome(position), outcome(2)])


def test_entries_are_deleted_in_bounded_pieces(connection):
    count = 2 * BATCH + 5
    put_requests(connection, count)
    put_requests(connection, 3, "k")
    positions, at = [], jobs.delete_entries(connection, "j", 0)
    while at is not None:
        positions.append(at)
        assert left(connection, "j") == count - at
        at = jobs.delete_entries(connection, "j", at)
    assert positions == [BATCH, 2 * BATCH, count]
    assert left(connection, "k") == 3


def test_entries_of_ended_jobs_are_found_and_of_no_others(connection):
    put_requests(connection, 1)
    put_requests(connection, 1, "k")
    assert jobs.find_ended_with_entries(connection) is None
    job = jobs.claim(connection, [jobs.ENROLLMENT], "runner", NOW + timedelta(hours=1), LEASE)
    assert job is not None
    assert jobs.finish(connection, job.job_id, "runner", "COMPLETED", NOW)
    assert jobs.find_ended_with_entries(connection) == job.job_id
    jobs.delete_entries(connection, job.job_id, 0)
    assert jobs.find_ended_with_entries(connection) is None
