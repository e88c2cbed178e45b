"""EvaluateSession between reads and writes: known results are answered where reads are, others elsewhere."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from sample_requests import NOBODY, SERVED
from signed_http import JSON_1_0, Signer
from waiting import PATIENCE_S

from sonant.assembly.installation import Store, first_start, open_store, user_arn
from sonant.assembly.service import credential_finder
from sonant.assembly.workers import LocalListener
from sonant.audit.record import Record
from sonant.audit.trail import Trail
from sonant.errors import Conflict
from sonant.gateway import server
from sonant.gateway.models import SIGNING_NAME, load_models
from sonant.gateway.recording import Recorder, audited_operations
from sonant.gateway.signature import Verifier
from sonant.gateway.throttle import Throttle
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.settings import Audit, Settings
from sonant.storage.repositories import access

KNOWN: Answer = {"DomainId": NOBODY, "SessionName": "known"}
MADE: Answer = {"DomainId": NOBODY, "SessionName": "made"}
AT = {"DomainId": NOBODY}
CALL = {**AT, "SessionNameOrId": "contact"}


class Kept(Trail):
    """A trail that also keeps its records where a test sees them."""

    records: list[Record]

    def add(self, record: Record) -> None:
        self.records.append(record)
        super().add(record)


class Door:
    """The front door with operations of the test's own, and the threads that they ran in."""

    def __init__(self, store: Store, trail: Kept) -> None:
        self.store, self.trail = store, trail
        self.ran: list[tuple[str, str]] = []
        self.gate, self.begun = threading.Event(), threading.Event()
        self.gate.set()
        self.known: Answer | None = KNOWN
        self.refuses = False
        service = Service(
            settings=store.settings,
            database=store.database,
            keys_of=store.accounts.keys,
            secret=store.secret,
            listener=LocalListener(store),
            clock=store.clock,
        )
        find = credential_finder(store)
        models = load_models()
        recorder = Recorder(audited=audited_operations(models), clock=store.clock, trail=trail)
        with store.database.write() as connection:
            key = access.create_access_key(connection, store.secret, user_arn(store.settings), store.clock())
        self.credentials = Credentials(*key)
        self.door = server.Gateway(
            models,
            {
                "EvaluateSession": self.evaluate,
                "DescribeDomain": self.describe,
                "ListVoiceDuplicates": self.compare,
            },
            service,
            Verifier(regions=[store.settings.region], service=SIGNING_NAME, skew_s=300.0, find=find),
            Throttle({"EvaluateSession": 0.001}, lambda: 0.0),
            store.settings.gateway,
            recorder,
        )

    def evaluate(self, _service: Service, _caller: Caller, _request: Request) -> Answer:
        self.ran.append(("made", threading.current_thread().name))
        self.begun.set()
        assert self.gate.wait(PATIENCE_S)
        if self.refuses:
            raise Conflict("DOMAIN_NOT_ACTIVE")
        return MADE

    def look(self, _service: Service, _caller: Caller, _request: Request) -> Answer | None:
        self.ran.append(("looked", threading.current_thread().name))
        return self.known

    def describe(self, _service: Service, _caller: Caller, _request: Request) -> Answer:
        self.ran.append(("described", threading.current_thread().name))
        return {"Domain": {"DomainId": NOBODY}}

    def compare(self, _service: Service, _caller: Caller, _request: Request) -> Answer:
        self.ran.append(("compared", threading.current_thread().name))
        self.begun.set()
        assert self.gate.wait(PATIENCE_S)
        return {"Pairs": []}

    async def call(self, operation: str, document: dict[str, Any]) -> tuple[int, Any]:
        body = json.dumps(document).encode()
        headers = {"Host": "localhost", "X-Amz-Target": SERVED[operation].target, "Content-Type": JSON_1_0}
        request = AWSRequest(method="POST", url="http://localhost/", data=body, headers=headers)
        Signer(self.credentials).add_auth(request)
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "scheme": "http",
            "client": ("127.0.0.1", 1),
            "headers": [
                (name.lower().encode(), str(value).encode()) for name, value in request.headers.items()
            ],
        }
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.door(scope, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"])


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    store = open_store(Settings(data=tmp_path / "data"), create=True)
    first_start(store)
    trail = Kept(tmp_path / "audit", Audit(), region="us-east-1", clock=store.clock)
    trail.records = []
    looks: dict[str, Callable[..., Answer | None]] = {}
    monkeypatch.setattr(server, "UNCHANGING", looks)
    looks["EvaluateSession"] = lambda *arguments: made.look(*arguments)
    made = Door(store, trail)
    yield made
    made.gate.set()
    made.door.close()
    trail.close()
    store.database.close()


def run(work: Awaitable[Any]) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(work, PATIENCE_S)

    return asyncio.run(bounded())


def test_a_known_result_is_answered_where_reads_are_and_waits_for_no_disk(door: Door) -> None:
    assert run(door.call("EvaluateSession", CALL)) == (200, KNOWN)
    assert door.ran == [("looked", "reads")]
    (record,) = door.trail.records
    assert (record.operation.name, record.operation.read_only, record.changes) == (
        "EvaluateSession",
        False,
        False,
    )


def test_a_new_result_is_made_in_another_thread_and_its_record_is_on_the_disk(door: Door) -> None:
    door.known = None
    assert run(door.call("EvaluateSession", CALL)) == (200, MADE)
    assert [what for what, _ in door.ran] == ["looked", "made"]
    assert door.ran[0][1] == "reads"
    assert door.ran[1][1].startswith("call")
    (record,) = door.trail.records
    assert record.changes


def test_reads_go_on_while_a_result_is_made(door: Door) -> None:
    door.known = None
    door.gate.clear()

    async def both() -> tuple[int, int]:
        slow = asyncio.create_task(door.call("EvaluateSession", CALL))
        await asyncio.to_thread(door.begun.wait, PATIENCE_S)
        quick, _ = await door.call("DescribeDomain", AT)
        assert not slow.done()
        door.gate.set()
        return quick, (await slow)[0]

    assert run(both()) == (200, 200)
    assert door.ran[-1] == ("described", "reads")


def test_long_operations_leave_all_threads_to_other_calls(door: Door) -> None:
    door.gate.clear()

    async def many() -> tuple[int, list[int]]:
        slow = [asyncio.create_task(door.call("ListVoiceDuplicates", AT)) for _ in range(40)]
        await asyncio.to_thread(door.begun.wait, PATIENCE_S)
        door.known = None
        door.begun.clear()
        other = asyncio.create_task(door.call("EvaluateSession", CALL))
        await asyncio.to_thread(door.begun.wait, PATIENCE_S)
        refused = [call.result()[0] for call in slow if call.done()]
        door.gate.set()
        await asyncio.gather(*slow)
        return (await other)[0], refused

    other, refused = run(many())
    assert other == 200
    assert refused == [429] * (40 - server.MOST_LONG), "what waits is bounded"
    threads = {thread for what, thread in door.ran if what == "compared"}
    assert len(threads) == 2
    assert all(thread.startswith("long call") for thread in threads)


def test_a_refusal_is_recorded_once_and_costs_one_call_of_the_rate(door: Door) -> None:
    door.known, door.refuses = None, True
    answers = [run(door.call("EvaluateSession", CALL))[0] for _ in range(6)]
    assert answers == [409] * 5 + [429], "five calls make a burst"
    assert [record.error is not None for record in door.trail.records] == [True] * 6
    assert [record.changes for record in door.trail.records] == [True] * 5 + [False]


def test_a_call_that_is_refused_at_the_door_is_not_looked_at(door: Door) -> None:
    status, fault = run(door.call("EvaluateSession", AT))
    assert (status, "sessionNameOrId" in fault["Message"]) == (400, True)
    assert door.ran == []
    assert [record.changes for record in door.trail.records] == [False]
