"""Processes are killed, stopped and doubled while a job runs: its result is that of an undisturbed run."""

import os
import random
import signal
import subprocess
import sys
from functools import lru_cache, partial
from typing import Any

import pytest
from batch_values import ENROLLMENT, REGISTRATION, KindOfJob, entry, manifest
from served_testbed import KINDS, Served, assert_same, canonical, finished
from waiting import PATIENCE_S, dawdle, wait_until

from sonant.assembly.installation import role_arn
from sonant.cli.service_client import client

VOICES = ("english", "french", "italian", "russian")
ENVIRONMENT = {
    "SONANT_JOBS_WORKERS": "2",
    "SONANT_ENROLLMENT_NET_SPEECH_S": "6",
    "SONANT_REGISTRATION_NET_SPEECH_S": "6",
    "SONANT_FRAUD_SPOOFING_MAX_S": "0",
    "SONANT_QUOTAS_DOMAINS_PER_ACCOUNT": "1000",
}


#: Jobs whose later requests depend on the earlier ones: speakers enrolled twice, fraudsters who are known by
#: then. At this threshold some of their voices count as new again.
JOBS: dict[KindOfJob, dict[str, Any]] = {
    ENROLLMENT: {"action": "OVERWRITE"},
    REGISTRATION: {"action": "SKIP", "FraudsterSimilarityThreshold": 90},
}
#: The service that is killed here is on SQLite; `test_postgres_cluster` does the like on PostgreSQL.
pytestmark = pytest.mark.parametrize("testbed", ["sqlite"], indirect=True, scope="session")
#: What is killed in which job by default; the slow tests kill everything in both.
KILLED = [("service", ENROLLMENT)]
both_kinds = pytest.mark.parametrize("job", JOBS, ids=lambda job: job.noun)


def requests(count, job=ENROLLMENT):
    """Good ones, and among each twelve a missing file, too little speech, a bad field and a known speaker."""
    entries, named = [], job is ENROLLMENT
    for n in range(count):
        request, speaker = f"request-{n:03}", f"customer-{n}"
        match n % 12:
            case 3:
                entries.append(entry(request, speaker, "s3://calls/none.wav"))
            case 5:
                entries.append(entry(request, speaker, f"s3://calls/{VOICES[n % 4]}-short.wav"))
            case 7:
                entries.append(entry(request, "two words", ("s3://calls/english.wav", 0 if named else 2)))
            case 9:
                entries.append(entry(request, f"customer-{n - 1}", "s3://calls/russian-again.wav"))
            case _:
                again = "-again" if n % 2 else ""
                entries.append(entry(request, speaker, f"s3://calls/{VOICES[n % 4]}{again}.wav"))
    if not named:
        for one in entries:
            del one["SpeakerId"]
    return entries


@pytest.fixture(scope="module")
def undisturbed(testbed):
    """What a manifest gives in a testbed where nothing happens."""

    @lru_cache
    def run(count, job=ENROLLMENT, action=None):
        domain_id = testbed.new_domain()
        how = {**JOBS[job], **({"action": action} if action else {})}
        outcome = testbed.enroll(domain_id, requests(count, job), kind=job, **how)
        result, vectors = canonical(testbed, domain_id, outcome)
        assert len(result["errors"]) + len(result["successes"]) == count
        return result, vectors

    return run


@pytest.fixture
def served(own_testbed):
    service = Served(own_testbed, ENVIRONMENT)
    service.start()
    yield service
    service.stop()


def in_work(testbed, job_id, count):
    """Wait until `count` requests are done and others are not."""

    def there():
        status, done, _ = testbed.progress(job_id)
        assert status in ("SUBMITTED", "IN_PROGRESS"), "the job was over before it could be disturbed"
        return done >= count

    wait_until(f"{count} requests are done", there)


@pytest.mark.parametrize(
    ("kind", "job"),
    [
        pytest.param(
            kind, job, id=f"{kind}-{job.noun}", marks=[] if (kind, job) in KILLED else pytest.mark.slow
        )
        for kind in KINDS
        for job in JOBS
    ],
)
def test_kill_9_in_mid_job_changes_nothing(own_testbed, served, undisturbed, kind, job):
    testbed, chance, expected = own_testbed, random.Random(kind), undisturbed(24, job)
    domain_id = testbed.new_domain()
    job_id = testbed.start(domain_id, requests(24, job), kind=job, **JOBS[job])
    for count in (3, 14):
        in_work(testbed, job_id, count)
        served.kill(kind, chance)
    wait_until("the job is over", lambda: finished(testbed, job_id))
    assert_same(testbed, domain_id, job_id, *expected)


@pytest.mark.slow
def test_sigterm_in_a_job_stops_work_and_the_next_start_resumes_it(own_testbed, served, undisturbed):
    testbed, expected = own_testbed, undisturbed(36, action="SKIP")
    domain_id = testbed.new_domain()
    job_id = testbed.start(domain_id, requests(36), action="SKIP")
    in_work(testbed, job_id, 5)
    served.stop(signal.SIGTERM)
    status, done, _ = testbed.progress(job_id)
    assert (status, done < 36) == ("IN_PROGRESS", True)
    assert testbed.files_with(job_id) == []
    before = {name: vector.tobytes() for name, vector in testbed.voiceprints(domain_id).items()}
    ids = {name: speaker.speaker_id for name, speaker in testbed.speakers(domain_id).items()}
    enrolled = {name: speaker.updated_at for name, speaker in testbed.speakers(domain_id).items()}
    assert testbed.progress(job_id)[:2] == (status, done), "somebody goes on with the job"
    served.start()
    wait_until("the job is over", lambda: finished(testbed, job_id))
    assert_same(testbed, domain_id, job_id, *expected)
    after = {name: vector.tobytes() for name, vector in testbed.voiceprints(domain_id).items()}
    assert before.items() <= after.items()
    assert ids.items() <= {n: s.speaker_id for n, s in testbed.speakers(domain_id).items()}.items()
    assert enrolled.items() <= {n: s.updated_at for n, s in testbed.speakers(domain_id).items()}.items()


