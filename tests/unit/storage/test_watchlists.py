"""Reads and writes of watchlists and fraudsters."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from sonant.errors import SealBroken
from sonant.storage.crypto.vault import Vault
from sonant.storage.database.schema import fraudsters, watchlist_members
from sonant.storage.repositories import domains, watchlists

NOW = datetime(2026, 3, 1, tzinfo=UTC)
VAULT = Vault("d", bytes(32))


@pytest.fixture
def connection(database):
    """A domain `d` with its default list and the lists `w1` and `w2`."""
    with database.write() as connection:
        domains.create(
            connection,
            VAULT,
            domain_id="d",
            account_id="0" * 12,
            region="us-east-1",
            name="calls",
            description=None,
            tags={},
            kms_key_arn="k",
            data_key_wrapped=b"w",
            watchlist_id="default",
            now=NOW,
        )
        for number in (2, 1):
            watchlists.create(
                connection,
                VAULT,
                watchlist_id=f"w{number}",
                domain_id="d",
                name=f"list {number}",
                description="why",
                is_default=False,
                now=NOW + timedelta(seconds=1),
            )
        yield connection


def add(connection, fraudster_id, watchlist_id="w1", now=NOW):
    watchlists.add_fraudster(
        connection,
        fraudster_id=fraudster_id,
        domain_id="d",
        wrapped=b"key of " + fraudster_id.encode(),
        watchlist_id=watchlist_id,
        now=now,
    )


def found_list(connection, watchlist_id):
    watchlist = watchlists.find(connection, "d", watchlist_id)
    assert watchlist is not None
    return watchlist


def lists_of(connection, fraudster_id):
    fraudster = watchlists.find_fraudster(connection, "d", fraudster_id)
    assert fraudster is not None
    return fraudster.watchlist_ids


def ids(page):
    return [one.fraudster_id for one in page]


def count(connection, table):
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_watchlist_is_found_in_its_domain_and_opens_with_its_id_only(connection):
    found = found_list(connection, "w1")
    assert found.texts(VAULT) == ("list 1", "why")
    assert watchlists.find(connection, "e", "w1") is None
    assert b"list 1" not in found.name_sealed
    with pytest.raises(SealBroken):
        found.texts(Vault("e", bytes(32)))


def test_lists_come_oldest_first_and_ties_by_id(connection):
    everything = watchlists.page(connection, "d", None, 10)
    assert [one.watchlist_id for one in everything] == ["default", "w1", "w2"]
    assert [one.is_default for one in everything] == [True, False, False]
    assert watchlists.count(connection, "d") == 3


def test_a_change_sets_what_is_given_and_leaves_the_rest(connection):
    later = NOW + timedelta(days=1)
    watchlists.change(connection, VAULT, "w1", name="renamed", description=None, now=later)
    changed = found_list(connection, "w1")
    assert changed.texts(VAULT) == ("renamed", "why")
    assert (changed.created_at, changed.updated_at) == (NOW + timedelta(seconds=1), later)
    assert found_list(connection, "w2").texts(VAULT) == ("list 2", "why")


def test_fraudster_has_its_watchlists_in_the_order_of_association(connection):
    add(connection, "f1", "w2")
    watchlists.associate(connection, "f1", "w1", NOW + timedelta(seconds=5))
    watchlists.associate(connection, "f1", "default", NOW + timedelta(seconds=9))
    assert lists_of(connection, "f1") == ("w2", "w1", "default")
    watchlists.disassociate(connection, "f1", "w1")
    assert lists_of(connection, "f1") == ("w2", "default")
    assert watchlists.find_fraudster(connection, "e", "f1") is None


def test_nobody_is_on_a_list_twice(connection):
    add(connection, "f1")
    with pytest.raises(IntegrityError), connection.begin_nested():
        watchlists.associate(connection, "f1", "w1", NOW)
    assert watchlists.size(connection, "w1") == 1


def test_fraudsters_are_paged_by_domain_and_by_list(connection):
    for number, place in enumerate(["w1", "w2", "w1", "w1"]):
        add(connection, f"f{number}", place, NOW + timedelta(seconds=number // 2))
    assert ids(watchlists.page_fraudsters(connection, "d", None, None, 10)) == ["f0", "f1", "f2", "f3"]
    first = watchlists.page_fraudsters(connection, "d", "w1", None, 2)
    assert ids(first) == ["f0", "f2"]
    last = first[-1]
    position = (int(last.created_at.timestamp()) * 1_000_000, last.fraudster_id)
    assert ids(watchlists.page_fraudsters(connection, "d", "w1", position, 2)) == ["f3"]
    assert watchlists.size(connection, "w1") == 3


def test_a_fraudster_that_is_removed_leaves_nothing(connection):
    add(connection, "f1")
    add(connection, "f2")
    watchlists.associate(connection, "f1", "w2", NOW)
    watchlists.remove_fraudster(connection, "f1")
    assert watchlists.find_fraudster(connection, "d", "f1") is None
    assert watchlists.size(connection, "w2") == 0
    assert (count(connection, fraudsters), count(connection, watchlist_members)) == (1, 1)
