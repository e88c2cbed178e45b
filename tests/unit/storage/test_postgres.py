"""PostgreSQL only: concurrent writers, time limits, broken connections, old schemas."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from postgres_server import NoServer, OwnServer
from sqlalchemy import text
from waiting import PATIENCE_S, wait_until

from sonant.errors import DatabaseUnavailable, SetupError
from sonant.ids import new_generated_id, new_id
from sonant.storage.crypto.service_secret import ServiceSecret
from sonant.storage.crypto.vault import create_vault
from sonant.storage.database.engine import Database
from sonant.storage.database.postgres import Limits, advisory_lock, lift_timeouts
from sonant.storage.database.row_macs import RowMacs
from sonant.storage.repositories import access, callers, domains, jobs, speakers
from sonant.storage.times import now

pytest.importorskip("psycopg", reason="no PostgreSQL: psycopg is not installed (extra `postgres`)")

LEASE = timedelta(seconds=20)
PATIENT = Limits(
    connections=6,
    lock_timeout_s=PATIENCE_S,
    statement_timeout_s=PATIENCE_S,
    idle_timeout_s=PATIENCE_S,
    connect_timeout_s=PATIENCE_S,
)
HASTY = replace(PATIENT, lock_timeout_s=0.3, statement_timeout_s=1.0)


@pytest.fixture
def url(postgres_server):
    with postgres_server.migrated() as made:
        yield made


@pytest.fixture
def database(url):
    made = Database(url, limits=PATIENT)
    made.check_rows_by(RowMacs(bytes(32)))
    yield made
    made.close()


@pytest.fixture
def hasty(url):
    """The same database, and less time for it."""
    made = Database(url, limits=HASTY)
    made.check_rows_by(RowMacs(bytes(32)))
    yield made
    made.close()


@pytest.fixture
def another(url):
    """The same database in another process."""
    made = Database(url, limits=PATIENT)
    made.check_rows_by(RowMacs(bytes(32)))
    yield made
    made.close()


@pytest.fixture
def domain(database, keys):
    """A domain's id and its vault."""
    domain_id = new_id()
    arn = domains.domain_arn("us-east-1", "0" * 12, domain_id)
    vault, wrapped = create_vault(keys, keys.describe("alias/sonant").arn, domain_id, arn)
    with database.write() as connection:
        domains.create(
            connection,
            vault,
            domain_id=domain_id,
            account_id="0" * 12,
            region="us-east-1",
            name="one",
            description=None,
            tags={},
            kms_key_arn="key",
            data_key_wrapped=wrapped,
            watchlist_id=new_id(),
            now=now(),
        )
    return domain_id, vault


def add_speaker(connection, domain, customer):
    domain_id, vault = domain
    speakers.add(
        connection,
        vault,
        domain_id=domain_id,
        speaker_id=new_generated_id(),
        customer_id=customer,
        status="PENDING",
        now=now(),
    )


def add_job(connection, domain, at, input_uri="s3://a/b"):
    domain_id, _ = domain
    job_id = new_id()
    jobs.insert_job(
        connection,
        job_id=job_id,
        kind=jobs.ENROLLMENT,
        domain_id=domain_id,
        name_sealed=None,
        role_arn="role",
        input_uri=input_uri,
        output_uri="s3://a/c",
        output_kms_key=None,
        config={},
        now=at,
    )
    return job_id


@contextmanager
def beside(work):
    """Runs `work` in a thread; what it raises is raised here."""
    raised = []

    def run():
        try:
            work()
        except Exception as fault:  # noqa: BLE001 - raised again in the test's own thread
            raised.append(fault)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join()
    if raised:
        raise raised[0]


def waiting_for_locks(database):
    """How many connections to this database wait for somebody else's lock."""
    asked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = "
    asked += "current_database()"
    with database.single() as connection:
        return connection.execute(text(asked)).scalar()


# --- turns and locks


