"""What the integration tests share: one testbed a test process, with recordings of real people."""

from __future__ import annotations

import contextlib

import pytest
from batch_testbed import Testbed
from kept_testbed import MovedClock
from live_testbed import LiveTestbed
from postgres_server import not_default

from sonant.retention.housekeeping import Housekeeper
from sonant.settings import Enrollment, Events, Fraud, Jobs, Live, Quotas, Registration, Settings

#: Net speech an enrollment needs here: short, so that a request costs some hundredths of a second.
NEED_S = 6.0
VOICES = ("english", "french", "italian", "russian")


@pytest.fixture(scope="session")
def calls(make_call):
    """Recordings by name: for each voice two calls with enough speech, and one with too little."""
    found = {}
    for voice in VOICES:
        found[f"{voice}.wav"] = make_call(voice, 1, net_speech_s=9)
        found[f"{voice}-again.wav"] = make_call(voice, 2, net_speech_s=9, fresh=True)
        found[f"{voice}-short.wav"] = make_call(voice, 3, net_speech_s=3, duration_s=8, channels=1)
        for number in (2, 3, 4):
            part = make_call(voice, 20 + number, net_speech_s=3, duration_s=8, channels=1)
            found[f"{voice}-short-{number}.wav"] = part
    return found


def _settings(data, database=""):
    return Settings(
        data=data,
        database=database,
        encoder="ge2e",  # takes a third of the time; jobs and calls are the subject
        enrollment=Enrollment(net_speech_s=NEED_S),
        registration=Registration(net_speech_s=NEED_S),
        jobs=Jobs(workers=1),
        fraud=Fraud(spoofing_max_s=0),  # has tests of its own: elsewhere it only costs time
        quotas=Quotas(domains_per_account=1000),
        live=Live(workers=1),
    )


def _furnished(data, calls, database=""):
    testbed = Testbed.open(_settings(data, database))
    for name, recording in calls.items():
        testbed.put(f"s3://calls/{name}", recording)
    return testbed


@pytest.fixture(scope="session", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def testbed(request, tmp_path_factory, calls):
    """A testbed that tests share; each makes its own domain."""
    with contextlib.ExitStack() as stack:
        database = ""
        if request.param == "postgresql":
            database = stack.enter_context(request.getfixturevalue("postgres_server").migrated())
        testbed = _furnished(tmp_path_factory.mktemp("testbed") / "data", calls, database)
        yield testbed
        testbed.close()


@pytest.fixture
def own_testbed(tmp_path, calls):
    """A testbed for one test alone, which may do with it what it likes."""
    testbed = _furnished(tmp_path / "own", calls)
    yield testbed
    testbed.close()


@pytest.fixture
def domain(testbed):
    return testbed.new_domain()


@pytest.fixture
def variant(testbed):
    """Testbeds on the shared data folder with other settings; closed after the test."""
    made = []

    def make(**changes):
        made.append(testbed.variant(**changes))
        return made[-1]

    yield make
    for other in made:
        other.close()


@pytest.fixture
def clock():
    """Moved by hand."""
    return MovedClock()


@pytest.fixture
def kept(tmp_path, clock, database_url):
    """An empty testbed on the moved clock."""
    testbed = Testbed.open(_settings(tmp_path / "data", not_default(database_url)), clock=clock)
    yield testbed
    testbed.close()


@pytest.fixture
def keeper(kept, clock):
    return Housekeeper(
        database=kept.store.database,
        keys_of=kept.store.accounts.keys,
        clock=clock,
        monotonic_s=lambda: clock().timestamp(),
    )


@pytest.fixture(scope="session")
def _shared_calls(testbed):
    settings = Live(workers=1, keep_audio=True)
    live = LiveTestbed.of(testbed.variant(live=settings, events=Events(sinks="file")))
    yield live
    live.close()
    live.testbed.close()


@pytest.fixture
def live(_shared_calls):
    """A testbed that takes calls, with workers that tests share; speech that results came from is kept."""
    _shared_calls.ends.clear()
    return _shared_calls
