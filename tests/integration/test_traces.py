"""One trace of a request and of the job that it starts, sent by a service and its runner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from batch_testbed import Testbed
from batch_values import entry, manifest
from service_process import ServiceProcess, running
from trace_collector import Collector, collecting
from waiting import wait_until

from sonant.assembly import installation
from sonant.assembly.worker_process import live_worker_main
from sonant.assembly.workers import local_engine
from sonant.errors import Validation
from sonant.jobs.entry import Role, Task
from sonant.jobs.manifest import AudioFile
from sonant.sessions.worker_pool import Priority, WorkerPool
from sonant.settings import Jobs, Settings, Traces
from sonant.traces import build_tracer, current

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CUSTOMER = "customer-4711"


def started_job(service: ServiceProcess, domain_id: str, trace_parent: str) -> str:
    """Start a job of three requests, whose recordings are not there, within a trace of the caller's."""

    def add_header(request: Any, **_: Any) -> None:
        request.headers["traceparent"] = trace_parent

    requests = [entry(f"r{number}", f"{CUSTOMER}-{number}", "s3://calls/absent.wav") for number in range(3)]
    (service.data / "buckets" / "calls").mkdir(exist_ok=True)
    (service.data / "buckets" / "calls" / "manifest.json").write_bytes(manifest(requests))
    hook = ("before-send.voice-id.StartSpeakerEnrollmentJob", add_header)
    service.voice_id.meta.events.register(*hook)
    try:
        return str(service.start_job(domain_id, "s3://calls/manifest.json")["JobId"])
    finally:
        service.voice_id.meta.events.unregister(*hook)


def job_of_the_trace(collector: Collector, domain_id: str, job_id: str) -> None:
    """Check the spans from the caller's down to those of the recordings."""
    (request,) = collector.until("StartSpeakerEnrollmentJob")
    assert (request.process, request.trace_id, request.parent_id) == ("sonant-service", TRACE, SPAN)
    assert request.attributes["sonant.job_id"] == job_id
    (job,) = collector.until("job")
    assert (job.process, job.trace_id, job.parent_id) == ("sonant-runner", TRACE, request.span_id)
    assert (job.attributes["sonant.job_id"], job.attributes["sonant.domain_id"]) == (job_id, domain_id)
    assert job.attributes["sonant.job_status"] == "COMPLETED_WITH_ERRORS"
    groups = collector.named("entries")
    assert {(group.trace_id, group.parent_id) for group in groups} == {(TRACE, job.span_id)}
    assert sum(group.attributes["sonant.entries"] for group in groups) == 3
    recordings = collector.named("recording")
    assert len(recordings) == 3
    assert {one.parent_id for one in recordings} <= {group.span_id for group in groups}
    assert all(one.attributes["error.type"] == "404" for one in recordings)
    assert all(job.started_ns <= one.started_ns <= one.ended_ns <= job.ended_ns for one in recordings)


def test_a_request_and_its_job_are_one_trace(tmp_path: Path) -> None:
    with collecting() as collector:
        settings = {"TRACES_ENDPOINT": collector.url, "JOBS_POLL_S": "0.05", "LOG_FORM": "json"}
        with running(tmp_path / "data", **settings) as service:
            domain_id = service.domain()
            left_out = started_job(service, domain_id, f"00-{TRACE[::-1]}-{SPAN}-00")
            service.ended_job(domain_id, left_out)
            job_id = started_job(service, domain_id, f"00-{TRACE}-{SPAN}-01")
            ended = service.ended_job(domain_id, job_id)
            assert "traceparent" not in json.dumps(ended, default=str)
        job_of_the_trace(collector, domain_id, job_id)
        assert TRACE[::-1] not in {span.trace_id for span in collector.spans}
    sent = b"".join(collector.bodies)
    assert CUSTOMER.encode() not in sent
    assert b"absent.wav" not in sent
    lines = [json.loads(line) for line in (tmp_path / "data.log").read_text().splitlines() if line[0] == "{"]
    (created,) = [line for line in lines if line.get("operation") == "CreateDomain"]
    assert created["trace_id"] == collector.named("CreateDomain")[0].trace_id, "without one of the caller's"


def test_a_compared_recording_has_a_span_under_its_request(tmp_path: Path) -> None:
    with collecting() as collector:
        settings = Settings(data=tmp_path / "data", jobs=Jobs(workers=1))
        testbed, tracer = Testbed.open(settings), build_tracer(Traces(endpoint=collector.url), "service")
        assert tracer is not None
        span = tracer.begin("CompareRecording", server=True)
        with current(span), pytest.raises(Validation):
            testbed.service.listener.analyse(
                installation.role_arn(settings), "s3://calls/absent.wav", 0, need_s=6.0
            )
        span.end()
        tracer.close()
        testbed.service.listener.close()  # type: ignore[attr-defined]
        testbed.close()
    (request,), (recording,) = collector.named("CompareRecording"), collector.named("recording")
    assert (recording.trace_id, recording.parent_id) == (request.trace_id, request.span_id)
    assert recording.attributes["error.type"] == "404"


@pytest.mark.parametrize("share", [1.0, 0.0])
def test_a_task_of_a_call_has_a_trace_of_its_own(tmp_path: Path, share: float) -> None:
    settings = Settings(data=tmp_path / "data")
    found: list[Any] = []
    task = Task(
        task_id=0,
        role=Role(arn="arn:aws:iam::000000000000:role/nobody", policies=()),
        audio=(AudioFile(s3_uri="s3://calls/absent.wav", channel=0),),
        need_s=6.0,
        keep_audio=False,
    )
    with collecting() as collector:
        tracer = build_tracer(Traces(endpoint=collector.url, share=share), "service")
        assert tracer is not None
        pool = WorkerPool(local_engine(settings, 1, live_worker_main), 1, tracer)
        pool.submit(task, Priority.FRAUD, found.append)
        wait_until("the result", lambda: found)
        pool.close()
        tracer.close()
    assert (found[0].code, found[0].worked is None) == (403, share == 0.0)
    if share == 0.0:
        assert collector.bodies == []
        return
    (call,), (recording,) = collector.named("call"), collector.named("recording")
    assert (call.parent_id, recording.parent_id) == ("", call.span_id)
    assert call.attributes == {"sonant.task": "fraud", "error.type": "403"}
    assert call.started_ns <= recording.started_ns <= recording.ended_ns <= call.ended_ns
