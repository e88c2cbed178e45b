"""A job on an installation whose voice models are gone, and come back."""

import shutil
import threading
from pathlib import Path

import broken_mains
import pytest
from batch_testbed import Testbed
from batch_values import entry
from waiting import PATIENCE_S, wait_until

from sonant.jobs.runner import Runner
from sonant.jobs.workers.engines import local
from sonant.jobs.workers.engines.local import MAX_FAILED_STARTS, LocalEngine
from sonant.settings import Quotas, Settings
from sonant.storage.repositories import counters
from sonant.voice import models


@pytest.fixture
def broken(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "PAUSE_MOST_S", 0.1)
    (tmp_path / "models").mkdir()
    engine = LocalEngine(
        broken_mains.without_models, (str(tmp_path / "models"),), workers=1, time_limit_s=PATIENCE_S
    )
    settings = Settings(data=tmp_path / "data", encoder="ge2e", quotas=Quotas(domains_per_account=10))
    testbed = Testbed.open(settings, engine=engine)
    yield testbed
    testbed.close()


def lost_workers(testbed):
    with testbed.store.database.read() as connection:
        return counters.read(connection).get((counters.LOST_WORKERS, ""), 0)


@pytest.mark.slow
def test_job_waits_for_missing_models_and_continues_when_they_are_back(broken, tmp_path):
    # Given
    broken.put("s3://calls/a.wav", b"RIFF")
    domain_id = broken.new_domain()
    requests = [entry(f"r{number}", f"customer-{number}", "s3://calls/a.wav") for number in range(20)]
    job_id = broken.start(domain_id, requests)
    told: list[str] = []
    runner: Runner = broken.runner(heartbeat=lambda: told.append(runner.problem))
    thread = threading.Thread(target=runner.run_one, daemon=True)
    thread.start()

    # When: workers end before they are ready, again and again
    wait_until("workers end", lambda: lost_workers(broken) > MAX_FAILED_STARTS)

    # Then: nothing is decided, and who looks is told where to look
    assert broken.progress(job_id) == ("IN_PROGRESS", 0, 0)
    assert (
        "recordings cannot be processed: worker processes end with code 1 before they are ready; "
        "run `sonant doctor` and see the service's log"
    ) in told

    # When: the models are there again
    shutil.copytree(Path(models.__file__).parent, tmp_path / "models", dirs_exist_ok=True)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()

    # Then: each request has its own outcome
    outcome = broken.outcome(domain_id, job_id)
    assert len(outcome.errors) == 20
    assert {code for code, _ in outcome.errors.values()} == {400}
