"""Delivery of events: at least once, in order, under all failures of a sink."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from event_peers import Peer, reply
from sqlalchemy import Connection
from waiting import PATIENCE_S, wait_until

from sonant.events import dispatcher as events_dispatcher
from sonant.events import outbox
from sonant.events.dispatcher import LEASE, Delivery, Dispatcher
from sonant.events.documents import speaker_event
from sonant.events.outbox import Outbox
from sonant.events.sinks import Sink, SinkFault
from sonant.events.sinks.file import FileSink
from sonant.events.sinks.webhook import WebhookSink
from sonant.settings import Events
from sonant.storage.database.engine import Database
from sonant.storage.repositories.domains import Domain
from sonant.storage.times import now

FAST = Events(poll_s=0.01, retry_first_s=0.02, retry_most_s=0.1, batch=4)


def put(database: Database, domain: Domain, *numbers: int) -> None:
    told = [speaker_event(domain, "DELETE_SPEAKER", speaker_id=f"id#{number:022}") for number in numbers]
    with database.write() as connection:
        Outbox(enabled=True).put(connection, told, now())


def numbers(documents: list[dict[str, dict[str, str]]]) -> list[int]:
    return [int(one["detail"]["generatedSpeakerId"].removeprefix("id#")) for one in documents]


def posted(peer: Peer) -> list[int]:
    return numbers([one for _, body in peer.received for one in json.loads(body)])


def waiting(database: Database) -> dict[str, int]:
    with database.read() as connection:
        return outbox.waiting(connection)


def written(path: Path) -> list[int]:
    return numbers([json.loads(line) for line in path.read_text().splitlines()]) if path.exists() else []


@pytest.fixture
def start(database: Database) -> Iterator[Callable[..., Dispatcher]]:
    running: list[Dispatcher] = []

    def make(*sinks: Sink, owner: str = "one", alone: bool = True) -> Dispatcher:
        dispatcher = Dispatcher(
            database=database, sinks=sinks, settings=FAST, owner=owner, alone=alone, clock=now
        )
        dispatcher.start()
        running.append(dispatcher)
        return dispatcher

    yield make
    for dispatcher in running:
        dispatcher.stop()


def webhook(peer: Peer) -> WebhookSink:
    return WebhookSink(peer.url, secret="0123456789abcdef", time_limit_s=PATIENCE_S)


def test_events_reach_every_sink_in_order(
    database: Database, domain: Domain, tmp_path: Path, peer: Peer, start: Callable[..., Dispatcher]
) -> None:
    put(database, domain, *range(10))
    start(FileSink(tmp_path / "e", max_bytes=1 << 20, keep=1), webhook(peer))
    put(database, domain, 10, 11)
    wait_until("they are delivered", lambda: len(posted(peer)) == 12 and len(written(tmp_path / "e")) == 12)
    assert posted(peer) == written(tmp_path / "e") == list(range(12))


def test_failing_webhook_gets_the_same_events_until_it_accepts(
    database: Database, domain: Domain, peer: Peer, start: Callable[..., Dispatcher]
) -> None:
    put(database, domain, *range(6))
    peer.answer = lambda handler, _body: reply(handler, 503 if len(peer.received) < 4 else 200)
    start(webhook(peer))
    wait_until("they are delivered", lambda: len(peer.received) == 5)
    bodies = [body for _, body in peer.received]
    assert bodies[0] == bodies[1] == bodies[2] == bodies[3]
    assert numbers(json.loads(bodies[3])) + numbers(json.loads(bodies[4])) == list(range(6))


def test_a_sink_that_is_gone_holds_up_no_other(
    database: Database, domain: Domain, tmp_path: Path, peer: Peer, start: Callable[..., Dispatcher]
) -> None:
    peer.answer = lambda handler, _body: reply(handler, 500)
    start(webhook(peer), FileSink(tmp_path / "e", max_bytes=1 << 20, keep=1))
    put(database, domain, *range(20))
    wait_until("they are delivered", lambda: written(tmp_path / "e") == list(range(20)))
    wait_until("they are delivered", lambda: waiting(database) == {"webhook": 20, "file": 0})


def test_the_next_process_goes_on_where_the_last_one_stopped(
    database: Database, domain: Domain, peer: Peer, start: Callable[..., Dispatcher]
) -> None:
    put(database, domain, 0, 1)
    first = start(webhook(peer))
    wait_until("they are delivered", lambda: posted(peer) == [0, 1])
    first.stop()
    put(database, domain, 2)
    start(webhook(peer), owner="two", alone=False)
    wait_until("they are delivered", lambda: len(posted(peer)) > 2)
    assert posted(peer) == [0, 1, 2]


def test_while_one_process_delivers_another_waits(
    database: Database,
    domain: Domain,
    peer: Peer,
    start: Callable[..., Dispatcher],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[str] = []
    acquire_lease, delivering, both_are_there = outbox.acquire_lease, threading.Event(), threading.Event()

    def recorded(connection: Connection, sink: str, owner: str, moment: datetime, lease: timedelta) -> bool:
        acquired = acquire_lease(connection, sink, owner, moment, lease)
        looked.append(owner)
        return acquired

    def answer(handler: BaseHTTPRequestHandler, _body: bytes) -> None:
        delivering.set()
        both_are_there.wait()
        reply(handler, 204)

    peer.answer = answer
    monkeypatch.setattr(outbox, "acquire_lease", recorded)
    monkeypatch.setattr(events_dispatcher, "LEASE", timedelta(hours=1))
    put(database, domain, 0, 1)
    start(webhook(peer), owner="one")
    assert delivering.wait(PATIENCE_S)
    start(webhook(peer), owner="two", alone=False)
    wait_until("the other has looked", lambda: "two" in looked)
    both_are_there.set()
    put(database, domain, 2)
    wait_until("they are delivered", lambda: len(posted(peer)) == 3)
    assert posted(peer) == [0, 1, 2]


class Refusing:
    name = "file"

    def deliver(self, documents: object) -> int:
        raise SinkFault("not now")

    def close(self) -> None:
        pass


class StopAfter(threading.Event):
    """Collects the pauses of a loop, and ends it after some of them."""

    def __init__(self, pauses: int) -> None:
        super().__init__()
        self.pauses_s: list[float] = []
        self._most = pauses

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.pauses_s.append(timeout)
        if len(self.pauses_s) == self._most:
            self.set()
        return self.is_set()


def test_pauses_double_up_to_a_limit(database: Database, domain: Domain) -> None:
    put(database, domain, 0)
    stop = StopAfter(pauses=12)
    Delivery(Refusing(), database, Events(retry_first_s=1, retry_most_s=300), "me", now).run(stop, True)
    for failures, pause_s in enumerate(stop.pauses_s):
        assert min(2**failures, 150) <= pause_s <= min(2 ** (failures + 1), 300)


def test_delivery_that_lost_its_lease_does_not_move_the_cursor(
    database: Database, domain: Domain, tmp_path: Path
) -> None:
    """Given a delivery so slow that another process took over, then the other's cursor stands."""
    put(database, domain, 0, 1)

    class Slow(FileSink):
        def deliver(self, documents: object) -> int:
            with database.write() as connection:
                assert outbox.acquire_lease(connection, "file", "other", now() + LEASE * 2, LEASE)
            return super().deliver(documents)  # type: ignore[arg-type]

    with database.write() as connection:
        outbox.add_sink(connection, "file")
    Delivery(Slow(tmp_path / "e", max_bytes=1 << 20, keep=1), database, FAST, "me", now).deliver_batch()
    with database.read() as connection:
        assert outbox.cursor(connection, "file") == 0
