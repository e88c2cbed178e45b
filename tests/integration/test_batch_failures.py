"""Jobs that fail as a whole: the code, a message that names the cause, no result file, nothing half done."""

import json

import pytest
from batch_values import entry, manifest

from sonant.assembly import installation
from sonant.settings import MIB, Quotas
from sonant.storage.objects.store import ObjectUri

GOOD = entry("r1", "customer-1", "s3://calls/english.wav")
FOUR = [
    entry(f"r{n}", f"customer-{n}", f"s3://calls/{voice}.wav")
    for n, voice in enumerate(("english", "french", "italian", "russian"), 1)
]
ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}


def failure(testbed, entries=(GOOD,), **how):
    """(code, message) of a job that fails before its first request."""
    domain_id = testbed.new_domain()
    outcome = testbed.enroll(domain_id, entries, **how)
    assert outcome.status == "FAILED", outcome
    assert outcome.job["JobProgress"] == {"PercentComplete": 0}
    assert testbed.speakers(domain_id) == {}
    return outcome.failure


# --- manifest and output


def test_a_missing_manifest(testbed):
    assert failure(testbed, input_uri="s3://jobs/none/manifest.json") == (
        404,
        "the manifest cannot be read: s3://jobs/none/manifest.json: there is no such object",
    )


def test_a_missing_bucket_of_the_manifest(testbed):
    assert failure(testbed, input_uri="s3://no-such-bucket/manifest.json") == (
        404,
        "the manifest cannot be read: s3://no-such-bucket: there is no such bucket",
    )


def test_a_missing_bucket_of_the_output(testbed):
    assert failure(testbed, output_uri="s3://no-such-bucket/out") == (
        404,
        "the result file cannot be written: s3://no-such-bucket: there is no such bucket",
    )


@pytest.mark.parametrize("uri", ["s3://jobs", "s3://jobs/"])
def test_a_manifest_uri_that_names_a_bucket(testbed, uri):
    assert failure(testbed, input_uri=uri) == (
        400,
        "the manifest cannot be read: s3://jobs/: names a bucket, an object is needed",
    )


def test_a_manifest_outside_of_the_buckets_is_not_found(testbed):
    for uri in ("s3://jobs/../../credentials", "s3://jobs//etc/passwd"):
        code, message = failure(testbed, input_uri=uri)
        assert (code, message) == (404, f"the manifest cannot be read: {uri}: there is no such object")


def test_uris_that_are_too_long_in_bytes(testbed):
    begins = "the manifest or the result file cannot be named: a key in bucket"
    assert failure(testbed, input_uri="s3://jobs/" + "é" * 600) == (
        400,
        f"{begins} jobs has 1200 bytes, at most 1024 are allowed",
    )
    # 1,000 of the folder, 1 + 22 of the job id, 1 + 17 of the file
    assert failure(testbed, output_uri="s3://results/" + "x" * 1000) == (
        400,
        f"{begins} results has 1041 bytes, at most 1024 are allowed",
    )


@pytest.mark.parametrize("place", ["manifest", "output"])
def test_a_bucket_folder_that_is_a_symbolic_link(testbed, tmp_path, place):
    (tmp_path / "manifest.json").write_bytes(manifest([GOOD]))
    link = testbed.settings.data / "buckets" / f"linked-{place}"
    link.symlink_to(tmp_path)
    uri = f"s3://linked-{place}/manifest.json"
    try:
        code, message = failure(testbed, **{"input_uri" if place == "manifest" else "output_uri": uri})
    finally:
        link.unlink()
    assert code == 403
    assert "symbolic link, which is never followed" in message
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_an_output_folder_that_is_an_object(testbed):
    testbed.put("s3://results/object", b"here first")
    outcome = testbed.enroll(testbed.new_domain(), [GOOD], output_uri="s3://results/object")
    code, message = outcome.failure
    assert code == 409
    assert message.startswith("the result file cannot be written: s3://results/object/")
    assert testbed.get("s3://results/object") == b"here first"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not valid JSON in UTF-8: at byte 0 (line 1) the file is empty"),
        (
            b"RequestId,SpeakerId\n",
            "is not valid JSON in UTF-8: at byte 0 (line 1) there is a word without quotation marks "
            "(fields and texts have double ones)",
        ),
        (
            b'{"Version":"1.0","SpeakerEnrollmentRequests":[]',
            "is not valid JSON in UTF-8: at byte 47 (line 1) the file ends before all brackets and strings "
            "are closed: it is cut off, or one is missing",
        ),
        (b"[]", "must be a JSON object, is a list: put its entries under SpeakerEnrollmentRequests"),
        (manifest([]), "holds no requests"),
        (manifest([GOOD]).replace(b'"1.0"', b'"2.0"'), 'must have "Version": "1.0"'),
        (b'{"Version":"1.0"}', "has no list SpeakerEnrollmentRequests"),
        (b'{"Version":"1.0","SpeakerEnrollmentRequests":{}}', "SpeakerEnrollmentRequests must be a list"),
        (
            manifest([GOOD, {**GOOD, "SpeakerId": "customer-2"}]),
            "uses one RequestId for requests 1 and 2; each must have its own",
        ),
        (
            b'{"Version":"1.0","x":' + b"9" * 5000 + b"}",
            "is not valid JSON in UTF-8: at byte 21 (line 1) there is a number of more than 64 bits, or in a "
            "form that JSON does not allow",
        ),
        (b'{"Version":"1.0","x":' + b"[" * 100_000, "is nested deeper than 16 levels"),
    ],
)
def test_a_manifest_that_cannot_be_used(testbed, data, message):
    assert failure(testbed, data) == (400, f"the manifest {message}")


