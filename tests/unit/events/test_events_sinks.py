"""Event sinks with real files and real HTTP servers."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from event_peers import Peer, reply
from waiting import PATIENCE_S, dawdle, in_time, wait_until

from sonant.errors import SetupError
from sonant.events.sinks import SinkFault, build_sinks, sink_names
from sonant.events.sinks import webhook as webhook_module
from sonant.events.sinks.eventbridge import EventBridgeSink
from sonant.events.sinks.file import FileSink
from sonant.events.sinks.webhook import WebhookSink
from sonant.settings import Events, Settings

SECRET = "0123456789abcdef"


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """A disk that is full behind so many bytes of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# --- file


def test_the_file_holds_one_document_a_line(tmp_path: Path) -> None:
    path = tmp_path / "events" / "events.jsonl"
    sink = FileSink(path, max_bytes=1 << 20, keep=3)
    assert sink.deliver([b'{"a":1}', b'{"b":2}']) == 2
    assert sink.deliver([b'{"c":3}']) == 1
    assert path.read_bytes() == b'{"a":1}\n{"b":2}\n{"c":3}\n'
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_a_full_file_is_put_aside_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = FileSink(path, max_bytes=8, keep=2)
    for number in range(5):
        sink.deliver([f'{{"n":{number}}}'.encode()])
    found = {file.name: json.loads(file.read_bytes())["n"] for file in tmp_path.iterdir()}
    assert found == {"events.jsonl": 4, "events.jsonl.1": 3, "events.jsonl.2": 2}


