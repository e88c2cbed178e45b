"""PostgreSQL restarts: calls fail meanwhile, and the runner continues its job."""

from __future__ import annotations

from functools import partial

import pytest
from batch_testbed import Testbed
from batch_values import entry
from botocore.exceptions import ClientError
from cluster_testbed import Cluster
from postgres_server import NoServer, OwnServer
from served_testbed import finished
from waiting import wait_until

from sonant.assembly.installation import migrate
from sonant.settings import Enrollment, Fraud, Jobs, Settings


@pytest.fixture
def server():
    try:
        made = OwnServer()
    except NoServer as why:
        pytest.skip(f"no PostgreSQL: {why}")
    yield made
    made.close()


@pytest.fixture
def testbed(tmp_path, server, calls):
    settings = Settings(
        data=tmp_path / "data",
        encoder="ge2e",
        database=server.url,
        enrollment=Enrollment(net_speech_s=6.0),
        jobs=Jobs(workers=1),
        fraud=Fraud(spoofing_max_s=0, replay_recordings=0),
    )
    migrate(settings)
    made = Testbed.open(settings)
    for name, recording in calls.items():
        made.put(f"s3://calls/{name}", recording)
    yield made
    made.close()


@pytest.fixture
def cluster(testbed):
    made = Cluster(testbed, SONANT_RATES_FACTOR="0", SONANT_FRAUD_REPLAY_RECORDINGS="0")
    yield made
    made.close()


@pytest.mark.slow
def test_server_restart_in_mid_job_loses_no_job_and_no_process(testbed, cluster, server):
    client, runner = cluster.service(), cluster.runner()
    domain_id = testbed.new_domain()
    entries = [entry(f"request-{n}", f"customer-{n}", "s3://calls/english.wav") for n in range(40)]
    job_id = testbed.start(domain_id, entries)
    describe = partial(client.describe_speaker_enrollment_job, DomainId=domain_id, JobId=job_id)
    assert describe()["Job"]["JobId"] == job_id
    wait_until("some requests are done", lambda: testbed.progress(job_id)[1] >= 3)
    assert not finished(testbed, job_id), "it was over before it could be disturbed"

    server.stop()
    with pytest.raises(ClientError) as told:
        describe()
    assert told.value.response["Error"]["Code"] == "InternalServerException"
    assert told.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    server.start()

    assert describe()["Job"]["JobId"] == job_id, "the first call is answered again"
    wait_until("the job is over", lambda: finished(testbed, job_id))
    assert runner.poll() is None
    assert testbed.outcome(domain_id, job_id).status == "COMPLETED"
    assert len(testbed.voiceprints(domain_id)) == len(entries)
    assert "Traceback" not in cluster.log()
