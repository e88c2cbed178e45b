"""`sonant serve` in a process of its own, and its family: what can be killed, and started again."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from batch_testbed import Testbed
from batch_values import FINAL, REGISTRATION, Outcome
from forked_processes import ForkedProcess, sonant_command
from waiting import PATIENCE_S, alive, wait_until

KINDS = ("service", "runner", "worker")


def _children(parent: int) -> dict[int, str]:
    """Living children and their command lines."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError, IndexError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent and fields[0] != "Z":
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found[int(folder.name)] = command
    return found


class Served:
    """The service of one data folder."""

    def __init__(self, testbed: Testbed, environment: Mapping[str, str]) -> None:
        self._testbed = testbed
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SONANT_")},
            **environment,
        }
        self.log = testbed.settings.data.parent / "service.log"
        self.process: ForkedProcess | None = None

    def start(self) -> None:
        endpoint = self._testbed.settings.data / "endpoint"
        endpoint.unlink(missing_ok=True)
        self.process = ForkedProcess(
            sonant_command,
            ["serve", "--port", "0", "--data", str(endpoint.parent)],
            env=self._environment,
            cwd=self._testbed.settings.data.parent,
            output=self.log,
        )
        wait_until("the service answers", self._healthy)

    def _healthy(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the service ended: {self.log.read_text()[-2000:]}"
        try:
            url = (self._testbed.settings.data / "endpoint").read_text().strip()
            with urllib.request.urlopen(f"{url}/health", timeout=PATIENCE_S) as answer:
                return bool(answer.status == 200)
        except (OSError, ValueError):
            return False

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def family(self) -> dict[str, list[int]]:
        """Process ids by kind: the service, its runner, the runner's workers."""
        runners = [pid for pid, command in _children(self.pid).items() if " worker " in command]
        workers = [
            pid for runner in runners for pid, command in _children(runner).items() if "spawn_main" in command
        ]
        return {"service": [self.pid], "runner": runners, "worker": workers}

    def kill(self, kind: str, chance: random.Random, unless: Callable[[], bool] = lambda: False) -> bool:
        """Kill -9 one process of a kind as soon as there is one, unless something is the case by then.

        What it had started must end with it; the service is started again. Whether one was killed.
        """
        victim = wait_until(f"there is a {kind}", lambda: unless() or self._pick(kind, chance))
        if victim is True:
            return False
        family = self.family()
        orphans = {"service": [*family["runner"], *family["worker"]], "runner": family["worker"]}
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(victim), signal.SIGKILL)
        wait_until("its family has ended", lambda: not any(map(alive, orphans.get(kind, []))))
        if kind == "service":
            assert self.process is not None
            self.process.wait(PATIENCE_S)
            self.start()
        return True

    def _pick(self, kind: str, chance: random.Random) -> int | None:
        pids = sorted(self.family()[kind])
        return chance.choice(pids) if pids else None

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> None:
        """End the service, and see that its family ends with it."""
        if self.process is None:
            return
        family = [pid for pids in self.family().values() for pid in pids]
        if self.process.poll() is None:
            self.process.send_signal(sign)
        self.process.wait(PATIENCE_S)
        self.process = None
        wait_until("the family has ended", lambda: not any(map(alive, family)))


def finished(testbed: Testbed, job_id: str) -> bool:
    return testbed.progress(job_id)[0] in FINAL


def canonical(testbed: Testbed, domain_id: str, outcome: Outcome) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """A result without what differs by chance, and the vectors that the job left, by the same names.

    Generated ids become the customer's id they belong to, or the request that registered the fraudster.
    """
    assert outcome.result is not None, outcome.job
    successes = outcome.result[outcome.kind.successes]
    if outcome.kind is REGISTRATION:
        member = "GeneratedFraudsterId"
        new = [line for line in successes if line["RegistrationStatus"] == "NEW_REGISTRATION"]
        names = {line[member]: line["RequestId"] for line in new}
        left: dict[str, Any] = {}
        for key, name in names.items():
            fraudster = testbed.call("DescribeFraudster", DomainId=domain_id, FraudsterId=key)["Fraudster"]
            assert fraudster["WatchlistIds"] == [testbed.default_list(domain_id)]
            left[name] = "registered"
        vectors = {names[key]: vector for key, vector in testbed.fraudsters(domain_id).items()}
    else:
        member = "GeneratedSpeakerId"
        speakers = testbed.speakers(domain_id)
        names = {speaker.speaker_id: customer for customer, speaker in speakers.items()}
        left = {name: speaker.status for name, speaker in speakers.items()}
        vectors = testbed.voiceprints(domain_id)
    result = {
        "status": outcome.status,
        "errors": outcome.result["Errors"],
        "successes": [{**line, member: names[line[member]]} for line in successes],
        "left": left,
    }
    return result, vectors


def assert_same(
    testbed: Testbed,
    domain_id: str,
    job_id: str,
    expected: dict[str, Any],
    vectors: Mapping[str, Any],
) -> None:
    """The job's result and the voices it left are those of an undisturbed run."""
    result, found = canonical(testbed, domain_id, testbed.outcome(domain_id, job_id))
    assert result == expected
    assert found.keys() == vectors.keys()
    for name, vector in found.items():
        assert np.allclose(vector, vectors[name], atol=1e-5), f"another voice for {name}"
