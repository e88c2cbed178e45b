"""The result file's name, order and seal; progress while the job runs; the job as it is described."""

import json
import os

import pytest
from batch_values import entry, manifest
from forked_commands import run_sonant

GOOD = entry("r1", "customer-1", "s3://calls/english.wav")


@pytest.mark.parametrize(
    ("output", "key"),
    [
        ("s3://results", "{job}/manifest.json.out"),
        ("s3://results/", "{job}/manifest.json.out"),
        ("s3://results/folder", "folder/{job}/manifest.json.out"),
        ("s3://results/folder/", "folder/{job}/manifest.json.out"),
        ("s3://results/a/b c/é", "a/b c/é/{job}/manifest.json.out"),
    ],
)
def test_where_the_result_lies(testbed, domain, output, key):
    outcome = testbed.enroll(domain, [GOOD], output_uri=output)
    (path,) = testbed.files_with(outcome.job["JobId"])
    root = testbed.settings.data / "buckets" / "results"
    assert str(path.relative_to(root)) == key.format(job=outcome.job["JobId"])
    assert outcome.job["OutputDataConfig"]["S3Uri"] == output


@pytest.mark.parametrize(
    ("manifest_key", "name"),
    [
        ("deep/down/input-file.json", "input-file.json.out"),
        ("names/manifest", "manifest.out"),
        ("names/calls.2024.json.gz", "calls.2024.json.gz.out"),
        ("names/with space.json", "with space.json.out"),
    ],
)
def test_the_result_is_named_after_the_last_part_of_the_manifest_s_key(testbed, domain, manifest_key, name):
    uri = testbed.put(f"s3://jobs/{manifest_key}", manifest([GOOD]))
    outcome = testbed.enroll(domain, input_uri=uri, output_uri="s3://results/named")
    (path,) = testbed.files_with(outcome.job["JobId"])
    assert path.name == name


def test_errors_and_successes_stand_in_manifest_order(testbed, domain):
    voices = ("english", "french", "italian", "russian")
    entries = []
    for n in range(24):
        voice = voices[n % 4]
        file = f"s3://calls/{voice}.wav" if n % 3 else "s3://calls/none.wav"
        entries.append(entry(f"request-{n:02}", f"customer-{n % 9}", file))
    outcome = testbed.enroll(domain, entries)
    assert list(outcome.errors) == sorted(outcome.errors)
    assert list(outcome.successes) == sorted(outcome.successes)
    assert len(outcome.errors) + len(outcome.successes) == 24
    assert set(outcome.successes.values()) == {"NEW_ENROLLMENT", "DUPLICATE_SKIPPED"}


def test_a_line_of_the_result_holds_what_the_schema_says(testbed, domain):
    outcome = testbed.enroll(domain, [GOOD, entry("r2", "customer-2", "s3://calls/none.wav")])
    speaker = testbed.speakers(domain)["customer-1"]
    assert outcome.result == {
        "Version": "1.0",
        "Errors": [
            {
                "RequestId": "r2",
                "ErrorCode": 404,
                "ErrorMessage": "s3://calls/none.wav: there is no such object",
            }
        ],
        "SuccessfulEnrollments": [
            {
                "RequestId": "r1",
                "GeneratedSpeakerId": speaker.speaker_id,
                "CustomerSpeakerId": "customer-1",
                "EnrollmentStatus": "NEW_ENROLLMENT",
            }
        ],
    }


def test_without_a_key_the_result_is_plain(testbed, domain):
    outcome = testbed.enroll(domain, [GOOD])
    (path,) = testbed.files_with(outcome.job["JobId"])
    assert json.loads(path.read_bytes()) == outcome.result
    assert "KmsKeyId" not in {k: v for k, v in outcome.job["OutputDataConfig"].items() if v is not None}


