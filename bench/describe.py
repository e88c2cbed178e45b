"""Part `describe`: DescribeSpeakerEnrollmentJob against the DescribeKey of moto's server, requests a second.

Both servers are one process each and answer the same client: one process, 16 connections, a signed request
that is repeated. Sonant verifies each signature; moto's server looks at none.
"""

from __future__ import annotations

import functools
import operator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import botocore.session

import http_load
import processes
from environments import environment
from listening import listening
from report import Outcome, Ratio, Size
from service import Running, data_folder, serving

CONNECTIONS = 16
ROUNDS = 3
TARGET = 10.0


def measure(size: Size, peers: bool) -> Outcome:
    seconds = size.pick(3.0, 1.0, 0.2)
    with ExitStack() as stack:
        service = stack.enter_context(serving(stack.enter_context(data_folder())))
        sonant, moto = Side(service.url, describe_job(service), service.pid), None
        if peers:
            moto_url, moto_pid = stack.enter_context(_moto())
            moto = Side(moto_url, _describe_key(moto_url), moto_pid)
        # In turns, so that a change in the machine's load meets both.
        for _ in range(ROUNDS):
            sonant.run(seconds)
            if moto:
                moto.run(seconds)
    ours = sonant.load()
    ratios = [
        Ratio(
            part="describe",
            name="CPU time of a call / 1 ms",
            ours=1000 * sonant.cpu_s / ours.requests,
            theirs=1.0,
            unit="ms",
            target=1.0,
            at_least=False,
        )
    ]
    if moto:
        theirs = moto.load()
        ratios.insert(
            0,
            Ratio(
                part="describe",
                name="DescribeSpeakerEnrollmentJob / moto's DescribeKey",
                ours=ours.rate,
                theirs=theirs.rate,
                unit="requests/s",
                target=TARGET,
                at_least=True,
                note=f"p50 {ours.percentile_ms(50):.2f} ms, p99 {ours.percentile_ms(99):.2f} ms; "
                f"moto p50 {theirs.percentile_ms(50):.1f} ms, p99 {theirs.percentile_ms(99):.1f} ms; "
                f"the client used {_share(ours)} of a core",
            ),
        )
    return Outcome(
        ratios=ratios, details={"sonant": sonant.facts(), **({"moto": moto.facts()} if moto else {})}
    )


class Side:
    """One of the two servers, warmed up, and what it gave so far."""

    def __init__(self, url: str, request: bytes, pid: int) -> None:
        self._url, self._request, self._pid = url, request, pid
        self._loads: list[http_load.Load] = []
        self.cpu_s = 0.0
        """CPU seconds that the server used under load."""
        http_load.run(url, request, connections=CONNECTIONS, seconds=1.0)

    def run(self, seconds: float) -> None:
        before = processes.cpu_s(self._pid)
        self._loads.append(http_load.run(self._url, self._request, connections=CONNECTIONS, seconds=seconds))
        self.cpu_s += processes.cpu_s(self._pid) - before

    def load(self) -> http_load.Load:
        return functools.reduce(operator.add, self._loads)

    def facts(self) -> dict[str, Any]:
        load = self.load()
        return {
            "requests_per_s": load.rate,
            "rounds_requests_per_s": [one.rate for one in self._loads],
            "requests": load.requests,
            "p50_ms": load.percentile_ms(50),
            "p99_ms": load.percentile_ms(99),
            "client_cpu_share": load.client_cpu_s / load.elapsed_s,
            "server_cpu_ms_per_request": 1000 * self.cpu_s / load.requests,
        }


def _share(load: http_load.Load) -> str:
    return f"{100 * load.client_cpu_s / load.elapsed_s:.0f} %"


def describe_job(service: Running) -> bytes:
    """A signed DescribeSpeakerEnrollmentJob of a job that has ended, as it goes over the wire."""
    domain_id = service.create_domain()
    job_id = service.start_job(domain_id, "no-such-manifest.json")
    service.finished(domain_id, job_id, limit_s=30)
    client = service.client()
    return captured(
        client, lambda: client.describe_speaker_enrollment_job(DomainId=domain_id, JobId=job_id), service.url
    )


def _describe_key(url: str) -> bytes:
    client = botocore.session.Session().create_client(
        "kms",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="bench",
        aws_secret_access_key="bench",
    )
    key_id = client.create_key()["KeyMetadata"]["KeyId"]
    return captured(client, lambda: client.describe_key(KeyId=key_id), url)


def captured(client: Any, call: Any, url: str) -> bytes:
    """What the AWS client sends for a call, signature and all."""
    seen: list[bytes] = []

    def note(request: Any, **_: Any) -> None:
        headers = {
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in request.headers.items()
        }
        seen.append(http_load.request_bytes(url, headers, request.body))

    client.meta.events.register_first("before-send", note)
    call()
    client.meta.events.unregister("before-send", note)
    return seen[-1]


def _moto() -> AbstractContextManager[tuple[str, int]]:
    """moto's server on a free port: (URL, process id)."""
    python = environment("moto-venv", ("moto[server,kms]>=5",))
    program = str(python.with_name("moto_server"))
    return listening("moto", lambda port: (program, "-H", "127.0.0.1", "-p", str(port)))
