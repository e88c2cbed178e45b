"""PostgreSQL hangs: it accepts data and sends nothing. Every wait has a limit."""

from __future__ import annotations

import os
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from batch_testbed import Testbed
from cluster_testbed import Cluster
from sqlalchemy import text
from stalling_proxy import StallingProxy, stalling_proxy
from waiting import wait_until

from sonant.errors import DatabaseUnavailable
from sonant.settings import Enrollment, Fraud, Jobs, Postgres, Settings
from sonant.storage.database import postgres as limits_of
from sonant.storage.database.engine import Database
from sonant.storage.database.postgres import Limits, lift_timeouts

PATIENCE_S = 60.0


@pytest.fixture
def url(postgres_server) -> Iterator[str]:
    with postgres_server.migrated() as made:
        yield made


@pytest.fixture
def proxy(url: str) -> Iterator[StallingProxy]:
    with stalling_proxy(url) as made:
        yield made


@pytest.fixture
def database(proxy: StallingProxy, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setattr(limits_of, "SILENCE_S", 0.3)
    made = Database(proxy.in_front_of(url), limits=Limits(statement_timeout_s=0.2, connect_timeout_s=2))
    with made.read() as connection:
        connection.execute(text("SELECT 1"))
    yield made
    made.close()


@pytest.mark.parametrize("way", ["read", "write", "single"])
def test_a_statement_without_an_answer_ends(database: Database, proxy: StallingProxy, way: str) -> None:
    proxy.stall()
    with (
        pytest.raises(DatabaseUnavailable, match=r"the server sent nothing for 0\.5 s"),
        getattr(database, way)() as connection,
    ):
        connection.execute(text("SELECT 1"))
    proxy.resume()
    with getattr(database, way)() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1


def test_a_new_connection_to_a_silent_server_ends(database: Database, proxy: StallingProxy) -> None:
    database.engine.dispose()
    proxy.stall()
    with pytest.raises(DatabaseUnavailable), database.read():
        pass
    proxy.resume()


def test_a_commit_without_an_answer_ends(database: Database, proxy: StallingProxy) -> None:
    with pytest.raises(DatabaseUnavailable, match="the server sent nothing"), database.write() as connection:
        connection.execute(text("SELECT 1"))
        proxy.stall()
    proxy.resume()


def test_an_answer_that_comes_in_pieces_is_waited_for(database: Database) -> None:
    """Longer than the bound in all; the server is never silent for so long."""
    with database.read() as connection:
        lift_timeouts(connection)
    with database.engine.connect() as connection:
        streamed = connection.execution_options(stream_results=True, yield_per=1)
        rows = streamed.execute(text("SELECT n, pg_sleep(0.12) FROM generate_series(1, 8) AS n"))
        assert [row.n for row in rows] == list(range(1, 9))


def test_lifted_time_limit_ends_with_the_transaction(database: Database) -> None:
    with database.write() as connection:
        lift_timeouts(connection)
        connection.execute(text("SELECT pg_sleep(1)"))
    with pytest.raises(DatabaseUnavailable, match="statement timeout"), database.write() as connection:
        connection.execute(text("SELECT pg_sleep(1)"))
    drivers = [database.engine.raw_connection() for _ in range(2)]
    assert {one.driver_connection.time_limit_s for one in drivers} == {0.5}  # type: ignore[union-attr]
    for one in drivers:
        one.close()


def test_without_a_statements_limit_there_is_none_of_silence(url: str) -> None:
    database = Database(url, limits=Limits(statement_timeout_s=0))
    with database.read() as connection:
        assert connection.connection.driver_connection.time_limit_s is None  # type: ignore[union-attr]
    database.close()


def test_a_vanished_host_is_noticed_by_what_was_sent_to_it(url: str) -> None:
    database = Database(url)
    with database.read() as connection:
        descriptor = connection.connection.driver_connection.fileno()  # type: ignore[union-attr]
        with socket.socket(fileno=os.dup(descriptor)) as line:
            assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 15_000
    database.close()


@pytest.fixture
def cluster(tmp_path, proxy: StallingProxy, url: str) -> Iterator[Cluster]:
    settings = Settings(
        data=tmp_path / "data",
        encoder="ge2e",
        database=proxy.in_front_of(url),
        enrollment=Enrollment(net_speech_s=6.0),
        jobs=Jobs(workers=1),
        fraud=Fraud(spoofing_max_s=0, replay_recordings=0),
        postgres=Postgres(statement_timeout_s=1.0, connect_timeout_s=2.0),
    )
    testbed = Testbed.open(settings)
    made = Cluster(testbed, SONANT_POSTGRES_STATEMENT_TIMEOUT_S="1", SONANT_POSTGRES_CONNECT_TIMEOUT_S="2")
    yield made
    proxy.resume()
    made.close()
    testbed.close()


def readiness(client: Any) -> int:
    """The status of an answer, which comes while the server is silent, too."""
    try:
        url = f"{client.meta.endpoint_url}/health/ready"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def test_calls_end_and_readiness_responds_while_the_server_hangs(
    cluster: Cluster, proxy: StallingProxy
) -> None:
    client = cluster.service()
    domain_id = cluster.testbed.new_domain()
    assert client.describe_domain(DomainId=domain_id)["Domain"]["DomainId"] == domain_id
    assert readiness(client) == 200

    proxy.stall()
    wait_until("it says that it is not ready", lambda: readiness(client) == 503)
    with pytest.raises(client.exceptions.InternalServerException):
        client.describe_domain(DomainId=domain_id)
    assert readiness(client) == 503
    proxy.resume()

    assert client.describe_domain(DomainId=domain_id)["Domain"]["DomainId"] == domain_id
    wait_until("it is ready again", lambda: readiness(client) == 200)
