"""A job on an installation whose voice models are gone."""

import broken_mains
import pytest
from batch_house import House
from batch_values import entry

from sonant.jobs.engines.local import LocalEngine
from sonant.settings import Quotas, Settings
from waiting import PATIENCE_S


@pytest.fixture
def broken(tmp_path):
    (tmp_path / "models").mkdir()
    engine = LocalEngine(
        broken_mains.without_models, (str(tmp_path / "models"),), workers=1, time_limit_s=PATIENCE_S
    )
    settings = Settings(data=tmp_path / "data", quotas=Quotas(domains_per_account=10))
    house = House.open(settings, engine=engine)
    yield house
    house.close()


def test_the_job_fails_as_a_whole_and_says_where_to_look(broken):
    broken.put("s3://calls/a.wav", b"RIFF")
    domain_id = broken.new_domain()
    requests = [entry(f"r{number}", f"customer-{number}", "s3://calls/a.wav") for number in range(20)]
    outcome = broken.enroll(domain_id, requests)
    assert outcome.failure == (
        500,
        "recordings cannot be processed: worker processes end with code 1 before they are ready; "
        "run `sonant doctor` and see the service's log",
    )
    assert broken.speakers(domain_id) == {}
    assert broken.engine.pids() == []
    assert broken.start(domain_id, requests), "the domain's one slot is free again"
