"""Jobs that fail while they run: what was done stays done, the cause is told, no result file is left."""

import resource
import sqlite3
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import pytest
from batch_values import entry

from sonant.errors import DatabaseUnavailable
from sonant.settings import Jobs
from sonant.storage.database import sqlite
from sonant.storage.repositories import domains, jobs
from sonant.storage.times import now

GOOD = entry("r1", "customer-1", "s3://calls/english.wav")
FOUR = [
    entry(f"r{n}", f"customer-{n}", f"s3://calls/{voice}.wav")
    for n, voice in enumerate(("english", "french", "italian", "russian"), 1)
]
ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}


def progress(done, enrolled, failed):
    """What the message of a failed job says of the requests before the failure."""
    return (
        f"; before that, {done} of 4 requests were processed: {enrolled} enrolled speakers, which stay, and "
        f"{failed} failed. No result file was written. Submit the manifest again to get one: with "
        "ExistingEnrollmentAction SKIP the enrolled speakers are skipped"
    )


def test_the_domain_s_key_is_disabled_while_the_job_runs(testbed):
    key = testbed.store.keys.create("of a domain")
    domain_id = testbed.new_domain(key=key.arn)
    job_id = testbed.start(domain_id, FOUR)
    testbed.run(during={3: lambda: testbed.store.keys.disable(key.arn)})
    status, done, _ = testbed.progress(job_id)
    assert (status, done) == ("FAILED", 2)
    testbed.store.keys.enable(key.arn)
    outcome = testbed.outcome(domain_id, job_id)
    assert outcome.failure == (
        403,
        f"the domain's KMS key cannot be used: key {key.key_id} is disabled" + progress(2, 2, 0),
    )
    assert outcome.job["JobProgress"] == {"PercentComplete": 50}
    assert set(testbed.voiceprints(domain_id)) == {"customer-1", "customer-2"}


def test_the_domain_is_suspended_while_the_job_runs(testbed):
    domain_id = testbed.new_domain()
    job_id = testbed.start(domain_id, FOUR)

    def set_status(status):
        testbed.execute("UPDATE domains SET status = :s WHERE domain_id = :d", s=status, d=domain_id)

    testbed.run(during={3: lambda: set_status("SUSPENDED")})
    set_status("ACTIVE")  # described by nobody while it is suspended
    outcome = testbed.outcome(domain_id, job_id)
    assert outcome.failure == (409, "the domain was suspended while the job ran" + progress(2, 2, 0))
    assert outcome.job["JobProgress"] == {"PercentComplete": 50}
    assert set(testbed.voiceprints(domain_id)) == {"customer-1", "customer-2"}


def test_the_output_key_is_disabled_while_the_job_runs(testbed, domain):
    key = testbed.store.keys.create("of results")
    outcome = testbed.enroll(
        domain, FOUR, output_key=key.arn, during={4: lambda: testbed.store.keys.disable(key.arn)}
    )
    message = f"the result file cannot be written: key {key.key_id} is disabled" + progress(4, 4, 0)
    assert outcome.failure == (403, message)
    assert outcome.job["JobProgress"] == {"PercentComplete": 100}
    assert len(testbed.voiceprints(domain)) == 4


def test_a_role_that_is_gone_when_the_job_begins(testbed, domain):
    role = testbed.put_role(ALL)
    job_id = testbed.start(domain, [GOOD], role=role)
    testbed.execute("DELETE FROM principals WHERE arn = :a", a=role)
    testbed.run()
    assert testbed.outcome(domain, job_id).failure[0] == 403


@contextmanager
def no_room():
    """Every file that grows over 64 bytes meets a full disk, as the kernel tells it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class FullDisk:
    """A role's objects on a disk that has no room left for the result file."""

    def __init__(self, objects):
        self._objects = objects

    def __getattr__(self, name):
        return getattr(self._objects, name)

    def write(self, *arguments):
        with no_room():
            self._objects.write(*arguments)


@pytest.mark.parametrize("sealed", [False, True])
def test_no_room_for_the_result_file(testbed, domain, sealed):
    job_id = testbed.start(
        domain, FOUR, output_uri="s3://results/full", output_key="alias/sonant" if sealed else None
    )
    runner = testbed.runner(objects_of=lambda role: FullDisk(testbed.objects_of(role)))
    assert runner.run_one()
    outcome = testbed.outcome(domain, job_id)
    uri = f"s3://results/full/{job_id}/manifest.json.out"
    assert outcome.failure == (
        500,
        f"the result file cannot be written: {uri}: no space: File too large" + progress(4, 4, 0),
    )
    assert not (testbed.settings.data / "buckets" / "results" / "full").exists()
    assert len(testbed.voiceprints(domain)) == 4
    # With room again the same manifest gives a result at once.
    assert set(testbed.enroll(domain, FOUR).successes.values()) == {"DUPLICATE_SKIPPED"}


