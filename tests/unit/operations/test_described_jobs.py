"""A described job is remembered for as long as nobody changes the database, and no longer."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sonant.errors import ResourceNotFound
from sonant.iam import ALLOW_ALL, parse
from sonant.operations import OPERATIONS
from sonant.operations.service import Caller
from sonant.storage.database.engine import Database
from sonant.storage.repositories import jobs
from sonant.storage.repositories.access import Principal

ACCOUNT = "0" * 12
CALLER = Caller(
    principal=Principal(
        arn=f"arn:aws:iam::{ACCOUNT}:user/sonant", account_id=ACCOUNT, policies=(parse(ALLOW_ALL),), tags={}
    ),
    region="us-east-1",
)


@pytest.fixture
def started(testbed):
    """A domain with a job that was just submitted: (domain id, job id)."""
    domain_id = testbed.new_domain()
    answer = testbed.call(
        "StartSpeakerEnrollmentJob",
        DomainId=domain_id,
        DataAccessRoleArn=f"arn:aws:iam::{ACCOUNT}:role/sonant",
        InputDataConfig={"S3Uri": "s3://calls/manifest.json"},
        OutputDataConfig={"S3Uri": "s3://calls/results"},
    )
    return domain_id, answer["Job"]["JobId"]


def status(testbed, domain_id, job_id):
    """As a call of its own sees it."""
    testbed.service.database.start_batch()
    request = {"DomainId": domain_id, "JobId": job_id}
    answer = OPERATIONS["DescribeSpeakerEnrollmentJob"](testbed.service, CALLER, request)
    assert answer is not None
    return answer["Job"]["JobStatus"]


def test_the_next_call_sees_what_another_process_did_to_the_job(testbed, started):
    other = Database(testbed.settings.database_url)
    other.check_rows_by(testbed.store.database.macs)
    assert [status(testbed, *started) for _ in range(3)] == ["SUBMITTED"] * 3
    with other.write() as connection:
        jobs.claim(connection, [jobs.ENROLLMENT], "runner", testbed.clock(), timedelta(minutes=1))
    assert [status(testbed, *started) for _ in range(2)] == ["IN_PROGRESS"] * 2
    with other.write() as connection:
        jobs.finish(connection, started[1], "runner", "FAILED", testbed.clock(), (404, "no such object"))
    assert status(testbed, *started) == "FAILED"
    other.close()


def test_one_domain_never_shows_the_other_ones_job(testbed, started):
    other_domain = testbed.new_domain()
    assert status(testbed, *started) == "SUBMITTED"
    with pytest.raises(ResourceNotFound):
        status(testbed, other_domain, started[1])


def test_a_job_that_was_not_there_is_found_once_it_is(testbed):
    domain_id = testbed.new_domain()
    with pytest.raises(ResourceNotFound):
        status(testbed, domain_id, "A" * 22)
    with testbed.store.database.write() as connection:
        jobs.insert_job(
            connection,
            job_id="A" * 22,
            kind=jobs.ENROLLMENT,
            domain_id=domain_id,
            name_sealed=None,
            role_arn=f"arn:aws:iam::{ACCOUNT}:role/sonant",
            input_uri="s3://calls/manifest.json",
            output_uri="s3://calls/results",
            output_kms_key=None,
            config={},
            now=testbed.clock(),
        )
    assert status(testbed, domain_id, "A" * 22) == "SUBMITTED"
