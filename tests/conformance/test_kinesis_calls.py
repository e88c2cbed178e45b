"""`sonant session kinesis`: a call as Amazon Connect streams it, from a service that answers like Kinesis."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from analyzed_calls import analyze, enroll
from carried_calls import Samples, evaluated, samples_of
from connect_media import fragment
from service_process import ServiceProcess

INSTANCE = "arn:aws:connect:us-east-1:123456789012:instance/11112222-3333-4444-5555-666677778888"
STREAM = "arn:aws:kinesisvideo:us-east-1:111122223333:stream/connect-calls/1500000000000"
RATE_HZ = 8000


@dataclass(slots=True)
class Kinesis:
    """GetDataEndpoint and GetMedia; remembers what it was asked."""

    url: str = ""
    media: bytes = b""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


@pytest.fixture
def kinesis() -> Iterator[Kinesis]:
    known = Kinesis()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            known.asked.append((self.path, json.loads(body)))
            if self.path == "/getDataEndpoint":
                told = json.dumps({"DataEndpoint": known.url}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)
                return
            self.send_response(200)
            self.send_header("Content-Type", "video/webm")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for place in range(0, len(known.media), 5000):
                part = known.media[place : place + 5000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    known.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield known
    server.shutdown()
    server.server_close()


def contact(samples: Samples, contact_id: str) -> bytes:
    """A call in fragments of a second."""
    seconds = range(0, len(samples), RATE_HZ)
    return b"".join(fragment(samples[first : first + RATE_HZ], contact_id) for first in seconds)


def carry(service: ServiceProcess, kinesis: Kinesis, domain_id: str, contact_id: str, *more: str) -> Any:
    return service.sonant(
        "session", "kinesis", STREAM, "--contact", contact_id, "--domain", domain_id,
        "--endpoint-url", kinesis.url, *more,
        AWS_ACCESS_KEY_ID="AKIAREADER", AWS_SECRET_ACCESS_KEY="reader", AWS_REGION="us-east-1",
    )  # fmt: skip


@pytest.fixture(scope="module")
def calls(make_call: Any, voices: Any) -> dict[str, Any]:
    one, two, *_ = voices
    fresh = {
        name: samples_of(make_call(who, 2, fresh=True, net_speech_s=13.0, duration_s=20.0, channels=1))
        for name, who in (("anna", one), ("ben", two))
    }
    return {"enrolled": analyze(make_call(one, 1, channels=1), 30.0), **fresh}


@pytest.mark.parametrize(("who", "decision"), [("anna", "ACCEPT"), ("ben", "REJECT")])
def test_only_the_named_contact_is_processed(
    service: ServiceProcess, kinesis: Kinesis, calls: dict[str, Any], who: str, decision: str
) -> None:
    domain_id = service.domain()
    enroll(service, domain_id, "anna", calls["enrolled"])
    contact_id, other = str(uuid.uuid4()), "ben" if who == "anna" else "anna"
    kinesis.media = contact(calls[who], contact_id) + contact(calls[other], str(uuid.uuid4()))

    done = carry(
        service, kinesis, domain_id, contact_id, "--speaker", "anna", "--fragment", "9134385",
        "--instance", INSTANCE,
    )  # fmt: skip

    assert done.code == 0, done.err
    told = evaluated(service, domain_id, contact_id)
    assert told["AuthenticationResult"]["Decision"] == decision
    session = service.own_client().describe_session(DomainId=domain_id, SessionNameOrId=contact_id)["Session"]
    assert session["ContactArn"] == f"{INSTANCE}/contact/{contact_id}"
    assert session["HeardSeconds"] == pytest.approx(20.0, abs=0.1)
    assert kinesis.asked == [
        ("/getDataEndpoint", {"StreamARN": STREAM, "APIName": "GET_MEDIA"}),
        (
            "/getMedia",
            {
                "StreamARN": STREAM,
                "StartSelector": {
                    "StartSelectorType": "FRAGMENT_NUMBER",
                    "AfterFragmentNumber": "9134385",
                },
            },
        ),
    ]


def test_a_session_that_waits_already_gets_the_contact(service: ServiceProcess, kinesis: Kinesis) -> None:
    domain_id, contact_id = service.domain(), str(uuid.uuid4())
    at = {"DomainId": domain_id, "SessionNameOrId": contact_id}
    service.own_client().start_session(DomainId=domain_id, SessionName=contact_id)
    kinesis.media = b"RIFF" + bytes(1000)
    carry(service, kinesis, domain_id, contact_id, "--instance", INSTANCE)
    described = service.own_client().describe_session(**at)["Session"]
    assert described["ContactArn"] == f"{INSTANCE}/contact/{contact_id}"


def test_an_instance_without_a_contact_is_refused_in_a_sentence(service: ServiceProcess) -> None:
    done = service.sonant("session", "kinesis", STREAM, "--domain", service.domain(), "--instance", INSTANCE)
    assert (done.code, done.out) == (1, "")
    assert "the ARN of a contact needs its id, too: --contact" in done.err


def test_what_is_no_arn_of_a_contact_is_refused(service: ServiceProcess) -> None:
    domain_id = service.domain()
    done = service.sonant("session", "start", "--domain", domain_id, "--contact-arn", "contact-1")
    assert done.code == 1
    assert "contactArn" in done.err
    assert service.own_client().list_sessions(DomainId=domain_id)["SessionSummaries"] == []


def test_what_is_no_matroska_is_reported_in_one_sentence(service: ServiceProcess, kinesis: Kinesis) -> None:
    kinesis.media = b"RIFF" + bytes(1000)
    done = carry(service, kinesis, service.domain(), str(uuid.uuid4()))
    assert (done.code, done.out) == (1, "")
    assert "the video stream cannot be read: this is not Matroska" in done.err


def test_a_kinesis_that_is_not_there_is_reported_in_one_sentence(service: ServiceProcess) -> None:
    nowhere = Kinesis(url="http://127.0.0.1:9")
    done = carry(service, nowhere, service.domain(), str(uuid.uuid4()))
    assert done.code == 1
    assert "Kinesis Video Streams: Could not connect" in done.err
