"""Jobs, speakers, watchlists and fraudsters at the terminal, against a served Sonant."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from sample_requests import NOBODY, add_enrolled, add_fraudster
from service_process import ROLE, ServiceProcess

from sonant.demo.recordings import ManifestEntry, write_manifest
from sonant.jobs.result import output_name


def put_manifest(service: ServiceProcess, name: str, speakers: Sequence[str]) -> str:
    """Store a manifest of requests whose recordings are not there."""
    entries = [
        ManifestEntry(request_id=f"r{n}", speaker_id=speaker, audio=((f"s3://calls/absent-{n}.wav", 0),))
        for n, speaker in enumerate(speakers)
    ]
    (service.data / "buckets" / "calls" / name).write_bytes(write_manifest(entries))
    return f"s3://calls/{name}"


@pytest.fixture
def failed_id(service: ServiceProcess, domain_id: str) -> str:
    """A job that has ended: each of its three requests has failed, one because of its speaker."""
    service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId="gone")
    uri = put_manifest(service, f"{domain_id}.json", ("one", "gone", "two"))
    job_id = str(service.start_job(domain_id, uri)["JobId"])
    assert service.ended_job(domain_id, job_id)["JobStatus"] == "COMPLETED_WITH_ERRORS"
    return job_id


# --- jobs ---------------------------------------------------------------------------------------------


def test_watch_ends_with_the_result_and_its_reasons(
    service: ServiceProcess, domain_id: str, failed_id: str
) -> None:
    done = service.sonant("job", "watch", failed_id)
    assert (done.code, done.err) == (3, "")
    lines = done.out.splitlines()
    assert lines[0] == f"{failed_id} COMPLETED_WITH_ERRORS"
    assert lines[1].startswith("result: s3://")
    assert lines[1].endswith(f"/{failed_id}/{output_name(f'{domain_id}.json')}")
    assert lines[2] == f"3 requests failed (`sonant job errors {failed_id}` lists them):"
    assert [line.split()[:2] for line in lines[3:]] == [["2", "404"], ["1", "409"]]

    document = json.loads(service.sonant("job", "watch", failed_id, "--output", "json").out)
    assert document["Failed"] == 3
    assert [reason["Count"] for reason in document["Reasons"]] == [2, 1]
    found = service.sonant("object", "get", document["ResultUri"])
    assert len(json.loads(found.out)["Errors"]) == 3


def test_errors_are_listed_as_text_and_as_csv(service: ServiceProcess, failed_id: str) -> None:
    done = service.sonant("job", "errors", failed_id)
    assert done.code == 0
    assert [line.split()[:2] for line in done.out.splitlines()[1:]] == [
        ["r0", "404"],
        ["r1", "409"],
        ["r2", "404"],
    ]
    rows = list(csv.DictReader(io.StringIO(service.sonant("job", "errors", failed_id, "--csv").out)))
    assert [row["RequestId"] for row in rows] == ["r0", "r1", "r2"]
    assert rows[1]["ErrorMessage"] == "You cannot request an enrollment for an opted out speaker."


def test_a_manifest_of_what_failed_holds_those_requests(
    service: ServiceProcess, failed_id: str, tmp_path: Path
) -> None:
    file = tmp_path / "again.json"
    done = service.sonant("job", "manifest-of-failed", failed_id, str(file))
    assert (done.code, done.out) == (0, f"3 requests written to {file}\n")
    document = json.loads(file.read_text())
    assert [one["RequestId"] for one in document["SpeakerEnrollmentRequests"]] == ["r0", "r1", "r2"]
    refused = service.sonant("job", "manifest-of-failed", failed_id, str(file))
    assert (refused.code, refused.err) == (1, f"sonant: {file} exists already; choose another name\n")


def test_retry_starts_a_job_with_what_failed(service: ServiceProcess, domain_id: str, failed_id: str) -> None:
    done = service.sonant("job", "retry", failed_id, "--output", "json")
    assert done.code == 0, done.err
    started = json.loads(done.out)["Job"]
    job = service.ended_job(domain_id, started["JobId"])
    assert job["JobStatus"] == "COMPLETED_WITH_ERRORS"
    assert job["DataAccessRoleArn"] == ROLE
    assert f"/{failed_id}/{domain_id}.json.failed-" in job["InputDataConfig"]["S3Uri"]


def test_start_list_and_cancel(service: ServiceProcess, domain_id: str) -> None:
    at = ("--domain", domain_id)
    done = service.sonant(
        *("job", "start", "s3://calls/none.json", "s3://calls/out", *at),
        *("--existing", "OVERWRITE", "--fraud-action", "IGNORE", "--name", "nightly", "--watch"),
    )
    assert done.code == 1
    assert " FAILED: 404 the manifest cannot be read" in done.out
    job_id = done.out.split()[0]
    config = service.job(domain_id, job_id)["EnrollmentConfig"]
    assert config["ExistingEnrollmentAction"] == "OVERWRITE"
    assert config["FraudDetectionConfig"]["FraudDetectionAction"] == "IGNORE"

    listed = json.loads(service.sonant("job", "list", *at, "--output", "json").out)["Jobs"]
    assert [(one["JobId"], one["Type"], one["JobName"]) for one in listed] == [
        (job_id, "enrollment", "nightly")
    ]
    assert service.sonant("job", "list", *at, "--status", "COMPLETED").out == "no jobs\n"
    assert service.sonant("job", "list", *at, "--type", "dry-run").out == "no jobs\n"

    refused = service.sonant("job", "cancel", job_id)
    assert refused.code == 2
    assert "confirm it with --yes" in refused.err
    stopped = service.sonant("job", "cancel", job_id, "--yes")
    assert stopped.code == 0
    assert stopped.out.startswith(f"{job_id} FAILED: 404 the manifest"), "an ended job stays as it is"


def test_a_job_that_failed_is_retried_whole(service: ServiceProcess, domain_id: str) -> None:
    job_id = service.start_job(domain_id)["JobId"]
    service.ended_job(domain_id, job_id)
    done = service.sonant("job", "errors", job_id)
    assert done.code == 1
    assert done.err.startswith("sonant: the job failed as a whole and wrote no result file: 404 ")
    again = json.loads(service.sonant("job", "retry", job_id, "--output", "json").out)["Job"]["JobId"]
    assert service.job(domain_id, again)["InputDataConfig"] == {"S3Uri": "s3://calls/absent.json"}
    service.ended_job(domain_id, again)


@pytest.mark.parametrize("command", ["errors", "manifest-of-failed", "retry"])
def test_commands_about_an_unknown_job_say_so(service: ServiceProcess, command: str) -> None:
    done = service.sonant("job", command, NOBODY)
    assert (done.code, done.out) == (1, "")
    assert done.err == f"sonant: no domain has a job {NOBODY}\n"


# --- people -------------------------------------------------------------------------------------------


def test_speakers_are_listed_opted_out_exported_and_deleted(
    service: ServiceProcess, domain_id: str, tmp_path: Path
) -> None:
    at = ("--domain", domain_id)
    add_enrolled(service, domain_id, "ada")
    service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId="ben")
    listed = json.loads(service.sonant("speaker", "list", *at, "--output", "json").out)["Speakers"]
    assert {one["CustomerSpeakerId"]: one["Status"] for one in listed} == {
        "ada": "ENROLLED",
        "ben": "OPTED_OUT",
    }
    assert "ben" not in service.sonant("speaker", "list", *at, "--status", "ENROLLED").out
    assert len(service.sonant("speaker", "list", *at, "--most", "1").out.splitlines()) == 2
    assert "ENROLLED" in service.sonant("speaker", "describe", "ada", *at).out

    file = tmp_path / "ada.json"
    done = service.sonant("speaker", "export", "ada", str(file), *at)
    assert done.code == 0, done.err
    assert file.stat().st_mode & 0o777 == 0o600
    assert "Vector" in file.read_text()

    assert service.sonant("speaker", "opt-out", "ada", *at).code == 2
    done = service.sonant("speaker", "opt-out", "ada", *at, "--yes")
    assert done.out.endswith(" is OPTED_OUT\n")
    done = service.sonant("speaker", "delete", "ada", *at, "--yes")
    assert done.out.endswith(" is gone\n")
    assert service.sonant("speaker", "describe", "ada", *at).code == 1


def test_watchlists_and_fraudsters(service: ServiceProcess, domain_id: str) -> None:
    at = ("--domain", domain_id)
    made = service.sonant("watchlist", "create", "known", "--description", "seen twice", *at).out.strip()
    listed = json.loads(service.sonant("watchlist", "list", *at, "--output", "json").out)["Watchlists"]
    default = next(one["WatchlistId"] for one in listed if one["DefaultWatchlist"])
    assert {one["WatchlistId"] for one in listed} == {made, default}

    fraudster = add_fraudster(service, domain_id, default)
    assert fraudster in service.sonant("fraudster", "list", *at).out
    assert service.sonant("fraudster", "list", "--watchlist", made, *at).out == "no fraudsters\n"
    assert made in service.sonant("fraudster", "add", fraudster, "--watchlist", made, *at).out
    assert default not in service.sonant("fraudster", "remove", fraudster, "--watchlist", default, *at).out
    shown = service.sonant("fraudster", "describe", fraudster, *at)
    assert made in shown.out
    assert default not in shown.out
    assert service.sonant("fraudster", "delete", fraudster, *at, "--yes").code == 0
    assert service.sonant("fraudster", "list", *at).out == "no fraudsters\n"
    assert service.sonant("watchlist", "delete", made, *at, "--yes").out == f"{made} is gone\n"


def test_domains_are_listed(service: ServiceProcess, domain_id: str) -> None:
    listed = json.loads(service.sonant("domain", "list", "--output", "json").out)["Domains"]
    assert domain_id in {one["DomainId"] for one in listed}


def test_an_object_is_removed(service: ServiceProcess) -> None:
    file = service.data / "buckets" / "calls" / "to-remove.txt"
    file.write_text("x")
    assert service.sonant("object", "rm", "s3://calls/to-remove.txt").code == 2
    done = service.sonant("object", "rm", "s3://calls/to-remove.txt", "--yes")
    assert (done.code, done.out) == (0, "s3://calls/to-remove.txt is gone\n")
    assert not file.exists()
    again = service.sonant("object", "rm", "s3://calls/to-remove.txt", "--yes")
    assert (again.code, again.out) == (1, "")
    assert "there is no such object" in again.err
