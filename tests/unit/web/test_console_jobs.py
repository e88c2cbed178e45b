"""The job pages: lists, a job's requests by outcome and reason, tables to keep, and starting."""

from __future__ import annotations

import csv
import re

import pytest
from console_testbed import FILES, ROLE, ConsoleTestbed, Person, text_of

from sonant.jobs.result import enrollment_line, error_line
from sonant.storage.repositories import jobs

SPEAKER = "id#" + "S" * 22


def lines() -> list[dict[str, object]]:
    """The result of a job: 60 requests without enough speech, one without a recording, two enrolled."""
    short = [error_line(f"short-{n}", 400, f"{n}.5 s of speech, 30 s are needed") for n in range(60)]
    absent = error_line("absent", 404, "s3://calls/a.wav does not exist")
    done = [enrollment_line(f"done-{n}", SPEAKER, f"customer-{n}", "NEW_ENROLLMENT") for n in range(2)]
    return [*short, absent, *done]


def start(console: ConsoleTestbed, name: str = "batch") -> str:
    console.grant_role()
    config = {
        "ExistingEnrollmentAction": "SKIP",
        "FraudDetectionConfig": {"FraudDetectionAction": "FAIL", "RiskThreshold": 60},
    }
    started = console.call("StartSpeakerEnrollmentJob", JobName=name, EnrollmentConfig=config, **FILES)
    return str(started["Job"]["JobId"])


@pytest.fixture(scope="module")
def ended(console: ConsoleTestbed) -> str:
    job_id = start(console)
    console.end_job(job_id, jobs.ENROLLMENT, lines())
    return job_id


def test_the_list_has_name_status_and_progress(admin: Person, ended: str) -> None:
    said = text_of(admin.get("/jobs"))
    assert "batch Completed with errors 100 %" in said
    assert "batch" not in text_of(admin.get("/jobs", status="FAILED"))
    assert "No jobs of this type" in text_of(admin.get("/jobs", kind="registration"))
    assert admin.get("/jobs", kind="other").status_code == 404


def test_a_job_counts_failures_by_reason_and_shows_its_set_up(admin: Person, ended: str) -> None:
    said = text_of(admin.get(f"/jobs/enrollment/{ended}"))
    assert "63 of 63 requests are done, 61 of them failed" in said
    assert "… s of speech, … s are needed 400 60" in said
    assert "s3://… does not exist 404 1" in said
    assert f"s3://calls/results/{ended}/manifest.json.out" in said
    assert ROLE in said
    assert "Refuse , from a risk of 60 on" in said.replace("Refuse,", "Refuse ,")


def test_failed_requests_come_in_pages_and_by_reason(admin: Person, ended: str) -> None:
    path = f"/jobs/enrollment/{ended}"
    first = admin.get(path)
    assert "short-49" in first.text and "short-50" not in first.text
    following = re.search(r'href="([^"]+)" rel="next"', first.text)
    assert following is not None
    second = admin.web.get(following[1].replace("&amp;", "&"))
    assert "short-50" in second.text and "absent" in second.text and "short-49" not in second.text
    chosen = text_of(admin.get(path, reason="s3://… does not exist"))
    assert "absent" in chosen and "short-0" not in chosen


def test_requests_that_succeeded_lead_to_their_speakers(admin: Person, ended: str) -> None:
    shown = admin.get(f"/jobs/enrollment/{ended}", show="SUCCEEDED")
    assert f'{admin.base}/speakers/{"S" * 22}">customer-1</a>' in shown.text
    assert "Why requests failed" not in shown.text


def test_the_tables_have_all_requests(admin: Person, ended: str) -> None:
    failed = admin.get(f"/jobs/enrollment/{ended}/failed.csv")
    assert failed.headers["content-disposition"] == f'attachment; filename="job-{ended}-failed.csv"'
    rows = list(csv.DictReader(failed.text.splitlines()))
    assert [row["RequestId"] for row in rows] == [*(f"short-{n}" for n in range(60)), "absent"]
    assert rows[-1]["ErrorMessage"] == "s3://calls/a.wav does not exist"
    succeeded = csv.DictReader(admin.get(f"/jobs/enrollment/{ended}/succeeded.csv").text.splitlines())
    assert [row["SpeakerId"] for row in succeeded] == ["customer-0", "customer-1"]


def test_a_cell_of_a_table_is_never_a_formula(console: ConsoleTestbed, admin: Person) -> None:
    job_id = start(console)
    console.end_job(job_id, jobs.ENROLLMENT, [error_line("=cmd()", 400, "+1 recording")])
    (row,) = csv.DictReader(admin.get(f"/jobs/enrollment/{job_id}/failed.csv").text.splitlines())
    assert (row["RequestId"], row["ErrorMessage"]) == ("'=cmd()", "'+1 recording")


