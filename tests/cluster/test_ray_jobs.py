"""Jobs whose recordings are processed on a real Ray cluster, against the same jobs on this machine."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from dataclasses import replace

import numpy as np
import pytest
from batch_testbed import Testbed
from batch_values import entry
from ray_cluster import RayCluster, actors
from waiting import PATIENCE_S, wait_until

from sonant.assembly import workers
from sonant.errors import ClusterUnavailable
from sonant.jobs.workers.engines.ray import RayEngine
from sonant.jobs.workers.ray_pool import Cluster
from sonant.settings import Enrollment, Fraud, Jobs, Quotas, Ray, Settings

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]

REQUESTS = [
    entry("r1", "c1", "s3://calls/english.wav"),
    entry("r2", "c2", "s3://calls/french.wav"),
    entry("r3", "c3", "s3://calls/short.wav"),
    entry("r4", "c4", "s3://calls/absent.wav"),
    entry("r5", "c5", "s3://calls/short.wav", "s3://calls/english.wav"),
    *(entry(f"more-{n}", f"more-{n}", "s3://calls/french.wav") for n in range(20)),
]
ENROLLED = {"c1", "c2", "c5", *(f"more-{n}" for n in range(20))}


def settings_on(data, address):
    return Settings(
        data=data,
        encoder="ge2e",
        engine="ray",
        ray=Ray(address=address),
        enrollment=Enrollment(net_speech_s=6.0),
        fraud=Fraud(spoofing_max_s=4.0, replay_recordings=0),  # callers share recordings here
        jobs=Jobs(workers=1),
        quotas=Quotas(domains_per_account=1000),
    )


@pytest.fixture(scope="session")
def furnished(data, make_call):
    settings = settings_on(data, "auto")
    testbed = Testbed.open(replace(settings, engine="local"))
    testbed.put("s3://calls/english.wav", make_call("english", 1, net_speech_s=9))
    testbed.put("s3://calls/french.wav", make_call("french", 1, net_speech_s=9))
    testbed.put("s3://calls/short.wav", make_call("english", 3, net_speech_s=3, duration_s=8, channels=1))
    yield testbed
    testbed.close()


@pytest.fixture
def far(furnished, cluster):
    """The testbed with its engine on the cluster."""
    settings = settings_on(furnished.settings.data, cluster.address)
    other = Testbed.open(settings, engine=workers.batch_engine(settings))
    other.names, other.kinds = furnished.names, furnished.kinds
    yield other
    other.close()


def lines(outcome):
    """The result file without what every run draws anew."""
    drawn = ("Generated", "SpeakerId")
    return {
        name: [
            {member: value for member, value in line.items() if not member.startswith(drawn)}
            for line in value
        ]
        for name, value in outcome.result.items()
        if name != "Version"
    }


def test_the_result_and_the_voiceprints_are_those_of_the_local_engine(furnished, far):
    near_domain, far_domain = furnished.new_domain(), far.new_domain()
    near_outcome = furnished.enroll(near_domain, REQUESTS, fraud={"RiskThreshold": 50})
    far_outcome = far.enroll(far_domain, REQUESTS, fraud={"RiskThreshold": 50})
    assert len(actors()) == 2
    assert lines(far_outcome) == lines(near_outcome)
    assert {request: code for request, (code, _) in far_outcome.errors.items()} == {"r3": 400, "r4": 404}
    near_prints, far_prints = furnished.voiceprints(near_domain), far.voiceprints(far_domain)
    assert far_prints.keys() == near_prints.keys() == ENROLLED
    for customer, vector in near_prints.items():
        assert np.array_equal(vector, far_prints[customer])
    kept = far.kept_audio(far_domain)
    assert kept == furnished.kept_audio(near_domain)
    assert all(kept.values())


def test_hosts_that_would_look_elsewhere_for_recordings_are_turned_away(furnished, cluster):
    settings = replace(furnished.settings, region="eu-central-1", ray=Ray(address=cluster.address))
    engine = workers.batch_engine(settings)
    furnished.engine, kept = engine, furnished.engine
    try:
        outcome = furnished.enroll(furnished.new_domain(), REQUESTS)
    finally:
        furnished.engine = kept
        engine.close()
    code, message = outcome.failure
    assert code == 500
    assert "settings differ from the runner's: region" in message


def test_a_job_whose_driver_is_killed_is_put_down_and_gone_on_with(far):
    domain_id = far.new_domain()
    job_id = far.start(domain_id, REQUESTS)
    runner = far.runner(during={8: lambda: os.kill(far.engine.driver_pid, signal.SIGKILL)})
    with pytest.raises(ClusterUnavailable, match="the process that connects to it ended"):
        runner.run_one()
    status, done, _ = far.progress(job_id)
    assert status == "IN_PROGRESS"
    assert 0 < done < len(REQUESTS)
    assert runner.run_one()
    assert set(far.outcome(domain_id, job_id).successes) | {"r3", "r4"} == {
        request["RequestId"] for request in REQUESTS
    }
    assert set(far.voiceprints(domain_id)) == ENROLLED


def test_job_waits_for_a_cluster_that_is_away(furnished, cluster, monkeypatch, caplog):
    port = _free_port()
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "3")
    own = RayCluster({"SONANT_DATA": str(furnished.settings.data)}, port)
    settings = settings_on(furnished.settings.data, own.address)
    testbed = Testbed.open(settings, engine=workers.batch_engine(settings))
    domain_id = testbed.new_domain()
    job_id = testbed.start(domain_id, REQUESTS)
    runner = testbed.runner(during={8: own.kill_all})
    own.add()
    thread = threading.Thread(target=runner.run, kwargs={"alone": True})
    try:
        with caplog.at_level(logging.WARNING, "sonant.jobs.runner"):
            thread.start()
            wait_until(
                "the runner says so twice", lambda: caplog.text.count("trying again in") > 1, PATIENCE_S
            )
        assert f"the Ray cluster at {settings.ray.address} cannot be used" in caplog.text
        status, done, _ = testbed.progress(job_id)
        assert status == "IN_PROGRESS"
        assert 0 < done < len(REQUESTS)
        own.close()
        own = RayCluster({"SONANT_DATA": str(furnished.settings.data)}, port)
        assert own.address == settings.ray.address
        own.add()
        wait_until("the job ends", lambda: testbed.progress(job_id)[0] != "IN_PROGRESS", PATIENCE_S)
    finally:
        runner.stop()
        thread.join(PATIENCE_S)
        testbed.close()
        own.close()
    assert testbed.outcome(domain_id, job_id).errors.keys() == {"r3", "r4"}
    assert set(testbed.voiceprints(domain_id)) == ENROLLED


def test_the_engine_that_settings_name_is_the_one_that_jobs_use(furnished, cluster):
    settings = settings_on(furnished.settings.data, cluster.address)
    assert isinstance(workers.batch_engine(settings), RayEngine)
    assert not isinstance(workers.batch_engine(replace(settings, engine="local")), RayEngine)
    assert Cluster(address="auto").workers == 0


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
