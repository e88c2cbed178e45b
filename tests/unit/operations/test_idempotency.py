"""ClientToken: the same call made again makes nothing new."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from operations_house import OTHER_ACCOUNT, operations_on
from sqlalchemy import func, select

from sonant.errors import ServiceQuotaExceeded, Validation
from sonant.storage.database.schema import client_tokens
from waiting import PATIENCE_S

CONFLICT = "ClientToken was used before with other parameters; use a new one"


def start(house, domain_id, **more):
    request = {
        "DomainId": domain_id,
        "DataAccessRoleArn": "arn:aws:iam::000000000000:role/sonant",
        "InputDataConfig": {"S3Uri": "s3://jobs/in"},
        "OutputDataConfig": {"S3Uri": "s3://jobs/out"},
        **more,
    }
    return house.call("StartSpeakerEnrollmentJob", **request)["Job"]


def watchlist(house, domain_id, **more):
    return house.call("CreateWatchlist", DomainId=domain_id, **{"Name": "mine", **more})["Watchlist"]


def lists_of(house, domain_id):
    """Without the default list."""
    found = house.call("ListWatchlists", DomainId=domain_id)["WatchlistSummaries"]
    return [one["WatchlistId"] for one in found if not one["DefaultWatchlist"]]


def test_the_same_domain_asked_for_again_is_the_one_there_is(house):
    first = house.new_domain(ClientToken="t")
    assert house.new_domain(ClientToken="t") == first
    assert len(house.call("ListDomains")["DomainSummaries"]) == 1


def test_the_same_watchlist_asked_for_again_is_shown_as_it_is_now(house):
    domain_id = house.new_domain()
    first = watchlist(house, domain_id, ClientToken="t")
    house.call("UpdateWatchlist", DomainId=domain_id, WatchlistId=first["WatchlistId"], Name="renamed")
    again = watchlist(house, domain_id, ClientToken="t")
    assert (again["WatchlistId"], again["Name"]) == (first["WatchlistId"], "renamed")
    assert lists_of(house, domain_id) == [first["WatchlistId"]]


def test_the_same_job_asked_for_again_is_not_over_the_quota(house):
    domain_id = house.new_domain()
    first = start(house, domain_id, ClientToken="t")
    assert start(house, domain_id, ClientToken="t")["JobId"] == first["JobId"]
    with pytest.raises(ServiceQuotaExceeded):
        start(house, domain_id, ClientToken="u")


def test_a_call_without_a_token_is_always_a_new_one(house):
    domain_id = house.new_domain()
    assert watchlist(house, domain_id)["WatchlistId"] != watchlist(house, domain_id)["WatchlistId"]


def test_a_token_with_other_parameters_is_refused_and_makes_nothing(house):
    domain_id = house.new_domain()
    first = watchlist(house, domain_id, ClientToken="t")
    for other in ({"Name": "other"}, {"Description": "more"}):
        with pytest.raises(Validation, match=CONFLICT):
            watchlist(house, domain_id, ClientToken="t", **other)
    assert lists_of(house, domain_id) == [first["WatchlistId"]]


def test_a_token_is_case_sensitive(house):
    domain_id = house.new_domain()
    watchlist(house, domain_id, ClientToken="t")
    watchlist(house, domain_id, ClientToken="T")
    assert len(lists_of(house, domain_id)) == 2


def test_a_token_lasts_24_hours_and_is_then_anew(house):
    domain_id = house.new_domain()
    first = watchlist(house, domain_id, ClientToken="t")
    house.clock.advance(hours=24, microseconds=-1)
    assert watchlist(house, domain_id, ClientToken="t")["WatchlistId"] == first["WatchlistId"]
    house.clock.advance(microseconds=1)
    assert watchlist(house, domain_id, ClientToken="t", Name="other")["Name"] == "other"
    with house.store.database.read() as connection:
        kept = connection.execute(select(func.count()).select_from(client_tokens)).scalar_one()
    assert kept == 1


def test_a_token_outlives_a_clock_that_is_wrong_for_a_while(house):
    domain_id = house.new_domain()
    first = watchlist(house, domain_id, ClientToken="t")
    house.clock.advance(hours=25)
    watchlist(house, domain_id, ClientToken="another")
    house.clock.advance(hours=-25)
    assert watchlist(house, domain_id, ClientToken="t")["WatchlistId"] == first["WatchlistId"]


def test_tokens_are_forgotten_after_a_week(house):
    domain_id = house.new_domain()
    watchlist(house, domain_id, ClientToken="t")
    house.clock.advance(days=7)
    watchlist(house, domain_id, ClientToken="another")
    with house.store.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(client_tokens)).scalar_one() == 1


def test_a_token_survives_a_restart(house):
    domain_id = house.new_domain()
    first = watchlist(house, domain_id, ClientToken="t")
    house.restart()
    assert watchlist(house, domain_id, ClientToken="t")["WatchlistId"] == first["WatchlistId"]


def test_operations_domains_and_accounts_do_not_share_tokens(house):
    one, other = house.new_domain(ClientToken="t"), house.new_domain()
    foreign = house.new_domain(account=OTHER_ACCOUNT, ClientToken="t")
    assert len({one, other, foreign}) == 3
    made = [watchlist(house, domain_id, ClientToken="t") for domain_id in (one, other)]
    assert made[0]["WatchlistId"] != made[1]["WatchlistId"]
    assert start(house, one, ClientToken="t")["JobStatus"] == "SUBMITTED"


def test_a_call_that_was_refused_leaves_its_token_free(tmp_path):
    house = operations_on(tmp_path / "data", watchlists_per_domain=1)
    domain_id = house.new_domain()
    with pytest.raises(ServiceQuotaExceeded):
        watchlist(house, domain_id, ClientToken="t")
    house.close()
    house = operations_on(tmp_path / "data")
    assert watchlist(house, domain_id, ClientToken="t", Name="other")["Name"] == "other"
    house.close()


def test_the_token_itself_is_not_stored(house):
    house.new_domain(ClientToken="a-token-to-be-looked-for")
    house.store.database.truncate_wal()
    for path in house.settings.data.rglob("sonant.db*"):
        assert b"a-token-to-be-looked-for" not in path.read_bytes()


@pytest.mark.parametrize("operation", ["domain", "watchlist", "job"])
def test_two_at_the_same_moment_make_one(house, operation):
    domain_id = house.new_domain()
    make = {
        "domain": lambda token: house.new_domain(ClientToken=token),
        "watchlist": lambda token: watchlist(house, domain_id, ClientToken=token)["WatchlistId"],
        "job": lambda token: start(house, domain_id, ClientToken=token)["JobId"],
    }[operation]
    rounds, callers = (1 if operation == "job" else 5), 4
    with ThreadPoolExecutor(callers) as threads:
        for number in range(rounds):
            barrier = Barrier(callers)

            def call(token, barrier=barrier):
                barrier.wait(PATIENCE_S)
                return make(token)

            found = list(threads.map(call, [f"token-{number}"] * callers))
            assert len(set(found)) == 1
    if operation == "domain":
        assert len(house.call("ListDomains")["DomainSummaries"]) == 1 + rounds
    if operation == "watchlist":
        assert len(lists_of(house, domain_id)) == rounds
