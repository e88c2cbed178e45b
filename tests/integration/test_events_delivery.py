"""Events of a running service are delivered, even when the runner is killed."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from events_testbed import SECRET, Receiver, ServiceProcess, kill_runner, receiving, running
from waiting import PATIENCE_S, wait_until

BATCH = "VoiceId Batch Speaker Enrollment Action"
FAST = {"EVENTS_POLL_S": "0.05", "EVENTS_RETRY_FIRST_S": "0.05", "EVENTS_RETRY_MOST_S": "0.2"}
QUIET = {"JOBS_POLL_S": "0.05", "JOBS_WORKERS": "1", "RATES_FACTOR": "0"}


def hooked(receiver: Receiver) -> dict[str, str]:
    return {
        **FAST,
        **QUIET,
        "EVENTS_SINKS": "file,webhook",
        "EVENTS_WEBHOOK_URL": receiver.url,
        "EVENTS_WEBHOOK_SECRET": SECRET,
    }


def filed(service: ServiceProcess) -> list[dict[str, Any]]:
    path = service.data / "events" / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def file_ids(service: ServiceProcess) -> list[str]:
    return [one["detail"]["sourceId"] for one in filed(service)]


def opt_out(service: ServiceProcess, domain_id: str, count: int, prefix: str) -> list[str]:
    """Generated ids of speakers that opted out, in order."""
    return [
        service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId=f"{prefix}-{number}")["Speaker"][
            "GeneratedSpeakerId"
        ]
        for number in range(count)
    ]


def told_ids(documents: list[dict[str, Any]]) -> list[str]:
    return [one["detail"]["generatedSpeakerId"] for one in documents]


@pytest.mark.slow
def test_events_survive_a_runner_killed_between_commit_and_delivery(tmp_path: Path) -> None:
    """Given a receiver that is down while events are committed, when the runner is killed and the receiver
    comes back, then every event arrives, in order."""
    with receiving() as receiver, running(tmp_path / "data", **hooked(receiver)) as service:
        domain_id = service.domain()
        receiver.status = 503
        speakers = opt_out(service, domain_id, 8, "before")
        wait_until("they are delivered", lambda: receiver.offered > 0)
        kill_runner(service)
        speakers += opt_out(service, domain_id, 4, "after")
        receiver.status = 200
        wait_until("they are delivered", lambda: len(receiver.ids) == 12)
        assert list(dict.fromkeys(told_ids(receiver.taken))) == speakers
        wait_until("they are delivered", lambda: len(set(file_ids(service))) == 12)
        assert list(dict.fromkeys(file_ids(service))) == receiver.ids, "all sinks get the same in one order"


@pytest.mark.slow
def test_a_runner_killed_between_delivery_and_note_delivers_again(tmp_path: Path) -> None:
    """Given a receiver that took events whose answer never came through, then they come once more."""
    with receiving() as receiver, running(tmp_path / "data", **hooked(receiver)) as service:
        domain_id = service.domain()
        killed: list[bool] = []

        def kill_once() -> None:
            if not killed:
                killed.append(True)
                kill_runner(service)

        receiver.meanwhile = kill_once
        speakers = opt_out(service, domain_id, 3, "one")
        wait_until("they are delivered", lambda: len(receiver.ids) == 3 and len(receiver.taken) > 3)
        assert list(dict.fromkeys(told_ids(receiver.taken))) == speakers


@pytest.mark.slow
def test_events_wait_while_the_service_is_down(tmp_path: Path) -> None:
    with receiving() as receiver:
        receiver.status = 500
        with running(tmp_path / "data", **hooked(receiver)) as service:
            speakers = opt_out(service, service.domain(), 3, "one")
        receiver.status = 200
        with running(tmp_path / "data", **hooked(receiver)):
            wait_until("they are delivered", lambda: len(receiver.ids) == 3)
        assert list(dict.fromkeys(told_ids(receiver.taken))) == speakers


def test_events_cover_the_whole_history_of_a_domain(tmp_path: Path) -> None:
    with running(tmp_path / "data", **FAST, **QUIET, EVENTS_SINKS="file") as service:
        domain_id = service.domain()
        (speaker,) = opt_out(service, domain_id, 1, "one")
        service.voice_id.delete_speaker(DomainId=domain_id, SpeakerId="one-0")
        for call, member in (
            (service.voice_id.delete_speaker, {"SpeakerId": "nobody"}),
            (service.voice_id.delete_fraudster, {"FraudsterId": "id#AbCdEfGhIjKlMnOpQrStUv"}),
        ):
            with pytest.raises(ClientError):
                call(DomainId=domain_id, **member)
        (service.data / "buckets" / "calls").mkdir()
        request = {"RequestId": "r1", "SpeakerId": "id#not-the-customers", "AudioSpecifications": []}
        manifest = {"Version": "1.0", "SpeakerEnrollmentRequests": [request]}
        (service.data / "buckets" / "calls" / "m.json").write_text(json.dumps(manifest))
        done = service.start_job(domain_id, "s3://calls/m.json")["JobId"]
        assert service.ended_job(domain_id, done)["JobStatus"] == "COMPLETED_WITH_ERRORS"
        failed = service.start_job(domain_id, "s3://calls/absent.json")["JobId"]
        assert service.ended_job(domain_id, failed)["JobStatus"] == "FAILED"
        wait_until("they are delivered", lambda: len(filed(service)) == 9)

        told = [(one["detail-type"], one["detail"]) for one in filed(service)]
        assert [(type_, detail["action"], detail["status"]) for type_, detail in told] == [
            ("VoiceId Speaker Action", "OPT_OUT_SPEAKER", "SUCCEEDED"),
            ("VoiceId Speaker Action", "DELETE_SPEAKER", "SUCCEEDED"),
            ("VoiceId Speaker Action", "DELETE_SPEAKER", "FAILED"),
            ("VoiceId Fraudster Action", "DELETE_FRAUDSTER", "FAILED"),
            (BATCH, "BATCH_SPEAKER_ENROLLMENT_REQUEST", "SUBMITTED"),
            ("VoiceId Speaker Action", "ENROLL_SPEAKER", "FAILED"),
            (BATCH, "BATCH_SPEAKER_ENROLLMENT_REQUEST", "COMPLETED_WITH_ERRORS"),
            (BATCH, "BATCH_SPEAKER_ENROLLMENT_REQUEST", "SUBMITTED"),
            (BATCH, "BATCH_SPEAKER_ENROLLMENT_REQUEST", "FAILED"),
        ]
        details = [detail for _, detail in told]
        assert details[0]["generatedSpeakerId"] == details[1]["generatedSpeakerId"] == speaker
        assert details[2]["errorInfo"]["errorType"] == "RESOURCE_NOT_FOUND"
        assert details[2]["generatedSpeakerId"] is None, "the customer's own id is not told"
        assert details[3]["generatedFraudsterId"] == "id#AbCdEfGhIjKlMnOpQrStUv"
        assert details[5]["data"] == {
            "enrollmentSource": "BATCH_ENROLLMENT",
            "enrollmentSourceId": done,
            "enrollmentStatus": None,
        }
        assert details[5]["errorInfo"]["errorCode"] == 400
        assert [detail.get("batchJobId") for detail in details[6:]] == [done, failed, failed]
        assert details[8]["errorInfo"]["errorCode"] == 404
        assert {detail["domainId"] for detail in details} == {domain_id}


def test_an_unknown_sink_keeps_the_service_from_starting(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match=r"events\.sinks is 'kafka'"),
        running(tmp_path / "data", EVENTS_SINKS="kafka"),
    ):
        pass


def test_every_request_of_a_job_is_reported_and_counted(
    tmp_path: Path, make_call: Callable[..., bytes]
) -> None:
    """Given a job with a speaker who is enrolled and one whose recording is not there, then each has an event
    of its own, and the counters of the metrics know what was heard."""
    settings = {"EVENTS_SINKS": "file", "METRICS_ENABLED": "true", "ENROLLMENT_NET_SPEECH_S": "6"}
    with running(tmp_path / "data", **FAST, **QUIET, **settings) as service:
        domain_id = service.domain()
        bucket = service.data / "buckets" / "calls"
        bucket.mkdir()
        (bucket / "english.wav").write_bytes(make_call("english", 1, net_speech_s=9))
        requests = [
            {
                "RequestId": name,
                "SpeakerId": f"customer-{name}",
                "AudioSpecifications": [{"S3Uri": f"s3://calls/{name}.wav", "ChannelId": 0}],
            }
            for name in ("english", "absent")
        ]
        manifest = {"Version": "1.0", "SpeakerEnrollmentRequests": requests}
        (bucket / "m.json").write_text(json.dumps(manifest))
        job_id = service.start_job(domain_id, "s3://calls/m.json")["JobId"]
        assert service.ended_job(domain_id, job_id)["JobStatus"] == "COMPLETED_WITH_ERRORS"
        wait_until("five events", lambda: len(filed(service)) == 5)

        detected, enrolled, absent = (one["detail"] for one in filed(service)[1:4])
        speaker = service.voice_id.describe_speaker(DomainId=domain_id, SpeakerId="customer-english")[
            "Speaker"
        ]
        assert enrolled["generatedSpeakerId"] == speaker["GeneratedSpeakerId"]
        fraud = detected["fraudDetectionResult"]
        assert (fraud["decision"], fraud["reasons"]) == ("LOW_RISK", None)
        assert detected["generatedSpeakerId"] == speaker["GeneratedSpeakerId"]
        assert enrolled["data"] == {
            "enrollmentSource": "BATCH_ENROLLMENT",
            "enrollmentSourceId": job_id,
            "enrollmentStatus": "NEW_ENROLLMENT",
        }
        assert (absent["status"], absent["errorInfo"]["errorCode"]) == ("FAILED", 404)
        assert "customer-" not in json.dumps(filed(service))

        with urllib.request.urlopen(service.url + "/metrics", timeout=PATIENCE_S) as answer:
            page = answer.read().decode()
        assert 'sonant_job_requests_total{outcome="NEW_ENROLLMENT"} 1.0' in page
        assert 'sonant_job_requests_total{outcome="ERROR_404"} 1.0' in page
        figures = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
        assert float(figures["sonant_speech_seconds_total"]) == 6
        assert 6 <= float(figures["sonant_audio_seconds_total"]) < 60
        assert 0 < float(figures["sonant_inference_seconds_total"]) < 30
        assert 0 < float(figures["sonant_compute_seconds_total"]) < 30