def test_a_line_that_a_crash_tore_is_cut_off_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"a":1}\n{"b":')
    FileSink(path, max_bytes=1 << 20, keep=1).deliver([b'{"b":2}'])
    assert path.read_bytes() == b'{"a":1}\n{"b":2}\n'


def test_a_full_disk_is_a_fault_that_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = FileSink(path, max_bytes=1 << 20, keep=1)
    sink.deliver([b'{"a":1}'])
    with files_no_longer_than(12), pytest.raises(SinkFault, match=r"events\.jsonl cannot be written"):
        sink.deliver([b'{"b":2}'])
    assert path.read_bytes() == b'{"a":1}\n'
    sink.deliver([b'{"b":2}'])
    assert path.read_bytes() == b'{"a":1}\n{"b":2}\n'


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("")
    (tmp_path / "events.jsonl").symlink_to(tmp_path / "target")
    with pytest.raises(SinkFault):
        FileSink(tmp_path / "events.jsonl", max_bytes=1 << 20, keep=1).deliver([b"{}"])
    assert (tmp_path / "target").read_text() == ""


# --- webhook


def webhook(peer: Peer, path: str = "/hook?x=1", time_limit_s: float = PATIENCE_S) -> WebhookSink:
    return WebhookSink(
        peer.url + path, secret=SECRET, time_limit_s=time_limit_s, now_s=lambda: 1_700_000_000.9
    )


def test_webhook_gets_documents_with_a_signature_of_time_and_body(peer: Peer) -> None:
    assert webhook(peer).deliver([b'{"a":1}', b'{"b":2}']) == 2
    ((headers, body),) = peer.received
    assert json.loads(body) == [{"a": 1}, {"b": 2}]
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Sonant-Timestamp"] == "1700000000"
    expected = hmac.new(SECRET.encode(), b"1700000000." + body, hashlib.sha256).hexdigest()
    assert headers["X-Sonant-Signature"] == f"v1={expected}"


@pytest.mark.parametrize("status", [199 + 101, 301, 302, 307, 308, 400, 404, 429, 500, 503])
def test_any_other_answer_than_2xx_is_a_failure(peer: Peer, status: int) -> None:
    peer.answer = lambda handler, _body: reply(handler, status)
    with pytest.raises(SinkFault, match=str(status)):
        webhook(peer).deliver([b"{}"])


def test_a_redirect_is_not_followed(peer: Peer) -> None:
    peer.answer = lambda handler, _body: reply(handler, 302, Location=peer.url + "/elsewhere")
    with pytest.raises(SinkFault, match="302"):
        webhook(peer).deliver([b"{}"])
    assert len(peer.received) == 1


def test_a_peer_that_never_answers_is_left_after_the_time_limit(peer: Peer) -> None:
    left = threading.Event()

    def keep_waiting(_handler: object, _body: bytes) -> None:
        left.wait()

    peer.answer = keep_waiting
    sink = webhook(peer, time_limit_s=0.3)
    with pytest.raises(SinkFault, match=r"no answer within 0\.3 s"):
        in_time("it is left", lambda: sink.deliver([b"{}"]))
    left.set()


def test_a_peer_that_drips_its_answer_is_left_after_the_time_limit(peer: Peer) -> None:
    def drip(handler: object, _body: bytes) -> None:
        with suppress(OSError):  # it was left
            while True:
                handler.wfile.write(b"H")  # type: ignore[attr-defined]
                handler.wfile.flush()  # type: ignore[attr-defined]
                dawdle(0.05)

    peer.answer = drip
    sink = webhook(peer, time_limit_s=0.4)
    with pytest.raises(SinkFault, match="no answer within"):
        in_time("it is left", lambda: sink.deliver([b"{}"]))


def test_webhook_time_limit_includes_the_connection(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where its name takes long to be found: no time limit of a socket covers that."""
    connect = http.client.HTTPConnection.connect

    def late(connection: http.client.HTTPConnection) -> None:
        wait_until("the time is over", lambda: not any(map(is_timer, threading.enumerate())))
        connect(connection)

    def is_timer(thread: threading.Thread) -> bool:
        return thread.name == "webhook time limit"

    monkeypatch.setattr(http.client.HTTPConnection, "connect", late)
    with pytest.raises(SinkFault, match=r"no answer within 0\.2 s"):
        webhook(peer, time_limit_s=0.2).deliver([b"{}"])
    assert peer.received == []


def test_a_peer_that_is_not_there_is_a_failure() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sink = WebhookSink(f"http://127.0.0.1:{port}/", secret=SECRET, time_limit_s=PATIENCE_S)
    with pytest.raises(SinkFault, match="cannot be reached: ConnectionRefusedError") as caught:
        sink.deliver([b'{"secret":"document"}'])
    assert "document" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["", "ftp://host/", "host/path", "http://", "http://user:pass@host/", "http://host:99999/"]
)
def test_an_url_that_cannot_be_posted_to_is_a_setup_error(url: str) -> None:
    with pytest.raises(SetupError, match=r"events\.webhook_url"):
        WebhookSink(url, secret=SECRET, time_limit_s=1)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://192.0.2.1/hook", "use https"),
        ("http://receiver.example/hook", "use https"),
        ("http://[2001:db8::1]/hook", "use https"),
        ("http://127.0.0.1.example/hook", "use https"),
        ("https://169.254.169.254/latest/meta-data", "link-local"),
        ("https://[fe80::1]/hook", "link-local"),
        ("https://[fd00:ec2::254]/latest", "link-local"),
        ("https://[::ffff:169.254.169.254]/hook", "link-local"),
    ],
)
def test_webhook_that_others_could_read_or_misuse_is_refused(url: str, message: str) -> None:
    with pytest.raises(SetupError, match=message):
        WebhookSink(url, secret=SECRET, time_limit_s=1)


def test_name_that_leads_to_another_machine_gets_nothing_by_http(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given `localhost` that leads to another address, when events are sent, then that address gets none."""
    monkeypatch.setattr(webhook_module, "is_loopback", lambda host: host == "localhost")
    sink = WebhookSink(peer.url.replace("127.0.0.1", "localhost"), secret=SECRET, time_limit_s=PATIENCE_S)
    with pytest.raises(SinkFault, match="http is for loopback only"):
        sink.deliver([b"{}"])
    assert peer.received == []


def test_name_that_leads_to_a_link_local_address_gets_nothing(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = webhook(peer)
    monkeypatch.setattr(webhook_module, "is_link_local", lambda host: True)
    with pytest.raises(SinkFault, match="link-local"):
        sink.deliver([b"{}"])
    assert peer.received == []


def test_a_short_secret_is_a_setup_error_that_does_not_show_it() -> None:
    with pytest.raises(SetupError, match="at least 16") as caught:
        WebhookSink("http://host/", secret="topsecret", time_limit_s=1)
    assert "topsecret" not in str(caught.value)


# --- eventbridge


DOCUMENT = {
    "time": "2026-03-01T12:00:00Z",
    "source": "aws.voiceid",
    "resources": ["arn:aws:voiceid:us-east-1:000000000000:domain/d"],
    "detail-type": "VoiceId Speaker Action",
}


def documents(count: int) -> list[bytes]:
    return [json.dumps({**DOCUMENT, "detail": {"sourceId": str(number)}}).encode() for number in range(count)]


@pytest.fixture
def bus(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> Iterator[EventBridgeSink]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    sink = EventBridgeSink(bus="calls", source="voiceid", region="us-east-1", endpoint=peer.url)
    yield sink
    sink.close()


def answer_entries(peer: Peer, refuse: set[str]) -> None:
    def answer(handler: object, body: bytes) -> None:
        entries = []
        for entry in json.loads(body)["Entries"]:
            number = json.loads(entry["Detail"])["sourceId"]
            entries.append({"ErrorCode": "InternalFailure"} if number in refuse else {"EventId": number})
        told = {"FailedEntryCount": sum("ErrorCode" in one for one in entries), "Entries": entries}
        reply(handler, 200, json.dumps(told).encode())  # type: ignore[arg-type]

    peer.answer = answer


def test_the_bus_gets_signed_entries_ten_at_a_time(peer: Peer, bus: EventBridgeSink) -> None:
    answer_entries(peer, set())
    assert bus.deliver(documents(12)) == 12
    assert [len(json.loads(body)["Entries"]) for _, body in peer.received] == [10, 2]
    headers, body = peer.received[0]
    assert headers["X-Amz-Target"] == "AWSEvents.PutEvents"
    assert "AKIDEXAMPLE" in headers["Authorization"]
    entry = json.loads(body)["Entries"][0]
    assert entry.pop("Time") == 1772366400
    assert entry == {
        "Source": "voiceid",
        "Resources": DOCUMENT["resources"],
        "DetailType": "VoiceId Speaker Action",
        "Detail": '{"sourceId":"0"}',
        "EventBusName": "calls",
    }


def test_an_event_of_sonants_own_keeps_its_source_on_the_bus(peer: Peer, bus: EventBridgeSink) -> None:
    answer_entries(peer, set())
    own = {**DOCUMENT, "source": "sonant", "detail": {"sourceId": "0"}}
    assert bus.deliver([json.dumps(own).encode()]) == 1
    assert json.loads(peer.received[0][1])["Entries"][0]["Source"] == "sonant"


def test_what_comes_behind_a_refused_entry_counts_as_not_taken(peer: Peer, bus: EventBridgeSink) -> None:
    answer_entries(peer, {"3"})
    assert bus.deliver(documents(5)) == 3
    answer_entries(peer, {"11"})
    assert bus.deliver(documents(12)) == 11


def test_a_first_entry_that_is_refused_is_a_failure(peer: Peer, bus: EventBridgeSink) -> None:
    answer_entries(peer, {"0"})
    with pytest.raises(SinkFault, match="InternalFailure"):
        bus.deliver(documents(2))


def test_an_answer_that_is_an_error_is_a_failure(peer: Peer, bus: EventBridgeSink) -> None:
    told = json.dumps({"__type": "AccessDeniedException", "Message": "no"}).encode()
    peer.answer = lambda handler, _body: reply(handler, 400, told)
    with pytest.raises(SinkFault, match="AccessDeniedException"):
        bus.deliver(documents(1))


# --- settings


def test_sinks_are_named_in_one_setting(tmp_path: Path) -> None:
    events = Events(sinks="file, webhook,file", webhook_url="https://host/", webhook_secret=SECRET)
    assert [sink.name for sink in build_sinks(Settings(data=tmp_path, events=events))] == ["file", "webhook"]
    assert build_sinks(Settings(data=tmp_path)) == []


def test_unknown_sink_is_a_setup_error_with_the_known_names() -> None:
    with pytest.raises(SetupError, match=r"'kafka', must be one of: file, eventbridge, webhook"):
        sink_names(Events(sinks="file,kafka"))


def test_the_settings_do_not_show_their_secrets() -> None:
    settings = Settings(events=Events(webhook_secret=SECRET))
    assert SECRET not in repr(settings)
