"""The outbox: an event is stored exactly when its change is."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from event_peers import NOON
from sqlalchemy import select

from sonant.events import outbox
from sonant.events.documents import speaker_event
from sonant.events.outbox import Outbox
from sonant.storage.database.engine import Database
from sonant.storage.database.schema import event_cursors, events
from sonant.storage.repositories import counters
from sonant.storage.repositories.domains import Domain

LEASE = timedelta(seconds=60)


def put(database: Database, domain: Domain, count: int, *, age: timedelta = timedelta()) -> None:
    told = [speaker_event(domain, "DELETE_SPEAKER", speaker_id=f"id#{number:022}") for number in range(count)]
    with database.write() as connection:
        Outbox(enabled=True).put(connection, told, NOON - age)


def sequences(database: Database) -> list[int]:
    with database.read() as connection:
        return list(connection.execute(select(events.c.sequence).order_by(events.c.sequence)).scalars())


def take(database: Database, sink: str, sequence: int) -> None:
    with database.write() as connection:
        outbox.add_sink(connection, sink)
        assert outbox.acquire_lease(connection, sink, "me", NOON, LEASE)
        assert outbox.advance_cursor(connection, sink, "me", sequence)


def test_events_come_out_in_the_order_in_which_they_were_put(database: Database, domain: Domain) -> None:
    put(database, domain, 3)
    with database.read() as connection:
        found = [json.loads(kept.document) for kept in outbox.events_after(connection, 0, 10)]
        later = outbox.events_after(connection, 2, 10)
    assert [one["detail"]["generatedSpeakerId"][-1] for one in found] == ["0", "1", "2"]
    assert len({one["id"] for one in found}) == 3
    assert [kept.sequence for kept in later] == [3]


def test_event_is_rolled_back_with_its_transaction(database: Database, domain: Domain) -> None:
    with pytest.raises(RuntimeError), database.write() as connection:
        Outbox(enabled=True).put(connection, [speaker_event(domain, "DELETE_SPEAKER", speaker_id=None)], NOON)
        raise RuntimeError
    assert sequences(database) == []


def test_without_sinks_nothing_is_kept(database: Database, domain: Domain) -> None:
    with database.write() as connection:
        Outbox().put(connection, [speaker_event(domain, "DELETE_SPEAKER", speaker_id=None)], NOON)
    assert sequences(database) == []


def test_purge_without_sinks_deletes_all_events(database: Database, domain: Domain) -> None:
    put(database, domain, 2)
    take(database, "file", 1)
    with database.write() as connection:
        assert outbox.purge(connection, [], NOON, None) == (2, 0)
        assert connection.execute(select(event_cursors.c.sink)).all() == []


def test_only_old_events_that_every_sink_took_are_purged(database: Database, domain: Domain) -> None:
    put(database, domain, 2, age=timedelta(days=8))
    put(database, domain, 1)
    take(database, "file", 3)
    take(database, "webhook", 1)
    with database.write() as connection:
        purged = outbox.purge(connection, ["file", "webhook"], NOON - timedelta(days=7), None)
    assert purged == (1, 0)
    assert sequences(database) == [2, 3]


def test_a_sink_that_has_no_cursor_yet_has_taken_nothing(database: Database, domain: Domain) -> None:
    put(database, domain, 1, age=timedelta(days=8))
    with database.write() as connection:
        assert outbox.purge(connection, ["file"], NOON, None) == (0, 0)


def test_events_that_no_sink_takes_are_given_up_after_a_while(database: Database, domain: Domain) -> None:
    put(database, domain, 2, age=timedelta(days=31))
    put(database, domain, 1, age=timedelta(days=29))
    with database.write() as connection:
        done = outbox.purge(connection, ["file"], NOON - timedelta(days=7), NOON - timedelta(days=30))
    assert done == (0, 2)
    assert sequences(database) == [3]


def test_a_number_that_was_purged_never_comes_back(database: Database, domain: Domain) -> None:
    put(database, domain, 3)
    with database.write() as connection:
        outbox.purge(connection, [], NOON, None)
    put(database, domain, 1)
    assert sequences(database) == [4]


def test_two_processes_cannot_deliver_to_one_sink(database: Database) -> None:
    with database.write() as connection:
        outbox.add_sink(connection, "file")
        assert outbox.acquire_lease(connection, "file", "one", NOON, LEASE)
        assert not outbox.acquire_lease(connection, "file", "other", NOON + LEASE / 2, LEASE)
        assert not outbox.advance_cursor(connection, "file", "other", 5)
        assert outbox.cursor(connection, "file") == 0
        assert outbox.acquire_lease(connection, "file", "other", NOON + LEASE * 2, LEASE), "one is dead"
        assert not outbox.advance_cursor(connection, "file", "one", 5)


def test_a_lease_of_a_clock_that_was_ahead_holds_nobody_off(database: Database) -> None:
    with database.write() as connection:
        outbox.add_sink(connection, "file")
        assert outbox.acquire_lease(connection, "file", "one", NOON + timedelta(hours=25), LEASE)
        assert outbox.acquire_lease(connection, "file", "other", NOON, LEASE)


def test_each_sink_has_its_own_count_of_what_waits(database: Database, domain: Domain) -> None:
    put(database, domain, 3)
    take(database, "file", 3)
    take(database, "webhook", 1)
    with database.read() as connection:
        assert outbox.waiting(connection) == {"file": 0, "webhook": 2}


def test_counters_add_up(database: Database) -> None:
    with database.write() as connection:
        counters.add(connection, {("outcomes", "ERROR_400"): 2, ("audio_seconds", ""): 1.5, ("none", ""): 0})
        counters.add(connection, {("outcomes", "ERROR_400"): 1})
        assert counters.read(connection) == {("outcomes", "ERROR_400"): 3.0, ("audio_seconds", ""): 1.5}
