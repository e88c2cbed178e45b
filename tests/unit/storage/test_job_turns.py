"""Whose job a runner takes next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, update

from sonant.storage.crypto.vault import Vault
from sonant.storage.database import schema
from sonant.storage.database.engine import Database
from sonant.storage.repositories import domains, jobs

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LEASE = timedelta(seconds=20)
KINDS = [jobs.ENROLLMENT, jobs.REGISTRATION, jobs.DRY_RUN]


def others_wait(connection: Connection) -> bool:
    """Whether a runner that does an enrollment of `a1` should let another job have its turn."""
    return jobs.others_wait(connection, KINDS, "runner", NOW, LEASE, of_domain="a1", of_kind=jobs.ENROLLMENT)


def add_domain(connection: Connection, domain_id: str, account_id: str) -> None:
    domains.create(
        connection,
        Vault(domain_id, bytes(32)),
        domain_id=domain_id,
        account_id=account_id,
        region="us-east-1",
        name="calls",
        description=None,
        tags={},
        kms_key_arn="k",
        data_key_wrapped=b"w",
        watchlist_id=f"list of {domain_id}",
        now=NOW,
    )


def add_jobs(connection: Connection, *places: tuple[str, str], kind: str = jobs.ENROLLMENT) -> None:
    """Jobs by their ids and domains, each a second later than the one before."""
    for number, (job_id, domain_id) in enumerate(places):
        jobs.insert_job(
            connection,
            job_id=job_id,
            kind=kind,
            domain_id=domain_id,
            name_sealed=None,
            role_arn="r",
            input_uri="s3://b/in",
            output_uri="s3://b/out",
            output_kms_key=None,
            config={},
            now=NOW + timedelta(seconds=number),
        )


@pytest.fixture
def connection(database: Database):
    """An account with two domains, and one with a single domain."""
    with database.write() as connection:
        for domain_id, account_id in (("a1", "1" * 12), ("a2", "1" * 12), ("b1", "2" * 12)):
            add_domain(connection, domain_id, account_id)
        yield connection


def taken_and_ended(connection: Connection) -> list[str]:
    """The jobs in the order in which one runner takes them, each a minute."""
    order, now = [], NOW + timedelta(hours=1)
    while (job := jobs.claim(connection, KINDS, "runner", now, LEASE)) is not None:
        order.append(job.job_id)
        done = update(schema.jobs).where(schema.jobs.c.job_id == job.job_id).values(status="COMPLETED")
        connection.execute(done)
        now += timedelta(minutes=1)
    return order


def test_accounts_take_turns_each_with_its_oldest_job(connection: Connection) -> None:
    add_jobs(connection, *((f"greedy {n}", f"a{1 + n % 2}") for n in range(4)), ("one", "b1"), ("two", "b1"))
    assert taken_and_ended(connection) == ["greedy 0", "one", "greedy 1", "two", "greedy 2", "greedy 3"]


def test_domains_of_an_account_take_turns_each_with_its_oldest_job(connection: Connection) -> None:
    add_jobs(connection, *((f"greedy {n}", "a1") for n in range(3)), ("one", "a2"), ("two", "a2"))
    assert taken_and_ended(connection) == ["greedy 0", "one", "greedy 1", "two", "greedy 2"]


def test_a_job_that_was_put_back_waits_for_the_turns_of_others(connection: Connection) -> None:
    add_jobs(connection, ("long", "a1"))
    jobs.claim(connection, [jobs.ENROLLMENT], "runner", NOW, LEASE)
    assert not others_wait(connection)
    add_jobs(connection, ("next", "a1"), ("other", "b1"))
    assert others_wait(connection)
    jobs.release(connection, "long", "runner")
    assert taken_and_ended(connection) == ["other", "long", "next"]


def test_a_job_that_was_begun_goes_on_first(connection: Connection) -> None:
    add_jobs(connection, ("begun", "a1"))
    jobs.claim(connection, [jobs.ENROLLMENT], "dead", NOW, LEASE)
    add_jobs(connection, ("waits", "a1"), ("other", "b1"))
    assert taken_and_ended(connection) == ["begun", "other", "waits"]


@pytest.mark.parametrize("kind", [jobs.REGISTRATION, jobs.DRY_RUN])
def test_types_of_jobs_of_a_domain_take_turns(connection: Connection, kind: str) -> None:
    add_jobs(connection, ("long", "a1"), ("next", "a1"))
    jobs.claim(connection, KINDS, "runner", NOW, LEASE)
    assert not others_wait(connection), "only jobs of its own type wait"
    add_jobs(connection, ("other", "a1"), ("another", "a1"), kind=kind)
    assert others_wait(connection)
    jobs.release(connection, "long", "runner")
    assert taken_and_ended(connection) == ["other", "long", "another", "next"]
