"""Workers, the service and the database may die in mid-call: sessions tell the truth, other calls go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from functools import partial
from typing import Any

import live_mains
import numpy as np
import pytest
from live_testbed import LiveTestbed, customer
from served_testbed import Served
from waiting import PATIENCE_S, wait_until

from sonant.errors import InternalServer, ResourceNotFound
from sonant.sessions import retry_queue
from sonant.sessions.calls import EndReason
from sonant.storage.repositories import sessions
from sonant.storage.repositories.session_samples import AUTHENTICATION, FRAUD
from sonant.storage.repositories.sessions import ENDED, ONGOING, PENDING

SILENCE = np.zeros(1600, np.int16)


@pytest.fixture(scope="module")
def recording(make_call):
    return make_call("english", 11, net_speech_s=14, channels=1)


@pytest.fixture(scope="module")
def talk(recording):
    return customer(recording)


@pytest.fixture
def own(own_testbed):
    """A testbed that takes calls, for one test alone."""
    live = LiveTestbed.of(own_testbed)
    yield live
    live.close()


def workers_of(live):
    return live.manager.worker_pids()


def _others(own: Any, killed: set[int]) -> bool:
    """Whether there are workers, and none of those that were killed."""
    return killed.isdisjoint(workers_of(own) or killed)


@pytest.mark.slow
def test_killed_workers_cost_no_result(own, talk):
    # Given: two calls, heard up to just before there is enough speech
    domain = own.testbed.new_domain()
    names = [own.start(domain).name for _ in range(2)]
    streams = [own.open(domain, name) for name in names]
    for stream in streams:
        own.push(stream, talk[: 10 * 8000])
    assert own.analyzed(domain, names[0]) == {}
    pids = wait_until("there are workers", lambda: workers_of(own))

    # When: the rest comes, and every worker is killed, again and again
    for stream in streams:
        stream.push(talk[10 * 8000 : 18 * 8000], 8000)
    for _ in range(3):
        killed = set(workers_of(own))
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        wait_until("others are there", partial(_others, own, killed))

    # Then
    for stream, name in zip(streams, names, strict=True):
        assert stream.wait_drained(PATIENCE_S)
        assert set(own.analyzed(domain, name)) == {AUTHENTICATION, FRAUD}
        own.hang_up(stream)
    assert not set(pids) & set(workers_of(own))


def test_results_wait_while_the_database_fails(own, talk, monkeypatch, caplog):
    monkeypatch.setattr(retry_queue, "RETRY_FIRST_S", 1.0)  # given up a minute later
    # Given: a call whose results cannot be written
    domain = own.testbed.new_domain()
    names = [own.start(domain).name for _ in range(2)]
    hurt, other = (own.open(domain, name) for name in names)
    for stream in (hurt, other):
        own.push(stream, SILENCE)
    own.testbed.execute("ALTER TABLE session_hearings RENAME TO hidden")

    # When
    for start in range(0, 18 * 8000, 8000):
        wait_until("there is room", lambda: hurt.room_s > 2)
        hurt.push(talk[start : start + 8000], 8000)
    wait_until("the database fails", lambda: "trying again" in caplog.text)
    assert not hurt.wait_drained(0)
    own.push(other, SILENCE)
    own.testbed.execute("ALTER TABLE hidden RENAME TO session_hearings")

    # Then
    assert hurt.wait_drained(PATIENCE_S)
    assert set(own.analyzed(domain, names[0])) == {AUTHENTICATION, FRAUD}
    assert own.ends == []
    for stream in (hurt, other):
        own.hang_up(stream)


def test_failed_heartbeat_is_repeated(own, caplog):
    domain = own.testbed.new_domain()
    name = own.start(domain).name
    stream = own.open(domain, name)
    own.push(stream, SILENCE)

    own.testbed.execute("ALTER TABLE sessions RENAME TO hidden")
    wait_until("a heartbeat fails", lambda: "the database cannot be used" in caplog.text)
    own.testbed.execute("ALTER TABLE hidden RENAME TO sessions")
    own.push(stream, np.zeros(8000, np.int16))

    own.until(domain, name, stream_status=ONGOING, heard_s=pytest.approx(1.2, abs=0.04))
    own.hang_up(stream)


@pytest.mark.slow
def test_result_that_cannot_be_stored_ends_its_stream_only(own, talk, monkeypatch):
    monkeypatch.setattr(retry_queue, "RETRY_FIRST_S", 0.01)
    domain = own.testbed.new_domain()
    names = [own.start(domain).name for _ in range(2)]
    hurt, other = (own.open(domain, name) for name in names)
    for stream in (hurt, other):
        own.push(stream, SILENCE)
    own.testbed.execute("ALTER TABLE session_hearings RENAME TO hidden")
    for start in range(0, 18 * 8000, 8000):
        wait_until("there is room", lambda: hurt.room_s > 2)
        hurt.push(talk[start : start + 8000], 8000)

    assert own.until_ended() == [EndReason.SERVICE_STOPPED]
    own.testbed.execute("ALTER TABLE hidden RENAME TO session_hearings")

    own.until(domain, names[0], stream_status=ENDED, stream_end_reason=EndReason.SERVICE_STOPPED)
    own.push(other, talk)
    assert AUTHENTICATION in own.analyzed(domain, names[1])
    own.hang_up(other)


def test_orderly_stop_stores_results(own, talk):
    domain = own.testbed.new_domain()
    name = own.start(domain).name
    stream = own.open(domain, name)
    own.push(stream, talk)

    own.close()

    session = own.session(domain, name)
    assert (session.stream_status, session.stream_end_reason) == (ENDED, EndReason.SERVICE_STOPPED)
    assert AUTHENTICATION in own.analyzed(domain, name)
    assert own.ends == [EndReason.SERVICE_STOPPED]


@pytest.fixture
def killed(own_testbed, recording, tmp_path):
    """A session whose service was killed in mid-call, and its testbed."""
    domain = own_testbed.new_domain()
    live = LiveTestbed.of(own_testbed)
    name = live.start(domain).name
    (tmp_path / "call.wav").write_bytes(recording)
    process = subprocess.Popen(
        [
            sys.executable,
            live_mains.__file__,
            str(own_testbed.settings.data),
            str(tmp_path / "call.wav"),
            domain,
            name,
        ],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "processed\n"
    assert live.session(domain, name).stream_status == ONGOING
    process.kill()
    process.wait()
    process.stdout.close()
    yield live, domain, name
    live.close()


def test_killed_services_stream_ends_with_its_lease(killed):
    live, domain, name = killed
    later = live.testbed.store.clock() + timedelta(seconds=11)
    with live.testbed.store.database.read() as connection:
        session = sessions.find(connection, domain, name, later)
    assert session is not None
    assert (session.stream_status, session.stream_end_reason) == (ENDED, EndReason.SERVICE_STOPPED)
    assert set(live.analyzed(domain, name)) == {AUTHENTICATION, FRAUD}


@pytest.mark.slow
def test_restarted_service_ends_earlier_streams_at_once(killed, talk):
    # Given: an enrollment was in progress as well
    live, domain, name = killed
    live.testbed.execute("UPDATE sessions SET enrollment_status = 'IN_PROGRESS'")

    # When: the service is started on the same folder
    served = Served(live.testbed, {})
    served.start()
    try:
        # Then
        session = live.session(domain, name)
        assert (session.stream_status, session.stream_end_reason) == (ENDED, EndReason.SERVICE_STOPPED)
        assert session.enrollment_status == "FAILED"
        assert "service stopped" in session.enrollment_message
        assert set(live.analyzed(domain, name)) == {AUTHENTICATION, FRAUD}
    finally:
        served.stop()

    # And: the session takes its next stream
    live.start(domain, name)
    assert live.run_call(domain, name, talk[: 5 * 8000]).stream == 2


def test_changed_model_of_the_domain_is_used_for_later_results(own, talk):
    # Given: a call heard with the shipped model, in a domain that then gets a model that is not there
    domain = own.testbed.new_domain()
    name = own.start(domain).name
    stream = own.open(domain, name)
    own.push(stream, talk)
    assert AUTHENTICATION in own.analyzed(domain, name)

    # When
    own.testbed.execute("UPDATE domains SET model_id = 'another'")

    # Then: what cannot be heard any more is not passed over
    assert own.until_ended() == [EndReason.SERVICE_STOPPED]
    own.until(domain, name, stream_status=ENDED)


def test_nothing_starts_before_the_first_accepted_call(own):
    own.manager.session_changed("id#" + "A" * 22)
    with pytest.raises(ResourceNotFound):
        own.open(own.testbed.new_domain(), "nobody-started-it")
    assert not own.manager.started
    assert own.manager.streams == 0


def test_stopping_service_takes_no_call(own):
    domain = own.testbed.new_domain()
    name = own.start(domain).name
    own.close()
    with pytest.raises(InternalServer):
        own.open(domain, name)
    assert own.session(domain, name).stream_status == PENDING
