"""The writer of the audit trail: durability, files, and records under failures."""

from __future__ import annotations

import itertools
import json
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from event_peers import NOON
from waiting import in_time, wait_until

from sonant.audit import chain
from sonant.audit import trail as audit_trail
from sonant.audit.record import AuditedOperation, Record, document
from sonant.audit.trail import Trail
from sonant.errors import InternalServer, InvalidSignature, ResourceNotFound, SetupError, WireError
from sonant.settings import Audit

READ = AuditedOperation(name="DescribeSpeaker", read_only=True, request=dict, response=dict)
WRITE = AuditedOperation(name="OptOutSpeaker", read_only=False, request=dict, response=dict)


def record(operation: AuditedOperation = WRITE, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "operation": operation,
        "time": NOON,
        "request_id": "11111111-2222-4333-8444-555555555555",
        "source_ip": "192.0.2.7",
        "headers": [(b"host", b"h"), (b"user-agent", b"aws-cli/2")],
        "principal_arn": "arn:aws:iam::123456789012:user/ann",
        "account_id": "123456789012",
        "access_key_id": "AKIDEXAMPLE",
        "parameters": {"DomainId": "d"},
        "response": None,
        "error": None,
    }
    return Record(**{**values, **changes})


def unsigned() -> Record:
    return record(principal_arn=None, account_id=None, error=InvalidSignature("no"))


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in chain.files(folder) for line in path.read_bytes().splitlines()]


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_trail(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Trail]]:
    opened: list[Trail] = []

    def make(**settings: Any) -> Trail:
        opened.append(Trail(tmp_path / "audit", Audit(**settings), region="us-east-1", clock=clock))
        return opened[-1]

    yield make
    for trail in opened:
        trail.close()


