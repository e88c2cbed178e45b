"""A job knows who started it."""

from pathlib import Path
from tempfile import TemporaryDirectory

from operations_testbed import operations_on

from sonant.storage.repositories import jobs

with TemporaryDirectory() as folder:
    operations = operations_on(Path(folder))
    domain_id = operations.new_domain()
    job = operations.call(
        "StartSpeakerEnrollmentJob",
        DomainId=domain_id,
        DataAccessRoleArn="arn:aws:iam::000000000000:role/sonant",
        InputDataConfig={"S3Uri": "s3://calls/manifest.json"},
        OutputDataConfig={"S3Uri": "s3://calls/results"},
    )["Job"]
    with operations.store.database.read() as connection:
        found = jobs.find(connection, jobs.ENROLLMENT, domain_id, job["JobId"])
    operations.close()

assert found is not None
assert found.started_by == "arn:aws:iam::000000000000:user/sonant", found.started_by