def test_a_role_that_may_not_read_the_result_is_named(console: ConsoleTestbed, admin: Person) -> None:
    job_id = start(console)
    console.end_job(job_id, jobs.ENROLLMENT, lines())
    console.grant_role("s3:PutObject")
    said = text_of(admin.get(f"/jobs/enrollment/{job_id}"))
    console.grant_role()
    assert "Allow the job's role s3:GetObject" in said
    assert "Completed with errors" in said, "the rest of the page is there"


def test_a_result_that_somebody_changed_is_not_shown(console: ConsoleTestbed, admin: Person) -> None:
    job_id = start(console)
    console.end_job(job_id, jobs.ENROLLMENT, lines())
    result = console.store.settings.data / f"buckets/calls/results/{job_id}/manifest.json.out"
    result.write_bytes(result.read_bytes().replace(b'"RequestId"', b'"Other"'))
    assert "not the one that the job has written" in text_of(admin.get(f"/jobs/enrollment/{job_id}"))


def test_a_job_that_waits_refreshes_itself_and_has_no_requests_yet(
    console: ConsoleTestbed, admin: Person
) -> None:
    job_id = start(console, "waits")
    shown = admin.get(f"/jobs/enrollment/{job_id}")
    assert 'id="progress" data-refresh="3"' in shown.text
    assert "No request has failed." in text_of(shown)
    console.end_job(job_id, jobs.ENROLLMENT, [])
    assert "data-refresh" not in admin.get(f"/jobs/enrollment/{job_id}").text


FORM = {
    "name": "from-the-page",
    "manifest": "s3://calls/manifest.json",
    "output": "s3://calls/results/",
    "role": ROLE,
    "existing": "OVERWRITE",
    "fraud": "FAIL",
    "threshold": "70",
}


def test_a_dry_run_comes_first_and_the_job_takes_its_set_up(console: ConsoleTestbed, admin: Person) -> None:
    console.grant_role()
    started = admin.post("/start-job/start", FORM)
    where = started.headers["location"]
    assert re.fullmatch(rf"{console.base}/jobs/dry-run/\w{{22}}\?done=dry-run-started", where)
    assert "It enrolls nobody" in text_of(admin.web.get(where))
    dry_run = where.rpartition("/")[2].partition("?")[0]
    page = admin.get("/start-job", **{"from": dry_run})
    for value in (*FORM.values(), dry_run):
        assert value in page.text
    once = re.search(r'name="once" value="(\w+)"', page.text)
    assert once is not None
    again = [admin.post("/start-job/start", FORM, enroll="1", once=once[1]) for _ in range(2)]
    assert len({one.headers["location"] for one in again}) == 1, "a form that is sent twice starts one job"
    job_id = again[0].headers["location"].rpartition("/")[2].partition("?")[0]
    job = console.call("DescribeSpeakerEnrollmentJob", JobId=job_id)["Job"]
    assert job["EnrollmentConfig"] == {
        "ExistingEnrollmentAction": "OVERWRITE",
        "FraudDetectionConfig": {"FraudDetectionAction": "FAIL", "RiskThreshold": 70},
    }
    assert job["JobName"] == "from-the-page"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"manifest": ""}, "The manifest is missing."),
        ({"role": ""}, "The role is missing."),
        ({"threshold": "high"}, "The risk threshold is a whole number from 0 to 100."),
        ({"threshold": "101"}, "The risk threshold is a whole number from 0 to 100."),
        ({"manifest": "calls/manifest.json"}, "inputDataConfig"),
        ({"name": "a name"}, "jobName"),
    ],
)
def test_a_wrong_field_is_named_and_the_others_are_kept(
    admin: Person, changes: dict[str, str], said: str
) -> None:
    refused = admin.post("/start-job/start", FORM | changes)
    assert refused.status_code == 400
    assert said.lower() in text_of(refused).lower()
    assert f'value="{FORM["output"]}"' in refused.text
    assert '<option value="OVERWRITE" selected>' in refused.text


def test_starting_needs_the_right_to_pass_the_role(console: ConsoleTestbed) -> None:
    policy = (
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["voiceid:*","sonant:*","kms:*"],'
        '"Resource":"*"}]}'
    )
    refused = console.person(policy).post("/start-job/start", FORM)
    assert refused.status_code == 403
    assert "iam:PassRole" in text_of(refused)
