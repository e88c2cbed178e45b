"""The housekeeper's turns: what is due is done, what fails is tried again, with a clock moved by hand."""

from __future__ import annotations

import dataclasses
import socket
import threading
from datetime import datetime, timedelta

from kept_testbed import INSTANT, START, enroll, rows_left
from waiting import PATIENCE_S

from sonant.retention.housekeeping import AWAY_S, RETRY_S, SETTLED_S, SWEEP_S
from sonant.storage.database.engine import Database
from sonant.storage.repositories import domains


def test_a_step_that_fails_does_not_stop_the_others_and_is_tried_again(kept, keeper, clock, caplog):
    domain_id = kept.new_domain()
    enroll(kept, domain_id, "customer-1")
    gone = kept.new_domain()
    kept.call("DeleteDomain", DomainId=gone)
    if kept.settings.embedded:
        refusal = "BEGIN SELECT RAISE(ABORT, 'the disk says no'); END"
    else:
        kept.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql "
            "AS $$ BEGIN RAISE EXCEPTION 'the disk says no'; END $$"
        )
        refusal = "FOR EACH ROW EXECUTE FUNCTION refuse()"
    kept.execute(f"CREATE TRIGGER refuse BEFORE DELETE ON domains {refusal}")
    clock.now = START.replace(year=2030)
    due: dict[str, datetime] = {}
    keeper.turn(due)
    assert kept.speakers(domain_id)["customer-1"].status == "EXPIRED"
    assert "erasing domains failed" in caplog.text
    kept.execute("DROP TRIGGER refuse" + ("" if kept.settings.embedded else " ON domains"))
    clock.now += timedelta(seconds=RETRY_S) - INSTANT
    keeper.turn(due)
    assert "domains" in rows_left(kept)
    with kept.store.database.read() as connection:
        assert domains.find_by_id(connection, gone) is not None, "a fault is not met again every second"
    clock.now += INSTANT
    keeper.turn(due)
    with kept.store.database.read() as connection:
        assert domains.find_by_id(connection, gone) is None


def test_absent_database_is_reported_in_one_line_and_asked_again_soon(kept, keeper, clock, caplog):
    gone = kept.new_domain()
    kept.call("DeleteDomain", DomainId=gone)
    with socket.socket() as nobody:  # bound, and never listened on
        nobody.bind(("127.0.0.1", 0))
        away = Database(f"postgresql://sonant@127.0.0.1:{nobody.getsockname()[1]}/sonant")
        clock.now = START.replace(year=2030)
        due: dict[str, datetime] = {}
        dataclasses.replace(keeper, database=away).turn(due)
        away.close()
    lines = [record for record in caplog.records if record.name == "sonant.retention.housekeeping"]
    assert [record.getMessage().split(":")[0] for record in lines if record.levelname == "WARNING"] == [
        "key changes",
        "erasing domains",
        "expiring speakers",
        "forgetting comparisons",
        "forgetting deletions",
        "forgetting misses",
        "purging events",
        "forgetting tokens",
        "deleting requests of ended jobs",
    ]
    assert len(lines) == 9
    assert not any(record.exc_info for record in lines)
    clock.now += timedelta(seconds=AWAY_S)
    keeper.turn(due)
    with kept.store.database.read() as connection:
        assert domains.find_by_id(connection, gone) is None


def test_domains_and_speakers_are_looked_at_once_a_day(kept, keeper, clock):
    domain_id = kept.new_domain()
    enroll(kept, domain_id, "customer-1")
    due: dict[str, datetime] = {}
    clock.now = years_later = START.replace(year=2029, minute=0)
    keeper.turn(due)
    clock.now = years_later + timedelta(seconds=SWEEP_S) - INSTANT
    keeper.turn(due)
    assert kept.speakers(domain_id)["customer-1"].status == "ENROLLED"
    clock.now += INSTANT
    keeper.turn(due)
    assert kept.speakers(domain_id)["customer-1"].status == "EXPIRED"


def test_after_a_jump_of_the_clock_nothing_is_destroyed_for_an_hour(kept, keeper, clock, caplog):
    gone = kept.new_domain()
    kept.call("DeleteDomain", DomainId=gone)
    domain_id = kept.new_domain()
    enroll(kept, domain_id, "customer-1")
    due: dict[str, float] = {}
    before = clock.now
    clock.now = START.replace(year=2038)
    keeper.turn(due, steady_s=SETTLED_S - 1)
    with kept.store.database.read() as connection:
        assert domains.find_by_id(connection, gone) is not None
    assert kept.speakers(domain_id)["customer-1"].status == "ENROLLED"
    assert "erasing domains waits: the clock has jumped; trying again in 60 s" in caplog.text

    clock.now = before + timedelta(days=31)
    keeper.turn({}, steady_s=SETTLED_S)
    with kept.store.database.read() as connection:
        assert domains.find_by_id(connection, gone) is None


def test_a_clock_that_jumped_and_came_back_delays_no_step(kept, keeper, clock):
    due: dict[str, float] = {}
    time_s = 0.0
    measured = dataclasses.replace(keeper, monotonic_s=lambda: time_s)
    clock.now += timedelta(hours=25)
    measured.turn(due)
    clock.now -= timedelta(hours=25)
    time_s = 24 * 3600.0
    assert all(at_s <= time_s for at_s in due.values())


def test_thread_of_the_housekeeper_ends_when_it_is_stopped(keeper):
    stop = threading.Event()
    thread = threading.Thread(target=keeper.run, args=(stop,))
    thread.start()
    stop.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
