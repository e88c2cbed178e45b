"""Dry runs: what the job would do, told without doing it."""

from __future__ import annotations

import pytest
from batch_values import entry, fraud_entry, manifest
from strict_files import read_report

from sonant.assembly import installation
from sonant.errors import Conflict
from sonant.jobs.runner import Runner
from sonant.storage.objects.store import ObjectUri
from sonant.storage.repositories import jobs
from sonant.voice.disclosure import SCORE_BANDS

CALLS = "s3://calls"


@pytest.fixture
def dry_run(testbed):
    """Start a dry run, carry it out, read its report."""

    def run(testbed, domain_id, entries, *, config=None, output_key=None, during=None):
        data = entries if isinstance(entries, bytes) else manifest(entries)
        answer = testbed.call(
            "StartEnrollmentDryRun",
            DomainId=domain_id,
            DataAccessRoleArn=installation.role_arn(testbed.settings),
            InputDataConfig={"S3Uri": testbed.put(f"s3://jobs/{next(testbed.names)}/m.json", data)},
            OutputDataConfig={
                "S3Uri": "s3://results/dry",
                **({"KmsKeyId": output_key} if output_key else {}),
            },
            EnrollmentConfig=config or {},
        )
        assert answer["Job"]["JobStatus"] == "SUBMITTED"
        job_id = answer["Job"]["JobId"]
        testbed.run(during=during)
        return described(testbed, domain_id, job_id)

    return run


def described(testbed, domain_id, job_id):
    job = testbed.call("DescribeEnrollmentDryRun", DomainId=domain_id, JobId=job_id)["Job"]
    if job["JobStatus"] == "FAILED":
        assert testbed.files_with(job_id) == []
        return job, None, None
    where = ObjectUri.parse("s3://results/dry").child(job_id, "m.json.out")
    return job, read_report(testbed.get(str(where))), testbed.get(f"{where}.html").decode()


def outcomes(report):
    return {line["RequestId"]: line["LikelyOutcome"] for line in report["Requests"]}


def predicted(report):
    """What the dry run says of each request, in the form of a job's results."""
    return {
        line["RequestId"]: (line["ErrorCode"], line["ErrorMessage"])
        if line["LikelyOutcome"] == "ERROR"
        else line["LikelyOutcome"]
        for line in report["Requests"]
    }


ALL_SORTS = [
    entry("new", "customer-1", f"{CALLS}/english.wav"),
    entry("enrolled", "old", f"{CALLS}/french.wav"),
    entry("refuser", "never", f"{CALLS}/french.wav"),
    entry("short", "customer-2", f"{CALLS}/russian-short.wav"),
    entry("absent", "customer-3", f"{CALLS}/absent.wav"),
    entry("channel", "customer-4", (f"{CALLS}/russian-short.wav", 1)),
    entry("twice", "customer-1", f"{CALLS}/absent.wav"),
    entry("malformed", "id#x", f"{CALLS}/french.wav"),
    entry("second file absent, not needed", "customer-5", f"{CALLS}/italian.wav", f"{CALLS}/absent.wav"),
    entry("two short", "customer-6", f"{CALLS}/russian-short.wav", f"{CALLS}/russian.wav"),
]


def test_dry_run_says_who_lacks_the_consent_that_the_domain_requires(own_testbed, dry_run):
    testbed, domain_id = own_testbed, own_testbed.new_domain()
    testbed.call("PutPrivacyRules", DomainId=domain_id, ConsentRequired=True)
    _, report, _ = dry_run(testbed, domain_id, [entry("new", "customer-1", f"{CALLS}/english.wav")])
    assert predicted(report) == {"new": (409, Conflict.TEXTS["CONSENT_MISSING"])}