def test_a_job_over_its_time_limit_fails_and_frees_its_slot(testbed):
    late, worked_s = testbed.variant(jobs=Jobs(workers=1, time_limit_s=3600.0)), 0.0

    def two_hours_later():
        nonlocal worked_s
        worked_s += 7200.0

    try:
        domain_id = late.new_domain()
        job_id = late.start(domain_id, FOUR)
        late.runner(during={2: two_hours_later}, monotonic_s=lambda: worked_s).run_one()
        outcome = late.outcome(domain_id, job_id)
        code, message = outcome.failure
        assert (code, message.split(";")[0]) == (500, "the job ran for longer than 1 h, the limit")
        assert late.enroll(domain_id, [FOUR[3]]).status == "COMPLETED"
    finally:
        late.close()


def test_work_before_a_restart_counts_towards_the_time_limit(testbed, domain):
    limited, worked_s = testbed.variant(jobs=Jobs(workers=1, time_limit_s=3600.0)), 0.0

    def worked_for_40_minutes():
        nonlocal worked_s
        worked_s += 2400.0

    try:
        job_id = limited.start(domain, FOUR)
        first: Any = limited.runner(
            during={1: worked_for_40_minutes, 2: lambda: first.stop()}, monotonic_s=lambda: worked_s
        )
        first.run_one()
        assert limited.describe(domain, job_id)["JobStatus"] == "IN_PROGRESS"
        limited.runner(during={1: worked_for_40_minutes}, monotonic_s=lambda: worked_s).run_one()
        code, message = limited.outcome(domain, job_id).failure
        assert (code, message.split(";")[0]) == (500, "the job ran for longer than 1 h, the limit")
    finally:
        limited.close()


@pytest.mark.parametrize("hours", [25, -25, 24 * 400])
def test_a_clock_that_jumps_ends_no_job(testbed, hours):
    moment = now()
    jumping = testbed.variant(clock=lambda: moment)

    def jump():
        nonlocal moment
        moment += timedelta(hours=hours)

    try:
        assert jumping.enroll(jumping.new_domain(), FOUR, during={2: jump}).status == "COMPLETED"
    finally:
        jumping.close()


def test_a_lock_held_for_longer_than_writers_wait_delays_the_job(testbed, monkeypatch):
    monkeypatch.setattr(sqlite, "LOCK_TIMEOUT_S", 0.1)
    waiting = testbed.variant()
    with closing(sqlite3.connect(testbed.settings.data / "sonant.db", isolation_level=None)) as other:
        try:
            domain_id = waiting.new_domain()
            job_id = waiting.start(domain_id, FOUR)
            with pytest.raises(DatabaseUnavailable, match="database is locked"):
                waiting.run(during={2: lambda: other.execute("BEGIN IMMEDIATE")})
            assert waiting.describe(domain_id, job_id)["JobStatus"] == "IN_PROGRESS"
            other.execute("ROLLBACK")
            waiting.run()
            assert waiting.outcome(domain_id, job_id).status == "COMPLETED"
        finally:
            waiting.close()


def test_a_fault_of_our_own_fails_the_job_without_details(testbed, domain, caplog):
    job_id = testbed.start(domain, [GOOD])
    testbed.execute("UPDATE jobs SET config = '{}' WHERE job_id = :j", j=job_id)
    testbed.run()
    with testbed.store.database.read() as connection:
        job = jobs.find(connection, jobs.ENROLLMENT, domain, job_id)
    assert job is not None
    assert (job.status, job.failure_code) == ("FAILED", 500)
    assert job.failure_message == "internal failure; see the service's log"
    assert f"job {job_id}: internal failure" in caplog.text


def test_a_damaged_data_key_of_the_domain_is_a_fault_of_ours(testbed, domain):
    job_id = testbed.start(domain, [GOOD])
    with testbed.store.database.read() as connection:
        kept = domains.find_by_id(connection, domain)
    assert kept is not None
    wrapped = kept.data_key_wrapped
    testbed.execute(
        "UPDATE domains SET data_key_wrapped = :w WHERE domain_id = :d",
        w=wrapped[:-1] + bytes([wrapped[-1] ^ 1]),
        d=domain,
    )
    testbed.run()
    testbed.execute("UPDATE domains SET data_key_wrapped = :w WHERE domain_id = :d", w=wrapped, d=domain)
    assert testbed.outcome(domain, job_id).failure == (
        500,
        "the domain's data key is damaged; restore the database from a backup",
    )
