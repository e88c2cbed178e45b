"""A key service that does not answer says nothing about a key: jobs wait for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from batch_testbed import Testbed
from batch_values import entry

from sonant.errors import KeysUnreachable
from sonant.storage.keys.store import KeyStore


class Flaky:
    """A testbed's key store that does not answer while `down`."""

    def __init__(self, keys: KeyStore) -> None:
        self._keys, self.down = keys, True

    def decrypt(self, wrapped: bytes, context: Any) -> bytes:
        if self.down:
            raise KeysUnreachable("the key service cannot be used")
        return self._keys.decrypt(wrapped, context)


def test_a_job_waits_until_the_key_service_answers_again(own_testbed: Testbed) -> None:
    domain_id = own_testbed.new_domain()
    job_id = own_testbed.start(domain_id, [entry("r1", "customer-1", "s3://calls/english.wav")])
    flaky = Flaky(own_testbed.store.keys)
    runner = own_testbed.runner(keys_of=lambda *_: flaky)

    assert not runner.run_one(), "nothing was done, so the runner pauses before it looks again"
    assert own_testbed.describe(domain_id, job_id)["JobStatus"] != "FAILED"
    flaky.down = False
    assert runner.run_one()
    assert own_testbed.outcome(domain_id, job_id).job["JobStatus"] == "COMPLETED"


def test_a_job_that_waited_longer_than_its_time_limit_fails(own_testbed: Testbed) -> None:
    limited = replace(own_testbed.settings, jobs=replace(own_testbed.settings.jobs, time_limit_s=0.0))
    domain_id = own_testbed.new_domain()
    job_id = own_testbed.start(domain_id, [entry("r1", "customer-1", "s3://calls/english.wav")])
    flaky = Flaky(own_testbed.store.keys)
    runner = own_testbed.runner(keys_of=lambda *_: flaky, settings=limited)

    assert runner.run_one()
    job = own_testbed.describe(domain_id, job_id)
    assert (job["JobStatus"], job["FailureDetails"]["StatusCode"]) == ("FAILED", 500)