@contextmanager
def full_disk(size: int = 0) -> Iterator[None]:
    """No file may grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# --- one record


def test_a_record_has_cloudtrails_members() -> None:
    told = document(record(response={"Speaker": "s"}), "us-east-1")
    event_id = told.pop("eventID")
    assert len(event_id) == 36
    assert told == {
        "eventVersion": "1.08",
        "userIdentity": {
            "type": "IAMUser",
            "arn": "arn:aws:iam::123456789012:user/ann",
            "accountId": "123456789012",
            "accessKeyId": "AKIDEXAMPLE",
            "userName": "ann",
        },
        "eventTime": "2026-03-01T12:00:00Z",
        "eventSource": "voiceid.amazonaws.com",
        "eventName": "OptOutSpeaker",
        "awsRegion": "us-east-1",
        "sourceIPAddress": "192.0.2.7",
        "userAgent": "aws-cli/2",
        "requestParameters": {"DomainId": "d"},
        "responseElements": {"Speaker": "s"},
        "requestID": "11111111-2222-4333-8444-555555555555",
        "readOnly": False,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "eventCategory": "Management",
        "recipientAccountId": "123456789012",
        "resources": [
            {"ARN": "arn:aws:voiceid:us-east-1:123456789012:domain/d", "accountId": "123456789012"}
        ],
    }


def test_what_a_reading_call_was_answered_is_not_kept() -> None:
    assert document(record(READ, response={"Speaker": "s"}), "us-east-1")["responseElements"] is None


def test_a_refused_call_says_why() -> None:
    told = document(record(error=ResourceNotFound("SPEAKER", "not here")), "us-east-1")
    assert (told["errorCode"], told["errorMessage"]) == ("ResourceNotFoundException", "not here")
    assert told["responseElements"] is None


def test_a_fault_of_ours_has_no_words() -> None:
    told = document(record(error=InternalServer("a path, a query")), "us-east-1")
    assert told["errorCode"] == "InternalServerException"
    assert "errorMessage" not in told


def test_unauthenticated_call_is_recorded_with_the_claimed_key_only() -> None:
    fault = InvalidSignature("The Canonical String for this request should have been 'secret'")
    told = document(record(principal_arn=None, account_id=None, error=fault), "us-east-1")
    assert told["userIdentity"] == {"type": "Unknown", "accessKeyId": "AKIDEXAMPLE"}
    assert told["errorCode"] == "InvalidSignatureException"
    assert told["requestParameters"] is None
    assert "secret" not in json.dumps(told)
    assert "resources" not in told


def test_what_a_stranger_chooses_is_bounded() -> None:
    told = document(record(headers=[(b"user-agent", b"\xff" * 9000)], access_key_id="A" * 9000), "us-east-1")
    assert len(told["userAgent"]) == 256
    assert len(told["userIdentity"]["accessKeyId"]) == 128


# --- the writer


def test_a_changing_call_is_on_the_disk_when_it_is_answered(
    open_trail: Callable[..., Trail], tmp_path: Path
) -> None:
    trail = open_trail()
    for number in range(5):
        trail.add(record(request_id=str(number)))
        assert [line["requestID"] for line in lines(tmp_path / "audit")] == [
            str(n) for n in range(number + 1)
        ]


def test_a_reading_call_does_not_wait_and_is_written_soon(
    open_trail: Callable[..., Trail], tmp_path: Path
) -> None:
    trail = open_trail()
    with full_disk():  # nothing can be written now, so nobody can have waited for it
        trail.add(record(READ))
    wait_until("it is written", lambda: lines(tmp_path / "audit"))


def test_calls_at_the_same_time_make_one_whole_chain(
    open_trail: Callable[..., Trail], tmp_path: Path
) -> None:
    trail = open_trail(max_waiting=16)

    def call(worker: int) -> None:
        for number in range(50):
            trail.add(record(READ if number % 3 else WRITE, request_id=f"{worker}-{number}"))

    threads = [threading.Thread(target=call, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trail.close()
    found = [line["requestID"] for line in lines(tmp_path / "audit")]
    assert sorted(found) == sorted(f"{worker}-{number}" for worker in range(8) for number in range(50))
    assert chain.verify(tmp_path / "audit").broken is None
    for worker in range(8):
        own = [name for name in found if name.startswith(f"{worker}-")]
        assert own == [f"{worker}-{number}" for number in range(50)], "in the order of the calls"


def test_a_closed_trail_has_written_everything(open_trail: Callable[..., Trail], tmp_path: Path) -> None:
    trail = open_trail()
    for _ in range(500):
        trail.add(record(READ))
    trail.close()
    assert len(lines(tmp_path / "audit")) == 500


def test_new_file_starts_at_a_size_and_at_midnight_with_the_hash(
    open_trail: Callable[..., Trail], tmp_path: Path, clock: Clock
) -> None:
    trail = open_trail(max_file_bytes=1000)
    for _ in range(3):
        trail.add(record())
    clock.now += timedelta(days=1)
    trail.add(record())
    found = chain.files(tmp_path / "audit")
    assert [path.name for path in found] == [
        "00000001-2026-03-01.jsonl",
        "00000002-2026-03-01.jsonl",
        "00000003-2026-03-02.jsonl",
    ]
    for before, after in itertools.pairwise(found):
        last = json.loads(before.read_bytes().splitlines()[-1])
        first = json.loads(after.read_bytes().splitlines()[0])
        assert first["previousHash"] == last["hash"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in found)
    assert chain.verify(tmp_path / "audit").lines == 4


def test_the_next_process_goes_on_with_the_chain(open_trail: Callable[..., Trail], tmp_path: Path) -> None:
    for number in range(3):
        trail = open_trail()
        trail.add(record(request_id=str(number)))
        trail.close()
    verdict = chain.verify(tmp_path / "audit")
    assert (verdict.files, verdict.lines, verdict.broken) == (1, 3, None)


def test_a_line_that_a_crash_tore_is_cut_off(open_trail: Callable[..., Trail], tmp_path: Path) -> None:
    trail = open_trail()
    trail.add(record())
    trail.close()
    (path,) = chain.files(tmp_path / "audit")
    with path.open("ab") as file:
        file.write(b'{"eventVersion":"1.')
    open_trail().add(record())
    verdict = chain.verify(tmp_path / "audit")
    assert (verdict.lines, verdict.broken) == (2, None)


def test_a_trail_whose_end_was_changed_is_not_gone_on_with(
    open_trail: Callable[..., Trail], tmp_path: Path
) -> None:
    trail = open_trail()
    trail.add(record())
    trail.close()
    (path,) = chain.files(tmp_path / "audit")
    path.write_bytes(path.read_bytes().replace(b"ann", b"bob"))
    with pytest.raises(SetupError, match="audit verify"):
        open_trail()


# --- a disk that refuses


def test_with_a_full_disk_a_change_fails_and_the_next_is_not_begun(
    open_trail: Callable[..., Trail], tmp_path: Path
) -> None:
    trail = open_trail()
    trail.add(record(request_id="before"))
    size = chain.files(tmp_path / "audit")[0].stat().st_size
    with full_disk(size + 10):  # a torn line gets through
        with pytest.raises(InternalServer):
            trail.add(record(request_id="took effect"))
        assert trail.failing
        with pytest.raises(InternalServer):
            trail.require()
        trail.add(record(READ, request_id="read"))
    wait_until("the disk takes it", lambda: not trail.failing)
    trail.require()
    trail.add(record(request_id="after"))
    assert [line["requestID"] for line in lines(tmp_path / "audit")] == [
        "before",
        "took effect",
        "read",
        "after",
    ], "what took effect is recorded as soon as there is room"
    assert chain.verify(tmp_path / "audit").broken is None


def test_when_records_are_not_required_a_full_disk_stops_nothing(
    open_trail: Callable[..., Trail], caplog: pytest.LogCaptureFixture
) -> None:
    trail = open_trail(required=False, max_waiting=2)
    with full_disk():
        for _ in range(4):
            trail.require()
            trail.add(record())
    wait_until("the disk takes it", lambda: not trail.failing)
    trail.add(record())
    assert "2 calls were answered without a record" in caplog.text


def test_read_without_space_fails_at_once_while_writes_fail(
    open_trail: Callable[..., Trail], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_trail, "WAIT_S", 3600.0)
    trail = open_trail(max_waiting=1)
    with full_disk():
        with pytest.raises(InternalServer):
            trail.add(record())
        with pytest.raises(InternalServer):
            in_time("it fails", lambda: trail.add(record(READ)))


# --- strangers


def test_a_flood_of_unsigned_calls_is_recorded_in_part_and_counted(
    open_trail: Callable[..., Trail], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed_s = 0.0
    monkeypatch.setattr(audit_trail, "time", SimpleNamespace(monotonic=lambda: passed_s))
    trail = open_trail(unsigned_per_s=10)
    for _ in range(1000):
        trail.add(unsigned())
    passed_s = 0.15
    trail.add(unsigned())
    trail.close()
    found = lines(tmp_path / "audit")
    assert len(found) == 11
    told = [line.get("additionalEventData", {}).get("unsignedCallsNotRecorded", 0) for line in found]
    assert told == [0] * 10 + [990]


def test_signed_calls_are_recorded_through_such_a_flood(
    open_trail: Callable[..., Trail], tmp_path: Path
) -> None:
    trail = open_trail(unsigned_per_s=1)
    for number in range(30):
        trail.add(unsigned())
        trail.add(record(READ, request_id=f"signed-{number}"))
    trail.close()
    found = [line["requestID"] for line in lines(tmp_path / "audit")]
    assert len([name for name in found if name.startswith("signed")]) == 30


def test_value_without_json_form_drops_members_not_the_record(
    open_trail: Callable[..., Trail], tmp_path: Path
) -> None:
    trail = open_trail()
    trail.add(record(parameters={"DomainId": "d", "Odd": object()}))
    (line,) = lines(tmp_path / "audit")
    assert line["requestParameters"] is None
    assert line["eventName"] == "OptOutSpeaker"


def test_every_fault_has_a_code() -> None:
    """A leaf of the error tree without a code would leave a hole in the trail."""
    assert all(
        isinstance(leaf.code, str) for base in WireError.__subclasses__() for leaf in base.__subclasses__()
    )