@pytest.mark.parametrize("action", ["SKIP", "OVERWRITE"])
def test_it_predicts_what_the_job_then_does(own_testbed, dry_run, action):
    testbed, domain = own_testbed, own_testbed.new_domain()
    testbed.enroll(domain, [entry("r", "old", f"{CALLS}/french.wav")])
    testbed.call("OptOutSpeaker", DomainId=domain, SpeakerId="never")
    before = testbed.speakers(domain)

    job, report, _ = dry_run(testbed, domain, ALL_SORTS, config={"ExistingEnrollmentAction": action})

    assert testbed.speakers(domain) == before, "a dry run changes no speaker"
    done = testbed.enroll(domain, ALL_SORTS, action=action)
    assert predicted(report) == {**done.errors, **done.successes}
    assert job["JobStatus"] == done.status == "COMPLETED_WITH_ERRORS"
    summary = {"Requests": 10, "LikelyToSucceed": len(done.successes), "LikelyToFail": len(done.errors)}
    assert job["Summary"] == summary
    assert report["Summary"].items() >= summary.items()


def test_the_quota_is_counted_as_if_the_requests_before_had_been_enrolled(own_testbed, dry_run):
    testbed = own_testbed
    domain = testbed.new_domain()
    narrow = testbed.variant(
        quotas=type(testbed.settings.quotas)(speakers_per_domain=1, domains_per_account=9)
    )
    entries = [entry(name, f"customer-{name}", f"{CALLS}/{name}.wav") for name in ("english", "french")]
    _, report, _ = dry_run(narrow, domain, entries)
    done = narrow.enroll(domain, entries)
    narrow.close()
    assert done.errors["french"][0] == 402
    assert predicted(report) == {**done.errors, **done.successes}


def test_every_recording_is_described_also_of_one_who_would_be_skipped(testbed, domain, dry_run):
    testbed.enroll(domain, [entry("r", "old", f"{CALLS}/french.wav")])
    _, report, _ = dry_run(testbed, domain, [entry("skipped", "old", f"{CALLS}/english.wav")])
    (line,) = report["Requests"]
    (recording,) = line["Recordings"]
    assert line["LikelyOutcome"] == "DUPLICATE_SKIPPED"
    assert recording["S3Uri"] == f"{CALLS}/english.wav"
    assert (recording["Container"], recording["Encoding"], recording["SampleRateHz"]) == (
        "WAV",
        "PCM-16",
        8000,
    )
    assert recording["NetSpeechSeconds"] == line["NetSpeechSeconds"] > 6
    assert recording["SnrDb"] > 20
    assert recording["Codec"] == "unknown"


def test_another_voice_over_an_existing_one_is_reported(testbed, domain, dry_run):
    testbed.enroll(domain, [entry(name, name, f"{CALLS}/{name}.wav") for name in ("french", "english")])
    entries = [
        entry("same", "english", f"{CALLS}/english-again.wav"),
        entry("other", "french", f"{CALLS}/russian.wav"),
    ]
    _, report, _ = dry_run(testbed, domain, entries, config={"ExistingEnrollmentAction": "OVERWRITE"})
    lines = {line["RequestId"]: line for line in report["Requests"]}

    assert {line["LikelyOutcome"] for line in lines.values()} == {"ENROLLMENT_OVERWRITE"}
    assert lines["same"]["ExistingVoiceprint"]["Score"] in SCORE_BANDS[1:]
    assert lines["other"]["ExistingVoiceprint"] == {"Score": 0}
    told = "may be another person than the voiceprint that it would replace: "
    assert any(text.startswith(told) for text in lines["other"]["Warnings"])
    assert not any(text.startswith(told) for text in lines["same"]["Warnings"])


def test_one_voice_under_two_ids_and_two_voices_under_one_are_reported(testbed, domain, dry_run):
    entries = [
        entry("a", "anna", f"{CALLS}/english.wav"),
        entry("b", "bert", f"{CALLS}/english-again.wav"),
        entry("c", "carl", f"{CALLS}/french.wav"),
        entry("d", "dora", f"{CALLS}/russian.wav"),
        entry("d2", "dora", f"{CALLS}/italian.wav"),
        entry("mixed", "mike", f"{CALLS}/english-short.wav", f"{CALLS}/french.wav", f"{CALLS}/russian.wav"),
    ]
    _, report, _ = dry_run(testbed, domain, entries, config={"ExistingEnrollmentAction": "OVERWRITE"})
    lines = {line["RequestId"]: line for line in report["Requests"]}
    assert lines["a"]["SameVoiceAs"]["SpeakerId"] == "bert"
    assert lines["b"]["SameVoiceAs"]["SpeakerId"] == "anna"
    assert "SameVoiceAs" not in lines["d"]
    assert lines["d"]["UnlikeRequest"]["RequestId"] == "d2"
    assert report["Summary"]["VoicesUnderSeveralIds"] >= 2
    assert any("sounds like the voice of speaker bert" in text for text in lines["a"]["Warnings"])


