"""What time does to sessions, with a clock moved by hand."""

from __future__ import annotations

from datetime import timedelta

import pytest
from kept_testbed import INSTANT, vault_of
from made_samples import made_sample

from sonant.retention.sessions import LOST, SessionKeeper
from sonant.sessions.context import LEASE
from sonant.storage.repositories import session_streams, sessions, speakers
from sonant.storage.repositories.session_streams import Progress
from sonant.storage.repositories.sessions import ENDED, ONGOING, PENDING

IDLE, KEPT = timedelta(seconds=60), timedelta(hours=24)


@pytest.fixture
def domain(kept):
    return kept.new_domain()


@pytest.fixture
def sessions_keeper(kept, clock):
    return SessionKeeper(database=kept.store.database, clock=clock)


def start(kept, domain, name="call", **request):
    kept.call("StartSession", DomainId=domain, SessionName=name, **request)
    return found(kept, domain, name)


def found(kept, domain, name="call"):
    with kept.store.database.read() as connection:
        return sessions.find(connection, domain, name, kept.store.clock())


def stored(kept, name="call"):
    """The streaming status as it stands in the table."""
    with kept.store.database.read() as connection:
        from sonant.storage.database.schema import sessions as table

        return connection.execute(table.select().where(table.c.name == name)).one().stream_status


def ring(kept, session, clock):
    with kept.store.database.write() as connection:
        assert session_streams.claim(connection, session.session_id, 1, "me", clock.now, clock.now + LEASE)


def test_session_without_a_stream_is_stored_as_ended(kept, domain, clock, sessions_keeper):
    session = start(kept, domain)
    clock.now += IDLE
    assert sessions_keeper.end_silent() == 0
    assert stored(kept) == PENDING

    clock.now += INSTANT
    assert sessions_keeper.end_silent() == 1

    ended = found(kept, domain)
    assert (stored(kept), ended.stream_end_reason) == (ENDED, "NEVER_BEGAN")
    assert ended.stream_ended_at == session.created_at + IDLE
    assert sessions_keeper.end_silent() == 0


def test_stream_without_heartbeat_is_stored_as_ended(kept, domain, clock, sessions_keeper):
    silent, beating = start(kept, domain, "silent"), start(kept, domain, "beating")
    for session in (silent, beating):
        ring(kept, session, clock)
    clock.now += LEASE
    progress = Progress(session_id=beating.session_id, stream=1, heard_s=10.0, net_speech_s=4.0)
    with kept.store.database.write() as connection:
        session_streams.heartbeat(connection, "me", [progress], clock.now + LEASE)
    clock.now += INSTANT

    assert sessions_keeper.end_silent() == 1

    assert found(kept, domain, "silent").stream_end_reason == "SERVICE_STOPPED"
    assert stored(kept, "beating") == ONGOING


@pytest.mark.parametrize("began", [False, True])
def test_stalled_enrollment_fails(kept, domain, clock, sessions_keeper, began):
    session = start(kept, domain, SpeakerId="customer")
    ring(kept, session, clock)
    with kept.store.database.write() as connection:
        sessions.set_enrollment(connection, session.session_id, "IN_PROGRESS", None, clock.now)
        if began:  # EndStream came while the voiceprint was made, and then the process died
            session_streams.end(connection, session.session_id, 1, "REQUESTED", clock.now, clock.now + KEPT)
    clock.now += timedelta(minutes=5) + INSTANT

    assert sessions_keeper.end_silent() == 1

    ended = found(kept, domain)
    assert (ended.enrollment_status, ended.enrollment_message) == ("FAILED", LOST)


def test_session_is_erased_a_day_after_its_last_stream(kept, domain, clock, sessions_keeper):
    start(kept, domain)
    clock.now += IDLE + INSTANT
    sessions_keeper.end_silent()
    clock.now += KEPT - INSTANT
    assert sessions_keeper.erase_old() == 0
    assert found(kept, domain) is not None

    clock.now += INSTANT
    assert sessions_keeper.erase_old() == 1
    assert found(kept, domain) is None


def test_pending_speaker_is_deleted_a_day_after_its_session(kept, domain, clock, sessions_keeper):
    # Given: three speakers made by sessions; one is enrolled by now, one is on a session that is kept
    for name in ("gone", "enrolled", "kept"):
        start(kept, domain, name, SpeakerId=name)
    enrolled = kept.speakers(domain)["enrolled"]
    with kept.store.database.write() as connection:
        seal = enrolled.seal(vault_of(kept, connection, domain))
        sample = made_sample([0.0] * 256, net_speech_s=6.0)
        speakers.enroll(connection, seal, enrolled.speaker_id, sample, clock.now)
    clock.now += IDLE + INSTANT
    sessions_keeper.end_silent()
    clock.now += KEPT
    kept.call("StartSession", DomainId=domain, SessionName="kept")
    assert sessions_keeper.forget_pending() == 0, "their sessions are still there"
    sessions_keeper.erase_old()

    # When
    assert sessions_keeper.forget_pending() == 1

    # Then
    assert set(kept.speakers(domain)) == {"enrolled", "kept"}


def test_restart_ends_ongoing_streams_and_leaves_pending_ones(kept, domain, clock, sessions_keeper):
    ring(kept, start(kept, domain, "ongoing"), clock)
    start(kept, domain, "waiting")

    assert sessions_keeper.take_over() == 1

    assert found(kept, domain, "ongoing").stream_end_reason == "SERVICE_STOPPED"
    assert stored(kept, "waiting") == PENDING


def test_housekeeper_runs_all_steps(kept, domain, clock, keeper, sessions_keeper):
    from dataclasses import replace

    start(kept, domain, SpeakerId="customer")
    testbed = replace(keeper, sessions=sessions_keeper)
    clock.now += IDLE + INSTANT
    testbed.turn({})
    clock.now += KEPT + INSTANT
    testbed.turn({})
    assert found(kept, domain) is None
    assert kept.speakers(domain) == {}
