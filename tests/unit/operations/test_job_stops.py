"""StopJob: which jobs it ends, what it leaves, and that a runner with the job writes nothing more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from operations_testbed import Operations, operations_on
from sqlalchemy import func, select

from sonant.errors import Conflict, ResourceNotFound
from sonant.events.outbox import Outbox
from sonant.retention.housekeeping import Housekeeper
from sonant.storage.database.schema import events, job_entries
from sonant.storage.repositories import jobs
from sonant.storage.repositories.jobs import SealedOutcome

LEASE = timedelta(seconds=20)
RUNNER = "a runner"
NOUNS = {
    jobs.ENROLLMENT: "SpeakerEnrollmentJob",
    jobs.REGISTRATION: "FraudsterRegistrationJob",
    jobs.DRY_RUN: "EnrollmentDryRun",
}


@pytest.fixture
def testbed(tmp_path: Path) -> Iterator[Operations]:
    made = operations_on(tmp_path / "data")
    made.service = replace(made.service, outbox=Outbox(enabled=True))
    yield made
    made.close()


def start(testbed: Operations, domain_id: str, kind: str = jobs.ENROLLMENT) -> str:
    answer = testbed.call(
        f"Start{NOUNS[kind]}",
        DomainId=domain_id,
        DataAccessRoleArn=f"arn:aws:iam::{testbed.settings.account}:role/sonant",
        InputDataConfig={"S3Uri": "s3://jobs/manifest.json"},
        OutputDataConfig={"S3Uri": "s3://results"},
    )
    return str(answer["Job"]["JobId"])


def stop(testbed: Operations, domain_id: str, job_id: str) -> dict[str, Any]:
    return dict(testbed.call("StopJob", DomainId=domain_id, JobId=job_id)["Job"])


def claim(testbed: Operations) -> jobs.Job | None:
    with testbed.store.database.write() as connection:
        return jobs.claim(connection, list(NOUNS), RUNNER, testbed.clock(), LEASE)


def process(testbed: Operations, job_id: str, done: int, total: int = 4) -> None:
    """Import a manifest of `total` requests and store the outcomes of `done` of them, the last one failed."""
    with testbed.store.database.write() as connection:
        jobs.add_requests(connection, job_id, 0, [b"sealed"] * total)
        jobs.finish_import(connection, job_id, total)
        outcomes = [SealedOutcome(position=n, sealed=b"sealed", failed=n == done - 1) for n in range(done)]
        if outcomes:
            jobs.record(connection, job_id, outcomes)


def housekeeper(testbed: Operations) -> Housekeeper:
    store = testbed.store
    return Housekeeper(database=store.database, keys_of=store.accounts.keys, clock=testbed.clock)


def entries_left(testbed: Operations, job_id: str) -> int:
    with testbed.store.database.read() as connection:
        query = select(func.count()).where(job_entries.c.job_id == job_id)
        return int(connection.execute(query).scalar_one())


@pytest.mark.parametrize("kind", NOUNS)
def test_a_submitted_job_of_each_type_ends(testbed: Operations, kind: str) -> None:
    domain_id = testbed.new_domain()
    job_id = start(testbed, domain_id, kind)
    job = stop(testbed, domain_id, job_id)
    assert (job["JobStatus"], job["EndedAt"]) == ("FAILED", testbed.clock())
    assert job["FailureDetails"] == {"StatusCode": 409, "Message": "the job was stopped with StopJob"}
    assert claim(testbed) is None, "no runner takes it"
    start(testbed, domain_id, kind)  # the domain's only slot is free


@pytest.mark.parametrize("done", [None, 0, 1, 3])
def test_a_job_in_progress_ends_at_each_point(testbed: Operations, done: int | None) -> None:
    domain_id = testbed.new_domain()
    job_id = start(testbed, domain_id)
    assert claim(testbed) is not None
    if done is not None:
        process(testbed, job_id, done)
    job = stop(testbed, domain_id, job_id)
    assert job["JobStatus"] == "FAILED"
    told = job["FailureDetails"]["Message"]
    assert ("of 4 requests were processed" in told) == bool(done)
    if done:
        assert f"{done} of 4 requests were processed: {done - 1} " in told
        assert "which stay" in told
    housekeeper(testbed).delete_ended_requests()
    assert entries_left(testbed, job_id) == 0
    with testbed.store.database.write() as connection:
        assert not jobs.renew(connection, job_id, RUNNER, testbed.clock(), LEASE), "its runner has lost it"
        assert not jobs.finish(connection, job_id, RUNNER, "COMPLETED", testbed.clock())


def test_a_job_that_writes_its_result_is_left_to_end(testbed: Operations) -> None:
    domain_id = testbed.new_domain()
    job_id = start(testbed, domain_id)
    claim(testbed)
    process(testbed, job_id, 4)
    assert stop(testbed, domain_id, job_id)["JobStatus"] == "IN_PROGRESS"
    assert entries_left(testbed, job_id) == 4
    testbed.clock.now += LEASE + timedelta(seconds=1)  # its runner has died, or cannot write the result
    assert stop(testbed, domain_id, job_id)["JobStatus"] == "FAILED"


def test_a_job_that_was_put_back_with_all_requests_done_ends(testbed: Operations) -> None:
    domain_id = testbed.new_domain()
    job_id = start(testbed, domain_id)
    claim(testbed)
    process(testbed, job_id, 4)
    with testbed.store.database.write() as connection:
        jobs.release(connection, job_id, RUNNER)
    assert stop(testbed, domain_id, job_id)["JobStatus"] == "FAILED"


def test_a_job_that_has_ended_stays_as_it_is(testbed: Operations) -> None:
    domain_id = testbed.new_domain()
    job_id = start(testbed, domain_id)
    claim(testbed)
    with testbed.store.database.write() as connection:
        assert jobs.finish(connection, job_id, RUNNER, "COMPLETED", testbed.clock())
    before = testbed.call("DescribeSpeakerEnrollmentJob", DomainId=domain_id, JobId=job_id)["Job"]
    assert stop(testbed, domain_id, job_id)["JobStatus"] == "COMPLETED"
    assert testbed.call("DescribeSpeakerEnrollmentJob", DomainId=domain_id, JobId=job_id)["Job"] == before


def test_a_second_stop_changes_nothing(testbed: Operations) -> None:
    domain_id = testbed.new_domain()
    job_id = start(testbed, domain_id)
    first = stop(testbed, domain_id, job_id)
    testbed.clock.advance(minutes=5)
    assert stop(testbed, domain_id, job_id) == first


def test_the_end_has_its_event_and_a_dry_run_has_none(testbed: Operations) -> None:
    domain_id = testbed.new_domain()
    for kind in NOUNS:
        stop(testbed, domain_id, start(testbed, domain_id, kind))
    with testbed.store.database.read() as connection:
        stored = [orjson.loads(one) for one in connection.execute(select(events.c.document)).scalars()]
    ended = [one["detail"] for one in stored if one["detail"].get("status") == "FAILED"]
    assert [one["action"] for one in ended] == [
        "BATCH_SPEAKER_ENROLLMENT_REQUEST",
        "BATCH_FRAUDSTER_REGISTRATION_REQUEST",
    ]
    assert {one["errorInfo"]["errorType"] for one in ended} == {"CONFLICT"}


def test_a_job_of_another_domain_is_not_found(testbed: Operations) -> None:
    one, other = testbed.new_domain(), testbed.new_domain()
    job_id = start(testbed, one)
    with pytest.raises(ResourceNotFound, match="The job does not exist in this domain"):
        stop(testbed, other, job_id)
    testbed.call("DeleteDomain", DomainId=one)
    with pytest.raises(Conflict):
        stop(testbed, one, job_id)