def test_the_report_holds_no_voice_and_the_database_neither_afterwards(testbed, domain, dry_run):
    _, report, page = dry_run(testbed, domain, [entry("a", "anna", f"{CALLS}/english.wav")])
    assert "voice" not in report["Requests"][0]
    assert "anna" in page
    assert testbed.voiceprints(domain) == {}


def test_findings_are_sealed_while_it_runs(own_testbed, dry_run):
    domain = own_testbed.new_domain()
    seen = []

    def look():
        seen.append((own_testbed.settings.data / "sonant.db").read_bytes())
        seen.append((own_testbed.settings.data / "sonant.db-wal").read_bytes())

    entries = [entry(f"request-{n}", f"anna-{n}", f"{CALLS}/english.wav") for n in range(3)]
    dry_run(own_testbed, domain, entries, during={2: look})
    assert seen
    for content in seen:
        assert b"anna-" not in content
        assert b"english.wav" not in content


def test_a_killed_runner_s_forecast_is_taken_up_by_the_next(own_testbed, monkeypatch):
    domain = own_testbed.new_domain()
    entries = [entry(f"r{n}", "the-same", f"{CALLS}/english.wav") for n in range(3)]
    answer = own_testbed.call(
        "StartEnrollmentDryRun",
        DomainId=domain,
        DataAccessRoleArn=installation.role_arn(own_testbed.settings),
        InputDataConfig={"S3Uri": own_testbed.put("s3://jobs/k/m.json", manifest(entries))},
        OutputDataConfig={"S3Uri": "s3://results/dry"},
    )
    job_id = answer["Job"]["JobId"]
    runner: Runner = own_testbed.runner(during={2: lambda: runner.stop()}, owner="one")
    assert runner.run_one()
    status, done, _ = own_testbed.progress(job_id)
    assert (status, 0 < done < 3) == ("IN_PROGRESS", True)
    read_outcomes, writing = jobs.outcomes, list[bool]()

    def watched(read, job_id, *, failed):
        with read() as connection:
            writing.append("sonant_write" in connection.get_execution_options())
        return read_outcomes(read, job_id, failed=failed)

    monkeypatch.setattr(jobs, "outcomes", watched)
    own_testbed.run()
    assert writing and not any(writing), "what may be a hundred thousand decisions holds up no writer"
    _, report, _ = described(own_testbed, domain, job_id)
    assert list(outcomes(report).values()) == ["NEW_ENROLLMENT", "DUPLICATE_SKIPPED", "DUPLICATE_SKIPPED"]


def test_a_broken_manifest_fails_it_as_it_would_the_job(testbed, domain, dry_run):
    job, _, _ = dry_run(testbed, domain, b"{}")
    assert job["FailureDetails"]["StatusCode"] == 400
    assert testbed.enroll(domain, b"{}").failure == (400, job["FailureDetails"]["Message"])


def test_both_files_of_the_report_are_sealed_under_the_key_that_is_named(testbed, domain, dry_run):
    job, _, _ = dry_run(
        testbed,
        domain,
        [entry("a", "anna", f"{CALLS}/english.wav")],
        output_key=installation.DEFAULT_ALIAS,
    )
    files = testbed.files_with(job["JobId"])
    assert len(files) == 2
    assert all(b"anna" not in file.read_bytes() for file in files)


def test_it_is_no_enrollment_job_and_takes_no_job_s_place(testbed, domain):
    start = {
        "DomainId": domain,
        "DataAccessRoleArn": installation.role_arn(testbed.settings),
        "InputDataConfig": {"S3Uri": "s3://jobs/none.json"},
        "OutputDataConfig": {"S3Uri": "s3://results/dry"},
    }
    dry = testbed.call("StartEnrollmentDryRun", **start)["Job"]["JobId"]
    testbed.call("StartSpeakerEnrollmentJob", **start)
    listed = testbed.call("ListEnrollmentDryRuns", DomainId=domain)["JobSummaries"]
    assert [job["JobId"] for job in listed] == [dry]
    jobs = testbed.call("ListSpeakerEnrollmentJobs", DomainId=domain)["JobSummaries"]
    assert dry not in [job["JobId"] for job in jobs]
    testbed.run()
    testbed.run()