def test_a_read_sees_one_moment_and_can_change_nothing(database, another, domain):
    with database.read() as reader:
        assert domains.count_active(reader, "0" * 12, "us-east-1") == 1
        with another.write() as writer:
            active = domains.find_by_id(writer, domain[0])
            assert active is not None
            domains.suspend(writer, active, now())
        assert domains.count_active(reader, "0" * 12, "us-east-1") == 1
    with database.read() as reader:
        assert domains.count_active(reader, "0" * 12, "us-east-1") == 0
        with pytest.raises(Exception, match="read-only transaction"):
            reader.execute(text("DELETE FROM domains"))


def test_domain_lock_shows_what_the_previous_holder_committed(database, another, domain):
    locked, seen = threading.Event(), []

    def second():
        locked.wait()
        with database.write() as connection:
            domains.lock(connection, domain[0])
            seen.append(speakers.count(connection, domain[0]))

    with beside(second), database.write() as connection:
        domains.lock(connection, domain[0])
        locked.set()
        wait_until("the other waits for the lock", lambda: waiting_for_locks(another))
        add_speaker(connection, domain, "customer")
    assert seen == [1]


def test_lock_timeout_is_reported_in_time_without_the_statement(hasty, database, domain):
    with database.write() as holder:
        domains.lock(holder, domain[0])
        with (
            pytest.raises(DatabaseUnavailable, match="lock timeout") as told,
            hasty.write() as connection,
        ):
            assert connection.execute(text("SHOW lock_timeout")).scalar() == "300ms"
            domains.lock(connection, domain[0])
    assert domain[0] not in str(told.value)
    assert "SELECT" not in str(told.value)


def test_a_statement_that_takes_too_long_is_undone_unless_it_may(hasty):
    with pytest.raises(DatabaseUnavailable, match="statement timeout"), hasty.write() as connection:
        connection.execute(text("SELECT pg_sleep(3600)"))
    with hasty.write() as connection:
        lift_timeouts(connection)
        connection.execute(text("SELECT pg_sleep(1.2)"))


def test_advisory_locks_exclude_only_locks_of_the_same_name(hasty, database, another):
    with database.write() as holder:
        advisory_lock(holder, "domains", "one account")
        with another.write() as connection:
            advisory_lock(connection, "domains", "another account")
        with pytest.raises(DatabaseUnavailable, match="lock timeout"), hasty.write() as connection:
            advisory_lock(connection, "domains", "one account")


def test_jobs_are_claimed_side_by_side_and_never_twice(database, another, domain):
    with database.write() as connection:
        ids = [add_job(connection, domain, now() + timedelta(seconds=n)) for n in range(2)]
    claimed = []
    with database.write() as one:
        claimed.append(jobs.claim(one, [jobs.ENROLLMENT], "one", now(), LEASE))
        with another.write() as other:
            claimed.append(jobs.claim(other, [jobs.ENROLLMENT], "other", now(), LEASE))
        with another.write() as third:
            assert jobs.claim(third, [jobs.ENROLLMENT], "third", now(), LEASE) is None
    assert [job and job.job_id for job in claimed] == ids
    with database.write() as connection:
        taken = jobs.claim(connection, [jobs.ENROLLMENT], "third", now() + LEASE * 2, LEASE)
        assert taken is not None
        assert taken.job_id == ids[0], "its runner is dead"
        assert not jobs.renew(connection, ids[0], "one", now(), LEASE), "it learns that it lost the job"


def test_used_tokens_are_deleted_by_many_at_once(database, another):
    moment = now()
    with database.write() as connection:
        for number in range(20):
            callers.add_client_token(connection, f"old-{number}", "hash", "resource", moment)
        callers.add_client_token(connection, "new", "hash", "resource", moment + timedelta(seconds=1))
    with database.write() as one, another.write() as other:
        assert callers.delete_client_tokens(one, moment) == 20
        assert callers.delete_client_tokens(other, moment) == 0, "it waits for nothing"
    with database.write() as connection:
        left = connection.execute(text("SELECT scope FROM client_tokens ORDER BY scope")).scalars().all()
    assert left == ["new"]


