"""A running job is stopped at every point of its work: what was committed stays, nothing else is written."""

from __future__ import annotations

from typing import Any

import pytest
from batch_testbed import Testbed
from batch_values import entry

#: The runner that is stopped here is on SQLite; locks of PostgreSQL have tests of their own.
pytestmark = pytest.mark.parametrize("testbed", ["sqlite"], indirect=True, scope="session")
VOICES = ("english", "french", "italian", "russian")
ENTRIES = [entry(f"r{n}", f"customer-{n}", f"s3://calls/{voice}.wav") for n, voice in enumerate(VOICES)]


@pytest.mark.parametrize("at", [0, 1, 2, 4])
def test_a_stop_keeps_what_was_committed_and_writes_no_more(testbed: Testbed, at: int) -> None:
    domain_id = testbed.new_domain()
    job_id = testbed.start(domain_id, ENTRIES)
    stopped: list[dict[str, Any]] = []

    def stop() -> None:
        stopped.append(testbed.call("StopJob", DomainId=domain_id, JobId=job_id)["Job"])

    testbed.run(during={at: stop})

    outcome = testbed.outcome(domain_id, job_id)
    assert stopped[0]["JobStatus"] == outcome.job["JobStatus"] == "FAILED"
    assert outcome.job["FailureDetails"]["StatusCode"] == 409
    enrolled = {name for name, one in testbed.speakers(domain_id).items() if one.status == "ENROLLED"}
    assert enrolled == {f"customer-{n}" for n in range(max(0, at - 1))}
    testbed.voiceprints(domain_id)  # each of them opens

    again = testbed.enroll(domain_id, ENTRIES, action="SKIP")
    assert again.job["JobStatus"] == "COMPLETED"
    assert set(testbed.voiceprints(domain_id)) == {f"customer-{n}" for n in range(4)}
