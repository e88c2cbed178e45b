"""Inputs made at random from the models, signed and sent to the app itself: what is wrong is never accepted,
and nothing ends in a fault of the service's own."""

from __future__ import annotations

import asyncio
import json
import random
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from answer_tap import tapped
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from model_inputs import make, right
from sample_requests import ENCRYPTION, NOBODY, SERVED, arn_of
from service_process import ACCOUNT, KEY_ALIAS, ROLE
from signed_http import JSON_1_0, Signer
from sqlite_template import put_tables
from strict_answers import answer_faults, exchange_of
from waiting import PATIENCE_S

from sonant.assembly.installation import first_start, open_store, user_arn
from sonant.assembly.service import App, build_app
from sonant.settings import Audit, Quotas, Rates, Settings
from sonant.storage.repositories import access

#: No request may take longer.
CALL_S = PATIENCE_S
#: What a right input may still end in.
ALLOWED = frozenset((200, 400, 402, 403, 404, 409))


@dataclass(frozen=True, slots=True, kw_only=True)
class Testbed:
    """The app in this process, with an event loop to run it on."""

    app: App
    credentials: Credentials
    loop: asyncio.AbstractEventLoop

    def call(self, operation: str, document: Any) -> tuple[int, Any]:
        body = json.dumps(document).encode()
        headers = {"Host": "localhost", "X-Amz-Target": SERVED[operation].target, "Content-Type": JSON_1_0}
        request = AWSRequest(method="POST", url="http://localhost/", data=body, headers=headers)
        Signer(self.credentials).add_auth(request)
        return self.loop.run_until_complete(asyncio.wait_for(self._send(request.headers, body), CALL_S))

    async def _send(self, headers: Any, body: bytes) -> tuple[int, Any]:
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "scheme": "http",
            "client": ("127.0.0.1", 1),
            "headers": [(name.lower().encode(), str(value).encode()) for name, value in headers.items()],
        }
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        noted: list[dict[str, Any]] = []
        await tapped(self.app.asgi, noted.append)(scope, receive, send)
        for exchange in map(exchange_of, noted):
            assert not (told := answer_faults(exchange)), "\n".join(told)
        answer = b"".join(message.get("body", b"") for message in sent[1:])
        return sent[0]["status"], json.loads(answer) if answer else {}


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    data: Path = tmp_path_factory.mktemp("fuzzed") / "data"
    settings = Settings(
        data=data,
        encoder="ge2e",
        quotas=Quotas(domains_per_account=10**6),
        rates=Rates(factor=0),
        audit=Audit(enabled=False),
    )
    put_tables(data / "sonant.db")
    store = open_store(settings, create=True)
    first_start(store)
    with store.database.write() as connection:
        key = access.create_access_key(connection, store.secret, user_arn(settings), store.clock())
    app, loop = build_app(store), asyncio.new_event_loop()
    yield Testbed(app=app, credentials=Credentials(*key), loop=loop)
    app.close()
    loop.close()


def pools_of(testbed: Testbed) -> dict[str, list[str]]:
    """Good values by shape name, of a new domain and of nobody's."""
    domain = testbed.call("CreateDomain", {"Name": "fuzzed", **ENCRYPTION})[1]["Domain"]
    at = {"DomainId": domain["DomainId"]}
    watchlist = testbed.call("CreateWatchlist", {**at, "Name": "known"})[1]["Watchlist"]
    speaker = testbed.call("OptOutSpeaker", {**at, "SpeakerId": "customer"})[1]["Speaker"]
    session = testbed.call("StartSession", {**at, "SessionName": "contact-1"})[1]["Session"]
    domains = [domain["DomainId"]] * 5 + [NOBODY]
    free = ["a text", "Größe 山田_.:/=+-@", "x" * 128]
    return {
        "AmazonResourceName": [arn_of(one) for one in domains] + [arn_of(NOBODY, account="111111111111")],
        "ClientTokenString": ["token-1", "token-2", "t" * 64],
        "CustomerSpeakerId": ["customer", "other", "c" * 256],
        "Description": [*free, "100%"],
        "DomainId": domains,
        "DomainName": ["calls", "d" * 256],
        "FraudsterId": [f"id#{NOBODY}"],
        "IamRoleArn": [ROLE, f"arn:aws:iam::{ACCOUNT}:role/nobody"],
        "ConsentText": ["verification of callers", "notice 3"],
        "ConsentTextHash": ["ab" * 32],
        "JobId": [NOBODY],
        "JobName": ["nightly"],
        "KmsKeyId": [KEY_ALIAS, "alias/nobody", "x"],
        "NextToken": ["", "AAAA", "not a token"],
        "S3Uri": [
            "s3://calls/x.json",
            "s3://calls",
            "s3://calls/../x",
            "s3://calls//x",
            "s3://calls/x" + "y" * 900,
        ],
        "SessionName": ["contact-1", "contact-2", "s" * 36],
        "SessionNameOrId": ["contact-1", session["SessionId"], "nobody", f"id#{NOBODY}"],
        "SpeakerId": ["customer", "other", speaker["GeneratedSpeakerId"], f"id#{NOBODY}"],
        "TagKey": [*free, "team", "aws:team"],
        "TagValue": ["", *free],
        "WatchlistDescription": free,
        "WatchlistId": [watchlist["WatchlistId"], domain["WatchlistDetails"]["DefaultWatchlistId"], NOBODY],
        "WatchlistName": ["known", "w" * 256],
    }


def fuzz(testbed: Testbed, operation: str, inputs: int) -> Counter[tuple[str, int]]:
    """Send inputs, every one judged; how many there were of each outcome."""
    chance = random.Random(zlib.crc32(operation.encode()))
    shape, pools = SERVED[operation].input_shape, pools_of(testbed)
    outcomes: Counter[tuple[str, int]] = Counter()
    for number in range(inputs):
        wildness = (0.0, 0.05, 0.3)[number % 3]
        document = {} if shape is None else make(shape, chance, pools, wildness)
        fine = shape is None or document is None or right(shape, document)
        if document is None and shape is not None:
            fine = not shape.required_members
        status, answer = testbed.call(operation, document)
        fault = answer.get("__type", "").rpartition("#")[2]
        told = f"{operation} {json.dumps(document)[:2000]} -> {status} {answer}"
        assert status in ALLOWED, told
        if fine:
            assert fault != "SerializationException", told
            assert (
                not fault.startswith("ValidationException") or "failed to satisfy" not in answer["Message"]
            ), told
        else:
            assert fault in ("SerializationException", "ValidationException"), told
        outcomes["right" if fine else "wrong", status] += 1
    return outcomes


def assert_told_apart(operation: str, outcomes: Counter[tuple[str, int]]) -> None:
    """Both kinds of input were among them, or the test would show nothing."""
    kinds = {kind for kind, _ in outcomes}
    shape = SERVED[operation].input_shape
    assert "right" in kinds
    assert "wrong" in kinds or not (shape and shape.members)


@pytest.mark.parametrize("operation", sorted(SERVED))
def test_wrong_inputs_are_refused_and_right_ones_answered(testbed: Testbed, operation: str) -> None:
    assert_told_apart(operation, fuzz(testbed, operation, 30))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("operation", sorted(SERVED))
def test_wrong_inputs_are_refused_and_right_ones_answered_however_many(
    testbed: Testbed, operation: str
) -> None:
    assert_told_apart(operation, fuzz(testbed, operation, 2000))