def test_with_a_key_the_result_opens_with_sonant_object_get_alone(testbed, domain):
    key = testbed.store.keys.create("of results")
    outcome = testbed.enroll(domain, [GOOD], output_key=key.arn, output_uri="s3://results/sealed")
    job_id = outcome.job["JobId"]
    (path,) = testbed.files_with(job_id)
    raw = path.read_bytes()
    for text in (b"customer-1", b"Version", b"id#", b"NEW_ENROLLMENT"):
        assert text not in raw
    command = ("object", "get", f"s3://results/sealed/{job_id}/manifest.json.out")
    environment = {**os.environ, "SONANT_DATA": str(testbed.settings.data)}
    code, opened, _ = run_sonant(command, environment, testbed.settings.data)
    assert code == 0
    assert json.loads(opened) == outcome.result
    testbed.store.keys.disable(key.arn)
    code, opened, told = run_sonant(command, environment, testbed.settings.data)
    assert (code, opened) == (1, "")
    assert "is disabled" in told


def test_the_result_is_the_owner_s_alone(testbed, domain):
    outcome = testbed.enroll(domain, [GOOD])
    (path,) = testbed.files_with(outcome.job["JobId"])
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_progress_only_grows_and_counts_failures_as_finished(testbed, domain):
    entries = [
        entry(f"r{n}", f"customer-{n}", "s3://calls/english.wav" if n % 2 else "s3://calls/none.wav")
        for n in range(10)
    ]
    job_id = testbed.start(domain, entries)
    seen = [testbed.describe(domain, job_id)]
    look = {n: lambda: seen.append(testbed.describe(domain, job_id)) for n in range(11)}
    testbed.run(during=look)
    seen.append(testbed.describe(domain, job_id))
    statuses = [job["JobStatus"] for job in seen]
    assert statuses == ["SUBMITTED"] + ["IN_PROGRESS"] * 11 + ["COMPLETED_WITH_ERRORS"]
    percents = [job["JobProgress"]["PercentComplete"] for job in seen]
    assert percents == sorted(percents)
    assert (percents[0], percents[-1]) == (0, 100)
    assert set(percents) == set(range(0, 101, 10)), "each request that was committed is seen"


def test_percent_is_rounded_down_and_100_only_at_the_end(testbed, domain):
    entries = [entry(f"r{n}", f"customer-{n}", "s3://calls/none.wav") for n in range(300)]
    job_id = testbed.start(domain, entries)
    seen = []
    look = {n: lambda: seen.append(testbed.describe(domain, job_id)) for n in range(290, 301)}
    testbed.run(during=look, one_by_one=False)
    percents = [job["JobProgress"]["PercentComplete"] for job in seen]
    assert len(percents) == 11
    assert max(percents) <= 99
    assert testbed.describe(domain, job_id)["JobProgress"]["PercentComplete"] == 100


def test_times_are_those_of_start_and_end(testbed, domain):
    outcome = testbed.enroll(domain, [GOOD])
    assert outcome.job["CreatedAt"] < outcome.job["EndedAt"]
    listed = testbed.call("ListSpeakerEnrollmentJobs", DomainId=domain)["JobSummaries"]
    assert [job["JobId"] for job in listed] == [outcome.job["JobId"]]
    assert listed[0]["EndedAt"] == outcome.job["EndedAt"]


def test_the_configuration_is_echoed_with_the_defaults_of_its_actions(testbed, domain):
    outcome = testbed.enroll(domain, [GOOD], name="first")
    assert outcome.job["JobName"] == "first"
    assert outcome.job["EnrollmentConfig"] == {
        "ExistingEnrollmentAction": "SKIP",
        "FraudDetectionConfig": {"FraudDetectionAction": "FAIL", "RiskThreshold": 50},
    }


@pytest.mark.slow
def test_a_job_of_several_hundred_requests(testbed, domain):
    """More than one commit, more than one page of rows, and speakers that come again later."""
    voices = ("english", "french", "italian", "russian")
    known = [entry(f"new-{n}", f"customer-{n}", f"s3://calls/{voices[n]}.wav") for n in range(4)]
    again = [entry(f"again-{n}", f"customer-{n % 4}", "s3://calls/none.wav") for n in range(1200)]
    bad = [entry(f"bad-{n}", "two words", "s3://calls/none.wav") for n in range(1100)]
    outcome = testbed.enroll(domain, [*known, *again, *bad])
    assert list(outcome.successes)[:4] == [f"new-{n}" for n in range(4)]
    assert list(outcome.successes)[4:] == [f"again-{n}" for n in range(1200)]
    assert list(outcome.errors) == [f"bad-{n}" for n in range(1100)]
    assert len(testbed.voiceprints(domain)) == 4
