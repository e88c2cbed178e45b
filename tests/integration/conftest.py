"""What the integration tests share: one house a test process, with recordings of real people."""

from __future__ import annotations

import contextlib

import pytest
from batch_house import House
from kept_house import MovedClock
from live_house import LiveHouse

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
    return found


def _settings(data, database=""):
    return Settings(
        data=data,
        database=database,
        enrollment=Enrollment(net_speech_s=NEED_S),
        registration=Registration(net_speech_s=NEED_S),
        jobs=Jobs(workers=1),
        fraud=Fraud(spoofing_max_s=0),  # has tests of its own: elsewhere it only costs time
        quotas=Quotas(domains_per_account=1000),
        live=Live(workers=1),
    )


def _furnished(data, calls, database=""):
    house = House.open(_settings(data, database))
    for name, recording in calls.items():
        house.put(f"s3://calls/{name}", recording)
    return house


@pytest.fixture(scope="session", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def house(request, tmp_path_factory, calls):
    """A house that tests share; each makes its own domain."""
    with contextlib.ExitStack() as stack:
        database = ""
        if request.param == "postgresql":
            database = stack.enter_context(request.getfixturevalue("postgres_server").migrated())
        house = _furnished(tmp_path_factory.mktemp("house") / "data", calls, database)
        yield house
        house.close()


@pytest.fixture
def own_house(tmp_path, calls):
    """A house for one test alone, which may do with it what it likes."""
    house = _furnished(tmp_path / "own", calls)
    yield house
    house.close()


@pytest.fixture
def domain(house):
    return house.new_domain()


@pytest.fixture
def variant(house):
    """Houses on the shared data folder with other settings; closed after the test."""
    made = []

    def make(**changes):
        made.append(house.variant(**changes))
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
    """An empty house on the moved clock."""
    house = House.open(_settings(tmp_path / "data", not_default(database_url)), clock=clock)
    yield house
    house.close()


@pytest.fixture
def keeper(kept, clock):
    return Housekeeper(
        database=kept.store.database,
        keys_of=kept.store.accounts.keys,
        clock=clock,
        monotonic_s=lambda: clock().timestamp(),
    )


@pytest.fixture(scope="session")
def _shared_calls(house):
    settings = Live(workers=1, keep_audio=True)
    live = LiveHouse.of(house.variant(live=settings, events=Events(sinks="file")))
    yield live
    live.close()
    live.house.close()


@pytest.fixture
def live(_shared_calls):
    """A house that takes calls, with workers that tests share; speech that results came from is kept."""
    _shared_calls.told.clear()
    return _shared_calls
