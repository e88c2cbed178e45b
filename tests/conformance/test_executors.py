"""Which threads answer which operations: reads, changes, and EvaluateSession, which is either."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from sample_requests import NOBODY, SERVED
from signed_http import JSON_1_0, Signer
from sqlite_template import put_tables
from tampering import altered_text
from waiting import PATIENCE_S, until

from sonant.assembly.installation import Store, first_start, open_store, user_arn
from sonant.assembly.service import credential_finder
from sonant.assembly.workers import LocalListener
from sonant.audit.record import Record
from sonant.audit.trail import Trail
from sonant.errors import Conflict
from sonant.gateway.app import aws_endpoint
from sonant.gateway.handlers import check_route, enter_executor
from sonant.gateway.models import SIGNING_NAME, load_models
from sonant.gateway.recording import Recorder, audited_operations
from sonant.gateway.server import MOST_LONG, REQUEST_HANDLERS, Gateway
from sonant.gateway.signature import Verifier
from sonant.gateway.throttle import Throttle
from sonant.iam import ALLOW_ALL
from sonant.operations.registry import ExecutorKind, RegisteredOperation
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.settings import Audit, Settings
from sonant.storage.repositories import access

KNOWN: Answer = {"DomainId": NOBODY, "SessionName": "known"}
MADE: Answer = {"DomainId": NOBODY, "SessionName": "made"}
AT = {"DomainId": NOBODY}
CALL = {**AT, "SessionNameOrId": "contact"}


class RecordingTrail(Trail):
    """An audit trail that also holds its records for the test."""

    records: list[Record]

    def add(self, record: Record) -> None:
        self.records.append(record)
        super().add(record)


class GatedGateway:
    """A gateway with operations of the test's own, which note their threads and wait for `gate`."""

    def __init__(self, store: Store, trail: RecordingTrail) -> None:
        self.store, self.trail = store, trail
        self.ran: list[tuple[str, str]] = []
        self.gate, self.begun = threading.Event(), threading.Event()
        self.gate.set()
        self.known: Answer | None = KNOWN
        self.refuses = False
        self.compared_by: list[str] = []
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
            arn = "arn:aws:iam::222222222222:user/other"
            access.put_principal(connection, arn, "222222222222", [ALLOW_ALL], store.clock())
            keys = [
                access.create_access_key(connection, store.secret, one, store.clock())
                for one in (user_arn(store.settings), arn)
            ]
        self.credentials, self.others_credentials = (Credentials(*key) for key in keys)
        self.gateway = Gateway(
            models,
            {
                "EvaluateSession": RegisteredOperation(function=self.evaluate, read_first=self.look),
                "DescribeDomain": RegisteredOperation(function=self.describe),
                "ListVoiceDuplicates": RegisteredOperation(function=self.compare, executor=ExecutorKind.LONG),
                "CompareRecording": RegisteredOperation(
                    function=self.compare, executor=ExecutorKind.RECORDING
                ),
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

    def compare(self, _service: Service, caller: Caller, _request: Request) -> Answer:
        self.ran.append(("compared", threading.current_thread().name))
        self.compared_by.append(caller.account_id)
        self.begun.set()
        assert self.gate.wait(PATIENCE_S)
        return {"Pairs": []}

    async def call(
        self, operation: str, document: dict[str, Any], credentials: Credentials | None = None
    ) -> tuple[int, Any]:
        body = json.dumps(document).encode()
        headers = {"Host": "localhost", "X-Amz-Target": SERVED[operation].target, "Content-Type": JSON_1_0}
        request = AWSRequest(method="POST", url="http://localhost/", data=body, headers=headers)
        Signer(credentials or self.credentials).add_auth(request)
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

        await aws_endpoint(self.gateway)(scope, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"])


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[GatedGateway]:
    put_tables(tmp_path / "data" / "sonant.db")
    store = open_store(Settings(data=tmp_path / "data"), create=True)
    first_start(store)
    trail = RecordingTrail(tmp_path / "audit", Audit(), region="us-east-1", clock=store.clock)
    trail.records = []
    made = GatedGateway(store, trail)
    yield made
    made.gate.set()
    made.gateway.close()
    trail.close()
    store.database.close()


def run(work: Awaitable[Any]) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(work, PATIENCE_S)

    return asyncio.run(bounded())


def test_only_the_check_of_the_route_runs_on_the_event_loop() -> None:
    before = REQUEST_HANDLERS[: REQUEST_HANDLERS.index(enter_executor)]
    assert before == (check_route,)


def test_a_known_result_is_answered_by_the_reading_thread(gated: GatedGateway) -> None:
    assert run(gated.call("EvaluateSession", CALL)) == (200, KNOWN)
    assert gated.ran == [("looked", "reads")]
    (record,) = gated.trail.records
    assert (record.operation.name, record.operation.read_only, record.changes) == (
        "EvaluateSession",
        False,
        False,
    )


def test_a_new_result_is_made_in_a_writing_thread_and_recorded(gated: GatedGateway) -> None:
    gated.known = None
    assert run(gated.call("EvaluateSession", CALL)) == (200, MADE)
    assert [what for what, _ in gated.ran] == ["looked", "made"]
    assert gated.ran[0][1] == "reads"
    assert gated.ran[1][1].startswith("call")
    (record,) = gated.trail.records
    assert record.changes


def test_reads_continue_while_a_result_is_made(gated: GatedGateway) -> None:
    gated.known = None
    gated.gate.clear()

    async def both() -> tuple[int, int]:
        slow = asyncio.create_task(gated.call("EvaluateSession", CALL))
        await asyncio.to_thread(gated.begun.wait, PATIENCE_S)
        quick, _ = await gated.call("DescribeDomain", AT)
        assert not slow.done()
        gated.gate.set()
        return quick, (await slow)[0]

    assert run(both()) == (200, 200)
    assert gated.ran[-1] == ("described", "reads")


def test_long_operations_take_no_threads_of_other_calls(gated: GatedGateway) -> None:
    gated.gate.clear()

    async def many() -> tuple[int, list[int]]:
        slow = [asyncio.create_task(gated.call("ListVoiceDuplicates", AT)) for _ in range(40)]
        await asyncio.to_thread(gated.begun.wait, PATIENCE_S)
        gated.known = None
        gated.begun.clear()
        other = asyncio.create_task(gated.call("EvaluateSession", CALL))
        await asyncio.to_thread(gated.begun.wait, PATIENCE_S)
        await until("as many wait as may", lambda: sum(call.done() for call in slow) >= 40 - MOST_LONG)
        refused = [call.result()[0] for call in slow if call.done()]
        gated.gate.set()
        await asyncio.gather(*slow)
        return (await other)[0], refused

    other, refused = run(many())
    assert other == 200
    assert len(refused) >= 40 - MOST_LONG, "what waits is bounded"
    assert set(refused) == {429}
    threads = {thread for what, thread in gated.ran if what == "compared"}
    assert all(thread.startswith("long call") for thread in threads)


def test_an_account_with_many_long_operations_leaves_a_thread_to_others(gated: GatedGateway) -> None:
    # Until a signature of a key was verified, its calls have the share of their address.
    for credentials in (gated.credentials, gated.others_credentials):
        assert run(gated.call("DescribeDomain", AT, credentials))[0] == 200
    gated.gate.clear()

    async def many() -> tuple[list[str], list[int]]:
        slow = [asyncio.create_task(gated.call("ListVoiceDuplicates", AT)) for _ in range(40)]
        await until("as many wait as may", lambda: sum(call.done() for call in slow) >= 40 - MOST_LONG)
        await asyncio.to_thread(gated.begun.wait, PATIENCE_S)
        other = asyncio.create_task(gated.call("ListVoiceDuplicates", AT, gated.others_credentials))
        await until("the other account's runs", lambda: len(gated.compared_by) > 1 or other.done())
        began = list(gated.compared_by)
        gated.gate.set()
        await asyncio.gather(*slow)
        return began, [(await other)[0], *(call.result()[0] for call in slow)]

    began, statuses = run(many())
    assert began == ["0" * 12, "2" * 12]
    assert statuses[0] == 200
    assert statuses.count(429) >= 40 - MOST_LONG + 1, "one of the many made room for the other account's"


def test_a_flood_of_unsigned_calls_is_not_in_the_way_of_a_known_account(gated: GatedGateway) -> None:
    gated.known = None
    assert run(gated.call("EvaluateSession", CALL))[0] == 200
    forger = Credentials(altered_text(gated.credentials.access_key), "no secret")

    async def flood() -> tuple[int, list[int]]:
        most = gated.store.settings.gateway.max_waiting
        forged = [asyncio.create_task(gated.call("DescribeDomain", AT, forger)) for _ in range(2 * most)]
        await asyncio.sleep(0)
        honest = await gated.call("DescribeDomain", AT)
        return honest[0], [status for status, _ in await asyncio.gather(*forged)]

    honest, forged = run(flood())
    assert honest == 200
    assert set(forged) == {400, 429}


def test_a_refused_call_is_recorded_once_and_counted_once(gated: GatedGateway) -> None:
    gated.known, gated.refuses = None, True
    answers = [run(gated.call("EvaluateSession", CALL))[0] for _ in range(6)]
    assert answers == [409] * 5 + [429], "five calls make a burst"
    assert [record.error is not None for record in gated.trail.records] == [True] * 6
    assert [record.changes for record in gated.trail.records] == [True] * 5 + [False]


def test_an_invalid_call_reaches_no_operation(gated: GatedGateway) -> None:
    status, fault = run(gated.call("EvaluateSession", AT))
    assert (status, "sessionNameOrId" in fault["Message"]) == (400, True)
    assert gated.ran == []
    assert [record.changes for record in gated.trail.records] == [False]
