"""`sonant voice-id describe-speaker-enrollment-job`: its help page, and the answers that it promises."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from service_process import KEY_ALIAS, ROLE, Ended, ServiceProcess

from sonant.demo.recordings import ManifestEntry, write_manifest

#: The page's tree of output members: name and kind.
OUTPUT = {
    "Job": {
        "CreatedAt": "timestamp",
        "DataAccessRoleArn": "string",
        "DomainId": "string",
        "EndedAt": "timestamp",
        "EnrollmentConfig": {
            "ExistingEnrollmentAction": "string",
            "FraudDetectionConfig": {"FraudDetectionAction": "string", "RiskThreshold": "integer"},
        },
        "FailureDetails": {"Message": "string", "StatusCode": "integer"},
        "InputDataConfig": {"S3Uri": "string"},
        "JobId": "string",
        "JobName": "string",
        "JobProgress": {"PercentComplete": "integer"},
        "JobStatus": "string",
        "OutputDataConfig": {"KmsKeyId": "string", "S3Uri": "string"},
    }
}
KINDS = {"timestamp": float, "string": str, "integer": int}


def described(service: ServiceProcess, domain_id: str, job_id: str) -> Ended:
    return service.sonant(
        *("voice-id", "describe-speaker-enrollment-job", "--domain-id", domain_id, "--job-id", job_id)
    )


def start(service: ServiceProcess, domain_id: str, manifest: str) -> str:
    job = service.voice_id.start_speaker_enrollment_job(
        DomainId=domain_id,
        JobName="a-job",
        DataAccessRoleArn=ROLE,
        InputDataConfig={"S3Uri": manifest},
        OutputDataConfig={"S3Uri": "s3://calls/results", "KmsKeyId": KEY_ALIAS},
    )["Job"]
    return str(job["JobId"])


def put_manifest(service: ServiceProcess, name: str, requests: int) -> str:
    entries = [
        ManifestEntry(request_id=f"r{n}", speaker_id=f"caller-{n}", audio=(("s3://calls/absent.wav", 0),))
        for n in range(requests)
    ]
    (service.data / "buckets" / "calls" / name).write_bytes(write_manifest(entries))
    return f"s3://calls/{name}"


def assert_is(shown: Any, tree: dict[str, Any], absent: set[str]) -> None:
    """Exactly the tree's members but for the absent ones, each of its kind, in the page's order."""
    assert list(shown) == [name for name in tree if name not in absent]
    for name, value in shown.items():
        if isinstance(tree[name], dict):
            assert_is(value, tree[name], absent)
        else:
            assert isinstance(value, KINDS[tree[name]]), name


def rendered(done: Ended) -> str:
    """A help page as it looks: without the overstrikes of bold and underlined letters."""
    return re.sub(".\b", "", done.out)


def test_the_help_page_lists_every_option_and_every_output_member(service: ServiceProcess) -> None:
    done = service.sonant("voice-id", "describe-speaker-enrollment-job", "help")

    assert (done.code, done.err) == (0, "")
    page = rendered(done)
    for section in ("NAME", "DESCRIPTION", "SYNOPSIS", "OPTIONS", "OUTPUT"):
        assert re.search(rf"^{section}$", page, re.MULTILINE), section
    assert "Describes the specified speaker enrollment job." in page
    synopsis = page.partition("SYNOPSIS")[2].partition("OPTIONS")[0].split()
    assert " ".join(synopsis).startswith(
        "describe-speaker-enrollment-job --domain-id <value> --job-id <value> [--cli-input-json <value>] "
        "[--generate-cli-skeleton <value>]"
    )
    output = page.partition("\nOUTPUT\n")[2]
    shown = re.findall(r"^( +)(\w+) -> \((\w+)\)$", output, re.MULTILINE)
    # The list of watchlists came to the page later, with the feature; its item is not named like a member.
    told = [(name, kind) for _, name, kind in shown if name != "WatchlistIds"]

    def listed(tree: dict[str, Any]) -> list[tuple[str, str]]:
        members = []
        for name, kind in tree.items():
            if isinstance(kind, dict):
                members += [(name, "structure"), *listed(kind)]
            else:
                members.append((name, kind))
        return members

    assert told == listed(OUTPUT)


@pytest.mark.parametrize("level", [[], ["list-speakers"]])
def test_other_help_pages_exit_0(service: ServiceProcess, level: list[str]) -> None:
    done = service.sonant("voice-id", *level, "help")
    assert (done.code, done.err) == (0, "")
    assert "list-speakers" in rendered(done)


def test_a_finished_job_is_printed_as_the_page_says(service: ServiceProcess, domain_id: str) -> None:
    job_id = start(service, domain_id, put_manifest(service, "finished.json", requests=2))
    service.ended_job(domain_id, job_id)

    done = described(service, domain_id, job_id)

    assert (done.code, done.err) == (0, "")
    shown = json.loads(done.out)
    assert_is(shown, OUTPUT, absent={"FailureDetails"})
    assert shown["Job"]["JobStatus"] == "COMPLETED_WITH_ERRORS"
    assert shown["Job"]["JobProgress"] == {"PercentComplete": 100}


def test_a_failed_job_is_printed_as_the_page_says(service: ServiceProcess, domain_id: str) -> None:
    job_id = start(service, domain_id, "s3://calls/absent.json")
    service.ended_job(domain_id, job_id)

    done = described(service, domain_id, job_id)

    assert (done.code, done.err) == (0, "")
    shown = json.loads(done.out)
    assert_is(shown, OUTPUT, absent=set())
    assert shown["Job"]["JobStatus"] == "FAILED"
    assert shown["Job"]["FailureDetails"]["StatusCode"] == 404


def test_a_running_job_is_printed_as_the_page_says(service: ServiceProcess, domain_id: str) -> None:
    # So many requests that the job outlives the start of a command.
    job_id = start(service, domain_id, put_manifest(service, "running.json", requests=5000))
    while service.job(domain_id, job_id)["JobStatus"] == "SUBMITTED":
        pass

    done = described(service, domain_id, job_id)

    assert (done.code, done.err) == (0, "")
    shown = json.loads(done.out)
    assert_is(shown, OUTPUT, absent={"EndedAt", "FailureDetails"})
    assert shown["Job"]["JobStatus"] == "IN_PROGRESS"
    assert 0 <= shown["Job"]["JobProgress"]["PercentComplete"] < 100
