"""`/stream`: who may bring audio, what is refused and how, and how streams end. Silence is enough here."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from carried_calls import UNSIGNED, messages_until_closed, opened, refused, stream_url, upload
from service_process import ACCOUNT, ServiceProcess
from waiting import ASK_S, PATIENCE_S, dawdle, wait_until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

FRAME = bytes(320)


@pytest.fixture(scope="module")
def domain(service: ServiceProcess) -> str:
    return service.domain()


@pytest.fixture
def name(service: ServiceProcess, domain: str) -> Iterator[str]:
    """A session that waits for audio."""
    name = str(uuid.uuid4())
    service.own_client().start_session(DomainId=domain, SessionName=name)
    yield name
    service.own_client().end_stream(DomainId=domain, SessionNameOrId=name)


def named(domain: str, name: str) -> dict[str, str]:
    return {"DomainId": domain, "SessionNameOrId": name}


def session(service: ServiceProcess, domain: str, name: str) -> dict[str, Any]:
    return dict(service.own_client().describe_session(**named(domain, name))["Session"])


def until(service: ServiceProcess, domain: str, name: str, status: str) -> dict[str, Any]:
    """The session, as soon as its stream has this status."""

    def there() -> dict[str, Any] | None:
        found = session(service, domain, name)
        return found if found["StreamingStatus"] == status else None

    return wait_until(f"{name} is {status}", there, look_s=ASK_S) or {}


def ended(service: ServiceProcess, domain: str, name: str) -> str:
    """Why the stream ended, when it has."""
    return str(until(service, domain, name, "ENDED")["StreamEndReason"])


@contextmanager
def connected(service: ServiceProcess, domain: str, name: str) -> Iterator[ClientConnection]:
    """A stream that has begun."""
    number = str(session(service, domain, name)["StreamNumber"])
    with opened(stream_url(service, {**named(domain, name), "StreamNumber": number})) as connection:
        assert json.loads(connection.recv(timeout=PATIENCE_S))["type"] == "begun"
        yield connection


# --- who may ---------------------------------------------------------------------------------------------


def test_unsigned_url_is_refused(service: ServiceProcess, domain: str, name: str) -> None:
    url = stream_url(service, named(domain, name)).partition("&X-Amz")[0]
    assert refused(url).fault == "MissingAuthenticationTokenException"


def test_signature_covers_the_whole_url(service: ServiceProcess, domain: str, name: str) -> None:
    url = stream_url(service, {**named(domain, name), "Channels": "2", "Channel": "0"})
    for changed in (
        url.replace("Channel=0", "Channel=1"),
        url.replace(name, "another-session"),
        url + "&Encoding=mulaw",
        stream_url(service, named(domain, name), method="POST"),
        stream_url(service, named(domain, name), path="/").replace("/?", "/stream?"),
    ):
        answer = refused(changed)
        assert (answer.status, answer.fault) == (400, "InvalidSignatureException")


def test_signed_url_is_valid_until_it_expires(service: ServiceProcess, domain: str, name: str) -> None:
    with opened(stream_url(service, named(domain, name), expires_s=3600, age_s=1800)):
        pass
    answer = refused(stream_url(service, named(domain, name), expires_s=60, age_s=61))
    assert answer.fault == "InvalidSignatureException"
    assert "Signature expired" in answer.message


def test_signed_url_opens_one_stream_and_no_later_one(
    service: ServiceProcess, domain: str, name: str
) -> None:
    """Given a URL that has carried a call, when its holder brings audio to the next call, then it is void."""
    url = stream_url(service, named(domain, name))
    with opened(url) as connection:
        connection.send(FRAME)
        until(service, domain, name, "ONGOING")
    assert ended(service, domain, name) == "CALL_ENDED"
    service.own_client().start_session(DomainId=domain, SessionName=name)
    for replayed in (url, url.replace("X-Amz-Signature=", "X-Amz-%53ignature="), _escaped(url)):
        answer = refused(replayed)
        assert answer.status in (400, 403)
        assert answer.fault in ("AccessDeniedException", "InvalidSignatureException"), answer
    assert "has opened a stream already" in refused(url).message
    assert session(service, domain, name)["StreamingStatus"] == "PENDING_CONFIGURATION"


def _escaped(url: str) -> str:
    """The same URL with the first digit of its signature written as an escape."""
    before, _, signature = url.rpartition("X-Amz-Signature=")
    return f"{before}X-Amz-Signature=%{ord(signature[0]):02X}{signature[1:]}"


def test_signed_url_of_a_stream_opens_no_other_stream(
    service: ServiceProcess, domain: str, name: str
) -> None:
    """Given a URL that was never used, when the session has its next stream, then it is void."""
    number = session(service, domain, name)["StreamNumber"]
    bound = {**named(domain, name), "StreamNumber": str(number)}
    kept = stream_url(service, bound, expires_s=3000)
    with opened(stream_url(service, bound)) as connection:
        connection.send(FRAME)
        until(service, domain, name, "ONGOING")
    assert ended(service, domain, name) == "CALL_ENDED"
    service.own_client().start_session(DomainId=domain, SessionName=name)
    answer = refused(kept)
    assert (answer.status, answer.fault) == (403, "AccessDeniedException")
    assert (
        answer.message == f"This was made for stream {number} of the session, and stream {number + 1} waits."
    )
    with opened(stream_url(service, {**bound, "StreamNumber": str(number + 1)})):
        pass
    answer = refused(stream_url(service, {**bound, "StreamNumber": "0"}))
    assert answer.fault == "ValidationException"


def test_refused_stream_does_not_use_up_its_url(service: ServiceProcess, domain: str) -> None:
    name = str(uuid.uuid4())
    url = stream_url(service, named(domain, name))
    assert refused(url).fault == "ResourceNotFoundException"
    service.own_client().start_session(DomainId=domain, SessionName=name)
    with opened(url):
        pass


def test_url_of_the_command_is_for_the_present_stream(
    service: ServiceProcess, domain: str, name: str
) -> None:
    printed = service.sonant("session", "url", name, "--domain", domain).out.strip()
    assert "StreamNumber=1&" in printed
    with opened(printed) as connection:
        assert json.loads(connection.recv(timeout=PATIENCE_S))["type"] == "begun"


def test_stream_audio_is_a_permission_of_its_own(service: ServiceProcess, domain: str, name: str) -> None:
    arn = f"arn:aws:voiceid:us-east-1:{ACCOUNT}:domain/{domain}"
    key = {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"}
    everything_else = service.user(
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": "sonant:StreamAudio", "Resource": arn},
    )
    answer = refused(stream_url(service, named(domain, name), credentials=everything_else))
    assert (answer.status, answer.fault) == (403, "AccessDeniedException")
    assert answer.message.endswith(f"is not authorized to perform: sonant:StreamAudio on resource: {arn}")

    nothing_else = {"Effect": "Allow", "Action": "sonant:StreamAudio", "Resource": arn}
    keyless = service.user(nothing_else)
    answer = refused(stream_url(service, named(domain, name), credentials=keyless))
    assert answer.fault == "AccessDeniedException"
    user = service.user(nothing_else, key)
    with opened(stream_url(service, named(domain, name), credentials=user)) as connection:
        assert json.loads(connection.recv(timeout=PATIENCE_S))["type"] == "begun"


def test_opened_and_refused_streams_are_audited(service: ServiceProcess, domain: str, name: str) -> None:
    with connected(service, domain, name):
        pass
    refused(stream_url(service, named(domain, "never-started")))
    shown = service.sonant("audit", "show", "--operation", "StreamAudio", "--json").out
    records = [json.loads(line) for line in shown.splitlines()]
    asked = {"domainId": domain, "sessionNameOrId": name}
    mine = [record for record in records if record["requestParameters"] == asked]
    assert [record["responseElements"]["sessionId"] for record in mine] == [
        session(service, domain, name)["SessionId"]
    ]
    assert any(record.get("errorCode") == "ResourceNotFoundException" for record in records)
    assert "X-Amz-Signature" not in shown


# --- what is refused -------------------------------------------------------------------------------------


def test_refusal_is_an_http_error_like_any_other(service: ServiceProcess, domain: str, name: str) -> None:
    absent = refused(stream_url(service, named(domain, "never-started")))
    assert (absent.status, absent.fault) == (404, "ResourceNotFoundException")
    nowhere = refused(stream_url(service, named("d" * 22, name)))
    assert (nowhere.status, nowhere.fault) == (404, "ResourceNotFoundException")
    unclear = refused(stream_url(service, {**named(domain, name), "SampleRate": "44100"}))
    assert (unclear.status, unclear.fault) == (400, "ValidationException")
    with connected(service, domain, name):
        busy = refused(stream_url(service, named(domain, name)))
    assert (busy.status, busy.fault) == (409, "ConflictException")


def test_other_paths_take_no_websocket(service: ServiceProcess) -> None:
    for path in ("/", "/health", "/stream/asterisk", "/streams"):
        url = f"ws://127.0.0.1:{service.port}{path}"
        with pytest.raises(InvalidStatus) as raised, opened(url):
            pass
        assert raised.value.response.status_code == 404


# --- how streams end -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        (b"\0\0\0", 1002, "a frame ends in the middle of a sample"),
        (bytes(65_537), 1009, ""),
    ],
)
def test_protocol_violation_ends_this_stream_only(
    service: ServiceProcess, domain: str, name: str, message: bytes | str, code: int, reason: str
) -> None:
    other = str(uuid.uuid4())
    service.own_client().start_session(DomainId=domain, SessionName=other)
    with connected(service, domain, other) as neighbour, connected(service, domain, name) as connection:
        neighbour.send(FRAME)
        connection.send(FRAME)
        for ignored in ("not JSON", '{"type": "begin"}'):
            connection.send(ignored)
        connection.send(message)
        _, closed, why = messages_until_closed(connection)
        assert closed == code
        assert why == reason or not reason
        assert ended(service, domain, name) == "MALFORMED"
        neighbour.send(FRAME)
        neighbour.send('{"type": "end"}')
        assert messages_until_closed(neighbour)[1:] == (1000, "CALL_ENDED")


def test_end_stream_is_reported_to_the_carrier(service: ServiceProcess, domain: str, name: str) -> None:
    with connected(service, domain, name) as connection:
        connection.send(FRAME)
        service.own_client().end_stream(**named(domain, name))
        said, code, reason = messages_until_closed(connection)
        assert json.loads(said[-1]) == {"type": "ended", "reason": "REQUESTED"}
        assert (code, reason) == (1000, "REQUESTED")


def test_normal_close_ends_the_call_and_a_lost_connection_disconnects(
    service: ServiceProcess, domain: str, name: str
) -> None:
    with connected(service, domain, name) as connection:
        connection.send(FRAME)
    assert ended(service, domain, name) == "CALL_ENDED"
    service.own_client().start_session(DomainId=domain, SessionName=name)
    with connected(service, domain, name) as lost:
        lost.send(FRAME)
        until(service, domain, name, "ONGOING")
        lost.socket.shutdown(socket.SHUT_RDWR)
    assert ended(service, domain, name) == "DISCONNECTED"


def test_audio_at_full_speed_waits_for_the_service(service: ServiceProcess, domain: str, name: str) -> None:
    """Two minutes of audio, twelve times as much as may lie there."""
    with connected(service, domain, name) as connection:
        for _ in range(120):
            connection.send(bytes(16_000))
        connection.send('{"type": "end"}')
        assert messages_until_closed(connection)[1:] == (1000, "CALL_ENDED")
    assert session(service, domain, name)["HeardSeconds"] == pytest.approx(120, abs=0.2)


def test_flood_of_empty_messages_is_an_overrun(service: ServiceProcess, domain: str, name: str) -> None:
    with connected(service, domain, name) as connection:
        connection.send(FRAME)
        try:
            for _ in range(20_000):
                connection.send(b"")
        except ConnectionClosed:
            pass
        assert messages_until_closed(connection)[1:] == (1008, "messages come too fast")
    assert ended(service, domain, name) == "OVERRUN"


def test_api_calls_are_answered_while_streams_flow(service: ServiceProcess, domain: str) -> None:
    names = [str(uuid.uuid4()) for _ in range(8)]
    for name in names:
        service.own_client().start_session(DomainId=domain, SessionName=name)

    answered = threading.Event()

    def talk(name: str) -> tuple[int | None, str]:
        with connected(service, domain, name) as connection:
            while not answered.is_set():
                connection.send(FRAME)
                dawdle(0.02)
            connection.send('{"type": "end"}')
            return messages_until_closed(connection)[1:]

    with ThreadPoolExecutor(8) as threads:
        talks = [threads.submit(talk, name) for name in names]
        try:
            for name in names:
                until(service, domain, name, "ONGOING")
            for _ in range(20):
                service.voice_id.describe_domain(DomainId=domain)
            assert not any(one.done() for one in talks)
        finally:
            answered.set()
        assert {one.result() for one in talks} == {(1000, "CALL_ENDED")}


# --- uploads ---------------------------------------------------------------------------------------------


def test_body_must_match_its_signed_hash(service: ServiceProcess, domain: str, name: str) -> None:
    signed = hashlib.sha256(FRAME).hexdigest()
    status, answer = upload(
        service, named(domain, name), b"\1" + FRAME[1:], "audio/L16; rate=8000", sha256=signed
    )
    assert (status, answer["__type"].rpartition("#")[2]) == (400, "InvalidSignatureException")
    assert ended(service, domain, name) == "MALFORMED"
    service.own_client().start_session(DomainId=domain, SessionName=name)
    status, answer = upload(service, named(domain, name), FRAME, "audio/L16; rate=8000", sha256=signed)
    assert (status, answer["HeardSeconds"]) == (200, 0.02)


@pytest.mark.parametrize(
    ("query", "body", "content_type", "sha256", "fault"),
    [
        ({}, FRAME, "text/plain", UNSIGNED, "ValidationException"),
        ({}, FRAME, "audio/L16; rate=44100", UNSIGNED, "ValidationException"),
        ({}, b"", "audio/basic", UNSIGNED, "ValidationException"),
        ({}, b"\0\0\0", "audio/L16; rate=8000", UNSIGNED, "ValidationException"),
        ({}, b"RIFF not a WAV file", "audio/wav", UNSIGNED, "ValidationException"),
        ({"Encoding": "mulaw"}, FRAME, "audio/basic", UNSIGNED, "ValidationException"),
        ({}, FRAME, "audio/basic", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "InvalidSignatureException"),
    ],
)
def test_body_without_audio_is_refused(
    service: ServiceProcess,
    domain: str,
    name: str,
    query: dict[str, str],
    body: bytes,
    content_type: str,
    sha256: str,
    fault: str,
) -> None:
    status, answer = upload(service, {**named(domain, name), **query}, body, content_type, sha256=sha256)
    assert (status, answer["__type"].rpartition("#")[2]) == (400, fault)


def test_too_large_recording_is_refused(service: ServiceProcess, domain: str, name: str) -> None:
    pieces = (bytes(1 << 20) for _ in range(22))
    try:
        status, answer = upload(service, named(domain, name), pieces, "audio/wav")
    except (BrokenPipeError, ConnectionResetError):
        return  # refused before all of it was sent
    assert (status, answer["__type"].rpartition("#")[2]) == (413, "RequestEntityTooLargeException")


def test_upload_needs_a_session_and_a_signature(service: ServiceProcess, domain: str, name: str) -> None:
    status, answer = upload(service, named(domain, "never-started"), FRAME, "audio/basic")
    assert (status, answer["ResourceType"]) == (404, "SESSION")
    nobody = service.user()
    status, answer = upload(service, named(domain, name), FRAME, "audio/basic", credentials=nobody)
    assert (status, answer["__type"].rpartition("#")[2]) == (403, "AccessDeniedException")