def test_a_fault_at_the_end_of_the_manifest_leaves_no_request_done(testbed):
    data = manifest(FOUR)[:-2] + b", oops]}"
    code, message = failure(testbed, data)
    assert code == 400
    assert message.startswith(
        f"the manifest is not valid JSON in UTF-8: at byte {data.index(b'oops')} (line 1, "
    )


def test_a_manifest_over_the_size_limit_is_refused_before_it_is_read(testbed):
    testbed.put("s3://jobs/huge/manifest.json", b"{")
    path = testbed.settings.data / "buckets" / "jobs" / "huge" / "manifest.json"
    with path.open("ab") as file:
        file.truncate(64 * MIB + 1)
    assert failure(testbed, input_uri="s3://jobs/huge/manifest.json") == (
        400,
        f"the manifest has {64 * MIB + 1} bytes, at most {64 * MIB} are read",
    )


def test_more_requests_than_the_quota(variant):
    testbed = variant(quotas=Quotas(domains_per_account=1000, speakers_per_enrollment_job=3))
    assert failure(testbed, FOUR) == (402, "the manifest has more than 3 requests, the quota of a job")
    assert testbed.enroll(testbed.new_domain(), FOUR[:3]).status == "COMPLETED"


# --- role and keys


def test_a_role_that_does_not_exist(testbed):
    arn = "arn:aws:iam::000000000000:role/nobody"
    assert failure(testbed, role=arn) == (403, f"the role {arn} cannot be assumed: it does not exist")


@pytest.mark.parametrize(
    ("denied", "message"),
    [
        (
            {"Action": "s3:GetObject", "Resource": "arn:aws:s3:::jobs/*"},
            "the manifest cannot be read: the role {role} has no right s3:GetObject on s3://jobs/",
        ),
        (
            {"Action": "s3:PutObject", "Resource": "arn:aws:s3:::results/*"},
            "the result file cannot be written: the role {role} has no right s3:PutObject on s3://results/",
        ),
    ],
)
def test_a_role_without_a_right(testbed, denied, message):
    role = testbed.put_role(ALL, {"Effect": "Deny", **denied})
    code, told = failure(testbed, role=role)
    assert code == 403
    assert told.startswith(message.format(role=role))


def test_a_role_with_no_rights_at_all(testbed):
    role = testbed.put_role({"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*"})
    assert failure(testbed, role=role)[0] == 403


def test_the_least_rights_that_suffice(testbed):
    key = testbed.store.keys.create("of results")
    role = testbed.put_role(
        {
            "Effect": "Allow",
            "Action": "s3:GetObject",
            "Resource": ["arn:aws:s3:::jobs/*", "arn:aws:s3:::calls/*"],
        },
        {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::results/*"},
        {"Effect": "Allow", "Action": ["kms:Decrypt", "kms:GenerateDataKey"], "Resource": key.arn},
    )
    outcome = testbed.enroll(testbed.new_domain(), [GOOD], role=role, output_key=key.arn)
    assert outcome.successes == {"r1": "NEW_ENROLLMENT"}


def test_a_sealed_manifest_whose_key_the_role_may_not_use(testbed):
    key = testbed.store.keys.create("of manifests")
    role = testbed.put_role(ALL, {"Effect": "Deny", "Action": "kms:*", "Resource": key.arn})
    code, message = failure(testbed, role=role, manifest_key=key.arn)
    assert code == 403
    assert message == f"the manifest cannot be read: the role {role} has no right kms:Decrypt on {key.arn}"
    assert testbed.enroll(testbed.new_domain(), [GOOD], manifest_key=key.arn).status == "COMPLETED"


def test_an_output_key_that_cannot_be_used(testbed):
    key = testbed.store.keys.create("of results")
    role = testbed.put_role(ALL, {"Effect": "Deny", "Action": "kms:GenerateDataKey", "Resource": key.arn})
    assert failure(testbed, role=role, output_key=key.arn) == (
        403,
        f"the result file cannot be written: the role {role} has no right kms:GenerateDataKey on {key.arn}",
    )
    testbed.store.keys.disable(key.arn)
    assert failure(testbed, output_key=key.arn) == (
        403,
        f"the result file cannot be written: key {key.key_id} is disabled",
    )
    code, message = failure(testbed, output_key="alias/nowhere")
    assert (code, message.partition(":")[0]) == (403, "the result file cannot be written")
    assert "alias/nowhere" in message


def test_a_failed_job_leaves_the_slot_free_and_is_listed_as_failed(testbed, domain):
    outcome = testbed.enroll(domain, b"{}")
    listed = testbed.call("ListSpeakerEnrollmentJobs", DomainId=domain, JobStatus="FAILED")["JobSummaries"]
    assert [job["JobId"] for job in listed] == [outcome.job["JobId"]]
    assert listed[0]["FailureDetails"]["StatusCode"] == 400
    assert testbed.enroll(domain, [GOOD]).status == "COMPLETED"


def test_an_output_uri_that_climbs_stays_in_its_bucket(testbed, domain):
    before = {path.name for path in testbed.settings.data.iterdir()}
    outcome = testbed.enroll(domain, [GOOD], output_uri="s3://results/../../../escape")
    assert outcome.status == "COMPLETED"
    (path,) = testbed.files_with(outcome.job["JobId"])
    assert path.is_relative_to(testbed.settings.data / "buckets" / "results")
    assert json.loads(path.read_bytes()) == outcome.result
    assert {path.name for path in testbed.settings.data.iterdir()} == before
    listed = testbed.store.objects.list("results", "../../../escape/")
    assert [item.uri for item in listed] == [
        ObjectUri("results", f"../../../escape/{outcome.job['JobId']}/manifest.json.out")
    ]
    assert installation.role_arn(testbed.settings) == outcome.job["DataAccessRoleArn"]