def test_a_known_fraudster_is_predicted_as_the_job_then_says(own_testbed, dry_run):
    testbed, domain = own_testbed, own_testbed.new_domain()
    testbed.register(domain, [fraud_entry("f", f"{CALLS}/english.wav")])
    entries = [entry("r1", "c-1", f"{CALLS}/english-again.wav"), entry("r2", "c-2", f"{CALLS}/russian.wav")]
    _, report, _ = dry_run(testbed, domain, entries)
    done = testbed.enroll(domain, entries)
    assert "fraud check failed" in done.errors["r1"][1]
    assert predicted(report) == {**done.errors, **done.successes}


def test_copies_of_enrolled_and_of_listed_recordings_are_predicted(own_testbed, dry_run):
    testbed, domain = own_testbed, own_testbed.new_domain()
    testbed.enroll(domain, [entry("r", "old", f"{CALLS}/french.wav")])
    entries = [
        entry("copy of one enrolled", "c-1", f"{CALLS}/french.wav"),
        entry("first", "c-2", f"{CALLS}/english.wav"),
        entry("copy of the first", "c-3", f"{CALLS}/english.wav"),
        entry("not a copy", "c-4", f"{CALLS}/russian.wav"),
    ]
    _, report, _ = dry_run(testbed, domain, entries)
    _, ignoring, _ = dry_run(
        testbed, domain, entries, config={"FraudDetectionConfig": {"FraudDetectionAction": "IGNORE"}}
    )
    done = testbed.enroll(domain, entries)
    assert "fraud check failed" in done.errors["copy of one enrolled"][1]
    assert "fraud check failed" in done.errors["copy of the first"][1]
    assert predicted(report) == {**done.errors, **done.successes}
    assert set(outcomes(ignoring).values()) == {"NEW_ENROLLMENT"}
    assert not {"voice", "fingerprint"} & {name for line in report["Requests"] for name in line}


def test_a_copy_is_predicted_by_the_runner_after_one_that_was_killed(own_testbed):
    domain = own_testbed.new_domain()
    files = ("english", "russian", "french", "english")
    entries = [entry(f"r{n}", f"c-{n}", f"{CALLS}/{name}.wav") for n, name in enumerate(files)]
    job_id = own_testbed.call(
        "StartEnrollmentDryRun",
        DomainId=domain,
        DataAccessRoleArn=installation.role_arn(own_testbed.settings),
        InputDataConfig={"S3Uri": own_testbed.put("s3://jobs/k/m.json", manifest(entries))},
        OutputDataConfig={"S3Uri": "s3://results/dry"},
    )["Job"]["JobId"]
    runner: Runner = own_testbed.runner(during={2: lambda: runner.stop()}, owner="one")
    assert runner.run_one()
    assert 0 < own_testbed.progress(job_id)[1] < 4
    own_testbed.run()
    _, report, _ = described(own_testbed, domain, job_id)
    assert list(outcomes(report).values()) == ["NEW_ENROLLMENT"] * 3 + ["ERROR"]


def test_a_row_that_was_changed_ends_no_report_on_other_speakers(own_testbed, dry_run):
    domain_id = own_testbed.new_domain()
    own_testbed.enroll(domain_id, [entry("r1", "old", f"{CALLS}/french.wav")])
    with own_testbed.store.database.engine.begin() as elsewhere:
        elsewhere.exec_driver_sql("UPDATE speakers SET status = 'OPTED_OUT'")
    requests = [entry("changed", "old", f"{CALLS}/french.wav"), ALL_SORTS[0]]
    job, report, _ = dry_run(own_testbed, domain_id, requests)
    assert job["JobStatus"] == "COMPLETED_WITH_ERRORS"
    assert predicted(report) == {
        "changed": (500, "what is stored of the speaker is damaged; see the service's log"),
        "new": "NEW_ENROLLMENT",
    }
