"""ClientToken: the same call made again makes nothing new."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from operations_testbed import OTHER_ACCOUNT, operations_on
from sqlalchemy import func, select
from waiting import PATIENCE_S

from sonant.assembly import jobs
from sonant.errors import ServiceQuotaExceeded, Validation
from sonant.storage.database.schema import client_tokens

CONFLICT = "ClientToken was used before with other parameters; use a new one"


def start(testbed, domain_id, **more):
    request = {
        "DomainId": domain_id,
        "DataAccessRoleArn": "arn:aws:iam::000000000000:role/sonant",
        "InputDataConfig": {"S3Uri": "s3://jobs/in"},
        "OutputDataConfig": {"S3Uri": "s3://jobs/out"},
        **more,
    }
    return testbed.call("StartSpeakerEnrollmentJob", **request)["Job"]


def watchlist(testbed, domain_id, **more):
    return testbed.call("CreateWatchlist", DomainId=domain_id, **{"Name": "mine", **more})["Watchlist"]


def lists_of(testbed, domain_id):
    """Without the default list."""
    found = testbed.call("ListWatchlists", DomainId=domain_id)["WatchlistSummaries"]
    return [one["WatchlistId"] for one in found if not one["DefaultWatchlist"]]


def test_the_same_domain_asked_for_again_is_the_one_there_is(testbed):
    first = testbed.new_domain(ClientToken="t")
    assert testbed.new_domain(ClientToken="t") == first
    assert len(testbed.call("ListDomains")["DomainSummaries"]) == 1


def test_the_same_watchlist_asked_for_again_is_shown_as_it_is_now(testbed):
    domain_id = testbed.new_domain()
    first = watchlist(testbed, domain_id, ClientToken="t")
    testbed.call("UpdateWatchlist", DomainId=domain_id, WatchlistId=first["WatchlistId"], Name="renamed")
    again = watchlist(testbed, domain_id, ClientToken="t")
    assert (again["WatchlistId"], again["Name"]) == (first["WatchlistId"], "renamed")
    assert lists_of(testbed, domain_id) == [first["WatchlistId"]]


def test_the_same_job_asked_for_again_is_not_over_the_quota(testbed):
    domain_id = testbed.new_domain()
    first = start(testbed, domain_id, ClientToken="t")
    assert start(testbed, domain_id, ClientToken="t")["JobId"] == first["JobId"]
    with pytest.raises(ServiceQuotaExceeded):
        start(testbed, domain_id, ClientToken="u")


def test_a_call_without_a_token_is_always_a_new_one(testbed):
    domain_id = testbed.new_domain()
    assert watchlist(testbed, domain_id)["WatchlistId"] != watchlist(testbed, domain_id)["WatchlistId"]


def test_a_token_with_other_parameters_is_refused_and_makes_nothing(testbed):
    domain_id = testbed.new_domain()
    first = watchlist(testbed, domain_id, ClientToken="t")
    for other in ({"Name": "other"}, {"Description": "more"}):
        with pytest.raises(Validation, match=CONFLICT):
            watchlist(testbed, domain_id, ClientToken="t", **other)
    assert lists_of(testbed, domain_id) == [first["WatchlistId"]]


def test_a_token_is_case_sensitive(testbed):
    domain_id = testbed.new_domain()
    watchlist(testbed, domain_id, ClientToken="t")
    watchlist(testbed, domain_id, ClientToken="T")
    assert len(lists_of(testbed, domain_id)) == 2


def test_a_token_lasts_24_hours_and_is_then_anew(testbed):
    domain_id = testbed.new_domain()
    first = watchlist(testbed, domain_id, ClientToken="t")
    testbed.clock.advance(hours=24, microseconds=-1)
    assert watchlist(testbed, domain_id, ClientToken="t")["WatchlistId"] == first["WatchlistId"]
    testbed.clock.advance(microseconds=1)
    assert watchlist(testbed, domain_id, ClientToken="t", Name="other")["Name"] == "other"
    with testbed.store.database.read() as connection:
        kept = connection.execute(select(func.count()).select_from(client_tokens)).scalar_one()
    assert kept == 1


def test_a_token_outlives_a_clock_that_is_wrong_for_a_while(testbed):
    domain_id = testbed.new_domain()
    first = watchlist(testbed, domain_id, ClientToken="t")
    testbed.clock.advance(hours=25)
    watchlist(testbed, domain_id, ClientToken="another")
    testbed.clock.advance(hours=-25)
    assert watchlist(testbed, domain_id, ClientToken="t")["WatchlistId"] == first["WatchlistId"]


def test_tokens_are_deleted_after_a_week(testbed):
    domain_id = testbed.new_domain()
    watchlist(testbed, domain_id, ClientToken="t")
    testbed.clock.advance(days=7)
    watchlist(testbed, domain_id, ClientToken="another")
    jobs.build_housekeeper(testbed.store).forget_tokens()
    with testbed.store.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(client_tokens)).scalar_one() == 1


def test_a_token_survives_a_restart(testbed):
    domain_id = testbed.new_domain()
    first = watchlist(testbed, domain_id, ClientToken="t")
    testbed.restart()
    assert watchlist(testbed, domain_id, ClientToken="t")["WatchlistId"] == first["WatchlistId"]


def test_operations_domains_and_accounts_do_not_share_tokens(testbed):
    one, other = testbed.new_domain(ClientToken="t"), testbed.new_domain()
    foreign = testbed.new_domain(account=OTHER_ACCOUNT, ClientToken="t")
    assert len({one, other, foreign}) == 3
    made = [watchlist(testbed, domain_id, ClientToken="t") for domain_id in (one, other)]
    assert made[0]["WatchlistId"] != made[1]["WatchlistId"]
    assert start(testbed, one, ClientToken="t")["JobStatus"] == "SUBMITTED"


def test_a_call_that_was_refused_leaves_its_token_free(tmp_path):
    testbed = operations_on(tmp_path / "data", watchlists_per_domain=1)
    domain_id = testbed.new_domain()
    with pytest.raises(ServiceQuotaExceeded):
        watchlist(testbed, domain_id, ClientToken="t")
    testbed.close()
    testbed = operations_on(tmp_path / "data")
    assert watchlist(testbed, domain_id, ClientToken="t", Name="other")["Name"] == "other"
    testbed.close()


def test_the_token_itself_is_not_stored(testbed):
    testbed.new_domain(ClientToken="a-token-to-be-looked-for")
    testbed.store.database.truncate_wal()
    for path in testbed.settings.data.rglob("sonant.db*"):
        assert b"a-token-to-be-looked-for" not in path.read_bytes()


@pytest.mark.parametrize("operation", ["domain", "watchlist", "job"])
def test_two_at_the_same_moment_make_one(testbed, operation):
    domain_id = testbed.new_domain()
    make = {
        "domain": lambda token: testbed.new_domain(ClientToken=token),
        "watchlist": lambda token: watchlist(testbed, domain_id, ClientToken=token)["WatchlistId"],
        "job": lambda token: start(testbed, domain_id, ClientToken=token)["JobId"],
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
        assert len(testbed.call("ListDomains")["DomainSummaries"]) == 1 + rounds
    if operation == "watchlist":
        assert len(lists_of(testbed, domain_id)) == rounds