def test_texts_of_callers_that_postgresql_cannot_store_do_no_harm(database, domain):
    with database.write() as connection:
        job_id = add_job(connection, domain, now(), input_uri="s3://calls/a\0b")
        jobs.claim(connection, [jobs.ENROLLMENT], "me", now(), LEASE)
        assert jobs.finish(connection, job_id, "me", "FAILED", now(), (404, "no s3://calls/a\0b"))
        job = jobs.find(connection, jobs.ENROLLMENT, domain[0], job_id)
        assert job is not None
        assert job.input_uri == "s3://calls/a\ufffdb"
    with database.read() as connection:
        assert access.find_secret(connection, ServiceSecret(bytes(32)), "AKIA\0") is None


# --- rates


def test_a_bucket_is_emptied_by_all_and_fills_again(database):
    def take(size=3.0, rate=0.001, operation="DescribeSpeaker", region="us-east-1"):
        with database.single() as connection:
            return callers.take_call(connection, "0" * 12, region, operation, rate=rate, size=size)

    assert [take() for _ in range(5)] == [True, True, True, False, False]
    assert take(operation="ListSpeakers"), "each operation has its own"
    assert take(region="eu-west-2"), "and each Region"
    with database.write() as connection:
        connection.execute(text("UPDATE rate_buckets SET filled_at_s = filled_at_s - 1200"))
    assert [take() for _ in range(2)] == [True, False], "one in 1000 s makes one in 1200 s"


# --- the server and the schema


def test_missing_or_foreign_schema_is_reported_with_advice(postgres_server):
    with postgres_server.empty() as url:
        database = Database(url)
        with pytest.raises(SetupError, match="no tables of Sonant yet: run `sonant migrate` once"):
            database.check_schema()
        database.migrate()
        database.check_schema()
        for version, told in (("0001", "earlier release: run `sonant migrate`"), ("f00d", "another release")):
            with database.write() as connection:
                connection.execute(text(f"UPDATE alembic_version SET version_num = '{version}'"))
            with pytest.raises(SetupError, match=told):
                database.check_schema()
        database.close()


@pytest.mark.slow
def test_two_processes_that_migrate_at_once_do_it_once(postgres_server, tmp_path):
    with postgres_server.empty() as url:
        command = [sys.executable, "-m", "sonant", "migrate", "--data", tmp_path / "data"]
        environment = {**os.environ, "SONANT_DATABASE": url}
        both = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for _ in range(2)]
        ends = [(process.communicate(timeout=PATIENCE_S)[1], process.returncode) for process in both]
        assert ends == [(b"", 0)] * 2
        database = Database(url)
        database.check_schema()
        database.close()


@pytest.mark.parametrize(
    "url", ["mysql://user:hunter2@host/name", "postgresql://user:hunter2@host:port/name"]
)
def test_another_database_is_refused_without_its_password(url):
    with pytest.raises(SetupError, match="setting database") as told:
        Database(url)
    assert "hunter2" not in str(told.value)


def test_a_server_that_is_not_there_is_reported_in_one_sentence():
    database = Database("postgresql://user:hunter2@127.0.0.1:1/name", limits=PATIENT)
    with pytest.raises(DatabaseUnavailable, match="the database cannot be used: ") as told, database.read():
        pass
    assert "hunter2" not in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGQUIT])
@pytest.mark.slow
def test_first_query_after_a_server_restart_succeeds(sign):
    try:
        server = OwnServer()
    except NoServer as why:
        pytest.skip(f"no PostgreSQL: {why}")
    try:
        database = Database(server.url, limits=PATIENT)
        with (
            database.engine.connect() as one,
            database.engine.connect() as other,
        ):  # two connections wait in the pool
            for connection in (one, other):
                connection.execute(text("SELECT 1"))
        server.stop(sign)
        with pytest.raises(DatabaseUnavailable), database.read() as connection:
            connection.execute(text("SELECT 1"))
        server.start()
        for begin in (database.read, database.write, database.single):
            with begin() as connection:
                assert connection.execute(text("SELECT 1")).scalar() == 1
        with pytest.raises(DatabaseUnavailable), database.write() as connection:
            connection.execute(text("SELECT 1"))
            server.stop(sign)
            connection.execute(text("SELECT 1"))
        server.start()
        with database.write() as connection:
            assert connection.execute(text("SELECT 1")).scalar() == 1
        database.close()
    finally:
        server.close()
