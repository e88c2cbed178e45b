"""The result file's name, order and seal; progress while the job runs; the job as it is described."""

import json
import os
import subprocess
import sys

import pytest
from batch_values import entry, manifest

from waiting import PATIENCE_S

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
def test_where_the_result_lies(house, domain, output, key):
    outcome = house.enroll(domain, [GOOD], output_uri=output)
    (path,) = house.files_with(outcome.job["JobId"])
    root = house.settings.data / "buckets" / "results"
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
def test_the_result_is_named_after_the_last_part_of_the_manifest_s_key(house, domain, manifest_key, name):
    uri = house.put(f"s3://jobs/{manifest_key}", manifest([GOOD]))
    outcome = house.enroll(domain, input_uri=uri, output_uri="s3://results/named")
    (path,) = house.files_with(outcome.job["JobId"])
    assert path.name == name


def test_errors_and_successes_stand_in_manifest_order(house, domain):
    voices = ("english", "french", "italian", "russian")
    entries = []
    for n in range(24):
        voice = voices[n % 4]
        file = f"s3://calls/{voice}.wav" if n % 3 else "s3://calls/none.wav"
        entries.append(entry(f"request-{n:02}", f"customer-{n % 9}", file))
    outcome = house.enroll(domain, entries)
    assert list(outcome.errors) == sorted(outcome.errors)
    assert list(outcome.successes) == sorted(outcome.successes)
    assert len(outcome.errors) + len(outcome.successes) == 24
    assert set(outcome.successes.values()) == {"NEW_ENROLLMENT", "DUPLICATE_SKIPPED"}


def test_a_line_of_the_result_holds_what_the_schema_says(house, domain):
    outcome = house.enroll(domain, [GOOD, entry("r2", "customer-2", "s3://calls/none.wav")])
    speaker = house.speakers(domain)["customer-1"]
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


def test_without_a_key_the_result_is_plain(house, domain):
    outcome = house.enroll(domain, [GOOD])
    (path,) = house.files_with(outcome.job["JobId"])
    assert json.loads(path.read_bytes()) == outcome.result
    assert "KmsKeyId" not in {k: v for k, v in outcome.job["OutputDataConfig"].items() if v is not None}


def test_with_a_key_the_result_opens_with_sonant_object_get_alone(house, domain):
    key = house.store.keys.create("of results")
    outcome = house.enroll(domain, [GOOD], output_key=key.arn, output_uri="s3://results/sealed")
    job_id = outcome.job["JobId"]
    (path,) = house.files_with(job_id)
    raw = path.read_bytes()
    for text in (b"customer-1", b"Version", b"id#", b"NEW_ENROLLMENT"):
        assert text not in raw
    command = [
        sys.executable,
        "-m",
        "sonant",
        "object",
        "get",
        f"s3://results/sealed/{job_id}/manifest.json.out",
    ]
    environment = {**os.environ, "SONANT_DATA": str(house.settings.data)}
    opened = subprocess.run(
        command, env=environment, capture_output=True, timeout=PATIENCE_S, check=True
    ).stdout
    assert json.loads(opened) == outcome.result
    house.store.keys.disable(key.arn)
    refused = subprocess.run(command, env=environment, capture_output=True, timeout=PATIENCE_S, check=False)
    assert refused.returncode != 0
    assert refused.stdout == b""
    assert b"is disabled" in refused.stderr


def test_the_result_is_the_owner_s_alone(house, domain):
    outcome = house.enroll(domain, [GOOD])
    (path,) = house.files_with(outcome.job["JobId"])
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_progress_only_grows_and_counts_failures_as_finished(house, domain):
    entries = [
        entry(f"r{n}", f"customer-{n}", "s3://calls/english.wav" if n % 2 else "s3://calls/none.wav")
        for n in range(10)
    ]
    job_id = house.start(domain, entries)
    seen = [house.describe(domain, job_id)]
    look = {n: lambda: seen.append(house.describe(domain, job_id)) for n in range(11)}
    house.run(during=look)
    seen.append(house.describe(domain, job_id))
    statuses = [job["JobStatus"] for job in seen]
    assert statuses == ["SUBMITTED"] + ["IN_PROGRESS"] * 11 + ["COMPLETED_WITH_ERRORS"]
    percents = [job["JobProgress"]["PercentComplete"] for job in seen]
    assert percents == sorted(percents)
    assert (percents[0], percents[-1]) == (0, 100)
    assert set(percents) == set(range(0, 101, 10)), "each request that was committed is seen"


def test_percent_is_rounded_down_and_100_only_at_the_end(house, domain):
    entries = [entry(f"r{n}", f"customer-{n}", "s3://calls/none.wav") for n in range(300)]
    job_id = house.start(domain, entries)
    seen = []
    look = {n: lambda: seen.append(house.describe(domain, job_id)) for n in range(290, 301)}
    house.run(during=look, one_by_one=False)
    percents = [job["JobProgress"]["PercentComplete"] for job in seen]
    assert len(percents) == 11
    assert max(percents) <= 99
    assert house.describe(domain, job_id)["JobProgress"]["PercentComplete"] == 100


def test_times_are_those_of_start_and_end(house, domain):
    outcome = house.enroll(domain, [GOOD])
    assert outcome.job["CreatedAt"] < outcome.job["EndedAt"]
    listed = house.call("ListSpeakerEnrollmentJobs", DomainId=domain)["JobSummaries"]
    assert [job["JobId"] for job in listed] == [outcome.job["JobId"]]
    assert listed[0]["EndedAt"] == outcome.job["EndedAt"]


def test_the_configuration_is_echoed_with_the_defaults_of_its_actions(house, domain):
    outcome = house.enroll(domain, [GOOD], name="first")
    assert outcome.job["JobName"] == "first"
    assert outcome.job["EnrollmentConfig"] == {
        "ExistingEnrollmentAction": "SKIP",
        "FraudDetectionConfig": {"FraudDetectionAction": "FAIL", "RiskThreshold": 50},
    }


def test_a_job_of_several_hundred_requests(house, domain):
    """More than one commit, more than one page of rows, and speakers that come again later."""
    voices = ("english", "french", "italian", "russian")
    known = [entry(f"new-{n}", f"customer-{n}", f"s3://calls/{voices[n]}.wav") for n in range(4)]
    again = [entry(f"again-{n}", f"customer-{n % 4}", "s3://calls/none.wav") for n in range(1200)]
    bad = [entry(f"bad-{n}", "two words", "s3://calls/none.wav") for n in range(1100)]
    outcome = house.enroll(domain, [*known, *again, *bad])
    assert list(outcome.successes)[:4] == [f"new-{n}" for n in range(4)]
    assert list(outcome.successes)[4:] == [f"again-{n}" for n in range(1200)]
    assert list(outcome.errors) == [f"bad-{n}" for n in range(1100)]
    assert len(house.voiceprints(domain)) == 4