@pytest.fixture
def second(own_testbed):
    """Starts another `sonant` on the same data folder; ended after the test, whatever it does."""
    started = []

    def start(*command):
        process = subprocess.Popen(
            [sys.executable, "-m", "sonant", *command, "--data", own_testbed.settings.data],
            env={**os.environ, **ENVIRONMENT},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_second_service_and_worker_are_refused_while_a_job_runs(own_testbed, served, second, undisturbed):
    """The job goes through the signed API, as a user would send it."""
    testbed, expected = own_testbed, undisturbed(24)
    lock = testbed.settings.data / "runner.lock"
    runner = wait_until("the runner has its lock", lambda: lock.exists() and lock.read_text())
    assert [int(runner)] == served.family()["runner"]
    worker, service = second("worker"), second("serve", "--port", "0")
    api = client(testbed.settings)
    domain = api.create_domain(Name="t", ServerSideEncryptionConfiguration={"KmsKeyId": "alias/sonant"})
    domain_id = domain["Domain"]["DomainId"]
    job = {
        "DomainId": domain_id,
        "DataAccessRoleArn": role_arn(testbed.settings),
        "InputDataConfig": {"S3Uri": testbed.put("s3://jobs/api/manifest.json", manifest(requests(24)))},
        "OutputDataConfig": {"S3Uri": "s3://results/api"},
        "EnrollmentConfig": {"ExistingEnrollmentAction": "OVERWRITE"},
    }
    job_id = api.start_speaker_enrollment_job(**job)["Job"]["JobId"]
    with pytest.raises(api.exceptions.ServiceQuotaExceededException):
        api.start_speaker_enrollment_job(**job)
    told = service.communicate(timeout=PATIENCE_S)[0]
    assert service.returncode not in (0, None)
    assert f"another Sonant service (process {served.pid}) uses the data folder" in told
    wait_until("the job is over", lambda: finished(testbed, job_id))
    ended = api.describe_speaker_enrollment_job(DomainId=domain_id, JobId=job_id)["Job"]
    assert ended["JobStatus"] == "COMPLETED_WITH_ERRORS"
    assert ended["JobProgress"] == {"PercentComplete": 100}
    assert_same(testbed, domain_id, job_id, *expected)
    told = worker.communicate(timeout=PATIENCE_S)[0]
    assert worker.returncode not in (0, None)
    assert f"another Sonant runner (process {runner}) uses the data folder" in told


@pytest.mark.slow
def test_sigterm_in_mid_registration_is_taken_up_where_it_was_left(own_testbed, served, undisturbed):
    """Nobody is registered twice, and who was a fraudster before the stop is one after it."""
    testbed, expected = own_testbed, undisturbed(36, REGISTRATION)
    domain_id = testbed.new_domain()
    job_id = testbed.start(domain_id, requests(36, REGISTRATION), kind=REGISTRATION, **JOBS[REGISTRATION])
    in_work(testbed, job_id, 5)
    served.stop(signal.SIGTERM)
    status, done, _ = testbed.progress(job_id)
    assert (status, done < 36) == ("IN_PROGRESS", True)
    before = testbed.fraudsters(domain_id)
    assert before
    served.start()
    wait_until("the job is over", lambda: finished(testbed, job_id))
    assert_same(testbed, domain_id, job_id, *expected)
    after = testbed.fraudsters(domain_id)
    assert all(after[key].tobytes() == vector.tobytes() for key, vector in before.items())


@pytest.mark.usefixtures("testbed")
def test_the_log_of_the_service_names_no_customer(own_testbed, served):
    testbed = own_testbed
    domain_id = testbed.new_domain("Blackwater-Savings")
    entries = [
        entry("r1", "jane-doe-1980", "s3://calls/english.wav"),
        entry("r2", "jane-doe-1980", "s3://calls/none.wav"),
        entry("r3", "jane doe 1980", "s3://calls/none.wav"),
    ]
    job_id = testbed.start(domain_id, entries, name="enroll-pensioners")
    wait_until("the job is over", lambda: finished(testbed, job_id))
    served.kill("runner", random.Random(1))
    wait_until("there is another runner", lambda: served.family()["runner"])
    served.stop()
    told = served.log.read_text()
    assert "the runner ended" in told, "the log was looked at"
    for secret in ("jane", "Blackwater", "pensioners"):
        assert secret not in told


@pytest.mark.slow
@pytest.mark.timeout(3600)
@both_kinds
def test_100_kills_at_random_change_nothing(own_testbed, served, undisturbed, job):
    """Jobs run one after the other; a process of a random kind is killed every few seconds."""
    testbed, chance, left, expected = own_testbed, random.Random(20), 100, undisturbed(24, job)
    entries = requests(24, job)
    killed = dict.fromkeys(KINDS, 0)
    jobs = 0
    while left:
        domain_id = testbed.new_domain()
        job_id = testbed.start(domain_id, entries, kind=job, **JOBS[job])
        over = partial(finished, testbed, job_id)
        while not over():
            dawdle(chance.uniform(0.05, 3.0))
            kind = chance.choice(KINDS)
            if left and served.kill(kind, chance, unless=over):
                killed[kind] += 1
                left -= 1
        jobs += 1
        assert_same(testbed, domain_id, job_id, *expected)
    print(f"{jobs} jobs of {len(entries)} requests, killed {killed}")
    assert min(killed.values()) >= 20
