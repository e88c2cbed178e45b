"""Two services and two runners on one PostgreSQL act as one service, even when one of them dies."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle

import pytest
from batch_testbed import Testbed
from batch_values import entry, manifest
from botocore.exceptions import ClientError
from cluster_testbed import Cluster, leased_until, owner_of
from served_testbed import assert_same, canonical, finished
from waiting import PATIENCE_S, wait_until

from sonant.assembly.installation import role_arn
from sonant.gateway.throttle import LEAST_BURST
from sonant.settings import Enrollment, Fraud, Jobs, Quotas, Rates, Settings
from sonant.storage.times import now

KEY = {"KmsKeyId": "alias/sonant"}
VOICES = ("english", "french", "italian", "russian")
DOMAINS = 6


def requests(count):
    """Some good, some not, and speakers who come twice."""
    found = []
    for n in range(count):
        uri = f"s3://calls/{VOICES[n % 4]}{('.wav', '-again.wav', '-short.wav')[n % 3]}"
        found.append(entry(f"request-{n:03}", f"customer-{n - (n % 7 == 6)}", uri))
    return found


def settings(data, database=""):
    return Settings(
        data=data,
        encoder="ge2e",
        database=database,
        enrollment=Enrollment(net_speech_s=6.0),
        jobs=Jobs(workers=1),
        fraud=Fraud(spoofing_max_s=0),
        quotas=Quotas(domains_per_account=DOMAINS),
        rates=Rates(factor=0),
    )


@pytest.fixture
def cluster_testbed(tmp_path, calls, postgres_server):
    with postgres_server.migrated() as url:
        testbed = Testbed.open(settings(tmp_path / "data", url))
        for name, recording in calls.items():
            testbed.put(f"s3://calls/{name}", recording)
        yield testbed
        testbed.close()


@pytest.fixture
def cluster(cluster_testbed):
    made = Cluster(cluster_testbed, SONANT_RATES_FACTOR="0", SONANT_QUOTAS_DOMAINS_PER_ACCOUNT=str(DOMAINS))
    yield made
    made.close()


def refusal(call):
    """The answer of a call, or the name of its error."""
    try:
        return call()
    except ClientError as error:
        return error.response["Error"]["Code"]


def at_once(calls):
    with ThreadPoolExecutor(len(calls)) as pool:
        return [found.result() for found in [pool.submit(refusal, call) for call in calls]]


def test_calls_spread_over_two_services_meet_one_state(cluster_testbed, cluster):
    testbed, (one, other) = cluster_testbed, (cluster.service(), cluster.service())

    # The same token at both at once makes one domain; all are told of it.
    same = {"Name": "one", "ServerSideEncryptionConfiguration": KEY, "ClientToken": "same-token"}
    answers = at_once([partial(client.create_domain, **same) for client in (one, other) * 4])
    ids = {answer["Domain"]["DomainId"] for answer in answers}
    assert len(ids) == 1
    (domain_id,) = ids
    assert [found["DomainId"] for found in other.list_domains()["DomainSummaries"]] == [domain_id]

    # The quota of domains holds however many are made at once.
    new = [
        partial(client.create_domain, Name=f"more-{n}", ServerSideEncryptionConfiguration=KEY)
        for n, client in zip(range(12), cycle((one, other)), strict=False)
    ]
    refused = [answer for answer in at_once(new) if isinstance(answer, str)]
    assert refused == ["ServiceQuotaExceededException"] * (12 - (DOMAINS - 1))
    assert len(one.list_domains(MaxResults=10)["DomainSummaries"]) == DOMAINS

    # A domain runs one job at a time: of eight starts one succeeds. Nobody works, so it stays active.
    uri = testbed.put("s3://jobs/manifest.json", manifest(requests(1)))
    start = {
        "DomainId": domain_id,
        "DataAccessRoleArn": role_arn(testbed.settings),
        "InputDataConfig": {"S3Uri": uri},
        "OutputDataConfig": {"S3Uri": "s3://results/out"},
    }
    started = at_once([partial(client.start_speaker_enrollment_job, **start) for client in (one, other) * 4])
    refused = [answer for answer in started if isinstance(answer, str)]
    assert refused == ["ServiceQuotaExceededException"] * 7

    # What one has done the other knows at once.
    for n in range(6):
        first, second = (one, other) if n % 2 else (other, one)
        first.opt_out_speaker(DomainId=domain_id, SpeakerId=f"customer-{n}")
        found = second.describe_speaker(DomainId=domain_id, SpeakerId=f"customer-{n}")["Speaker"]
        assert found["Status"] == "OPTED_OUT"
        second.delete_speaker(DomainId=domain_id, SpeakerId=f"customer-{n}")
        assert refusal(partial(first.describe_speaker, DomainId=domain_id, SpeakerId=f"customer-{n}")) == (
            "ResourceNotFoundException"
        )

    # The same speaker opted out at both at once is one speaker.
    answers = at_once(
        [partial(client.opt_out_speaker, DomainId=domain_id, SpeakerId="twin") for client in (one, other) * 4]
    )
    assert len({answer["Speaker"]["GeneratedSpeakerId"] for answer in answers}) == 1
    assert len(one.list_speakers(DomainId=domain_id)["SpeakerSummaries"]) == 1


def test_the_rate_of_an_account_is_one_for_all_services(cluster_testbed, cluster):
    one, other = (cluster.service(SONANT_RATES_FACTOR="1e-6") for _ in range(2))  # none comes back
    domain_id = cluster_testbed.new_domain()
    cluster_testbed.call("OptOutSpeaker", DomainId=domain_id, SpeakerId="customer")
    call = {"DomainId": domain_id, "SpeakerId": "customer"}
    answers = at_once([partial(client.describe_speaker, **call) for client in (one, other) * 20])
    answered = [answer for answer in answers if not isinstance(answer, str)]
    assert len(answered) == LEAST_BURST
    assert {answer for answer in answers if isinstance(answer, str)} == {"ThrottlingException"}


@pytest.mark.slow
@pytest.mark.parametrize("lease_s", [4.0, 20.0])
def test_job_of_a_killed_runner_continues_on_another_without_loss(
    cluster_testbed, cluster, own_testbed, lease_s
):
    """`own_testbed` is on SQLite, where nothing happens."""
    count, action = 60, "OVERWRITE"
    calm_id = own_testbed.new_domain()
    expected = canonical(own_testbed, calm_id, own_testbed.enroll(calm_id, requests(count), action=action))
    testbed, domain_id = cluster_testbed, cluster_testbed.new_domain()
    job_id = testbed.start(domain_id, requests(count), action=action)
    lease = {"SONANT_JOBS_LEASE_S": str(lease_s)}
    first = cluster.runner(**lease)
    wait_until("a runner has the job", lambda: owner_of(testbed, job_id))
    dead = owner_of(testbed, job_id)
    second = cluster.runner(**lease)
    wait_until("some requests are done", lambda: testbed.progress(job_id)[1] >= 5)
    assert not finished(testbed, job_id), "it was over before it could be disturbed"

    first.send_signal(signal.SIGKILL)
    first.wait(PATIENCE_S)
    assert (leased_until(testbed, job_id) - now()).total_seconds() <= lease_s, "nobody waits longer for it"

    wait_until("the other has taken it over", lambda: owner_of(testbed, job_id) != dead)
    wait_until("the job is over", lambda: finished(testbed, job_id))
    assert second.poll() is None
    assert_same(testbed, domain_id, job_id, *expected)
