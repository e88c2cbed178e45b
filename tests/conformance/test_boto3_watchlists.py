"""Watchlists and the fraudsters on them, through boto3."""

from __future__ import annotations

import re
from typing import Any

import pytest
from client_faults import refused
from sample_requests import NOBODY, add_fraudster
from service_process import NO_JOBS, ServiceProcess, running


@pytest.fixture
def default_list(service: ServiceProcess, domain_id: str) -> str:
    domain = service.voice_id.describe_domain(DomainId=domain_id)["Domain"]
    return str(domain["WatchlistDetails"]["DefaultWatchlistId"])


def make_list(service: ServiceProcess, domain_id: str, name: str = "known", **more: Any) -> dict[str, Any]:
    return dict(service.voice_id.create_watchlist(DomainId=domain_id, Name=name, **more)["Watchlist"])


# --- watchlists ---------------------------------------------------------------------------------------


def test_a_watchlist_is_made_described_and_listed_alike(
    service: ServiceProcess, domain_id: str, default_list: str
) -> None:
    made = make_list(service, domain_id, Description="callers known to deceive")

    assert re.fullmatch("[a-zA-Z0-9]{22}", made["WatchlistId"])
    assert made == {
        "CreatedAt": made["UpdatedAt"],
        "DefaultWatchlist": False,
        "Description": "callers known to deceive",
        "DomainId": domain_id,
        "Name": "known",
        "UpdatedAt": made["UpdatedAt"],
        "WatchlistId": made["WatchlistId"],
    }
    described = service.voice_id.describe_watchlist(DomainId=domain_id, WatchlistId=made["WatchlistId"])
    assert described["Watchlist"] == made
    listed = service.voice_id.list_watchlists(DomainId=domain_id)["WatchlistSummaries"]
    assert [item["WatchlistId"] for item in listed] == [default_list, made["WatchlistId"]]
    assert [item["DefaultWatchlist"] for item in listed] == [True, False]
    assert listed[1] == made


def test_what_an_update_does_not_name_stays(service: ServiceProcess, domain_id: str) -> None:
    made = make_list(service, domain_id, Description="first")
    at = {"DomainId": domain_id, "WatchlistId": made["WatchlistId"]}

    renamed = service.voice_id.update_watchlist(**at, Name="renamed")["Watchlist"]
    assert (renamed["Name"], renamed["Description"]) == ("renamed", "first")
    assert renamed["UpdatedAt"] > made["UpdatedAt"]
    assert renamed["CreatedAt"] == made["CreatedAt"]
    told = service.voice_id.update_watchlist(**at, Description="second")["Watchlist"]
    assert (told["Name"], told["Description"]) == ("renamed", "second")
    assert service.voice_id.describe_watchlist(**at)["Watchlist"] == told


@pytest.mark.parametrize(
    ("operation", "more"), [("update_watchlist", {"Name": "mine"}), ("delete_watchlist", {})]
)
def test_the_default_list_cannot_be_changed(
    service: ServiceProcess, domain_id: str, default_list: str, operation: str, more: dict[str, str]
) -> None:
    at = {"DomainId": domain_id, "WatchlistId": default_list}
    before = service.voice_id.describe_watchlist(**at)["Watchlist"]
    assert refused(getattr(service.voice_id, operation), **at, **more).code == "ValidationException"
    assert service.voice_id.describe_watchlist(**at)["Watchlist"] == before


def test_a_list_is_deleted_when_nobody_is_on_it_any_more(
    service: ServiceProcess, domain_id: str, default_list: str
) -> None:
    at = {"DomainId": domain_id, "WatchlistId": make_list(service, domain_id)["WatchlistId"]}
    fraudster_id = add_fraudster(service, domain_id, default_list, at["WatchlistId"])
    fault = refused(service.voice_id.delete_watchlist, **at)
    assert (fault.code, fault.conflict_type) == ("ConflictException", "CANNOT_DELETE_NON_EMPTY_WATCHLIST")

    service.voice_id.disassociate_fraudster(**at, FraudsterId=fraudster_id)

    answer = service.voice_id.delete_watchlist(**at)
    assert set(answer) == {"ResponseMetadata"}
    for call in (service.voice_id.describe_watchlist, service.voice_id.delete_watchlist):
        assert refused(call, **at).resource_type == "WATCHLIST"


def test_a_domain_has_three_lists_with_the_default_one(service: ServiceProcess, domain_id: str) -> None:
    first = make_list(service, domain_id, "first", ClientToken="one")
    second = make_list(service, domain_id, "second")
    fault = refused(service.voice_id.create_watchlist, DomainId=domain_id, Name="third")
    assert fault.code == "ServiceQuotaExceededException"
    # The token is older than the quota.
    assert make_list(service, domain_id, "first", ClientToken="one") == first
    service.voice_id.delete_watchlist(DomainId=domain_id, WatchlistId=second["WatchlistId"])
    assert make_list(service, domain_id, "third")


def test_a_list_of_another_domain_is_not_found(service: ServiceProcess, domain_id: str) -> None:
    foreign = make_list(service, service.domain("other"))["WatchlistId"]
    fault = refused(service.voice_id.describe_watchlist, DomainId=domain_id, WatchlistId=foreign)
    assert (fault.code, fault.resource_type) == ("ResourceNotFoundException", "WATCHLIST")


def test_lists_are_paged(service: ServiceProcess, domain_id: str) -> None:
    for name in ("one", "two"):
        make_list(service, domain_id, name)
    pages = list(
        service.voice_id.get_paginator("list_watchlists").paginate(
            DomainId=domain_id, PaginationConfig={"PageSize": 1}
        )
    )
    assert [len(page["WatchlistSummaries"]) for page in pages] == [1, 1, 1]
    assert [page["WatchlistSummaries"][0]["Name"] for page in pages][1:] == ["one", "two"]


# --- fraudsters ---------------------------------------------------------------------------------------


def test_a_fraudster_joins_a_list_and_leaves_it(
    service: ServiceProcess, domain_id: str, default_list: str
) -> None:
    api, known = service.voice_id, make_list(service, domain_id)["WatchlistId"]
    who = {"DomainId": domain_id, "FraudsterId": add_fraudster(service, domain_id, default_list)}

    for _ in range(2):  # again: no change
        joined = api.associate_fraudster(**who, WatchlistId=known)["Fraudster"]
        assert joined["WatchlistIds"] == [default_list, known]
    assert api.describe_fraudster(**who)["Fraudster"] == joined
    for listing in ({}, {"WatchlistId": known}, {"WatchlistId": default_list}):
        assert api.list_fraudsters(DomainId=domain_id, **listing)["FraudsterSummaries"] == [joined]

    left = api.disassociate_fraudster(**who, WatchlistId=default_list)["Fraudster"]

    assert left == {**joined, "WatchlistIds": [known]}
    listed = api.list_fraudsters(DomainId=domain_id, WatchlistId=default_list)
    assert listed["FraudsterSummaries"] == []
    fault = refused(api.disassociate_fraudster, **who, WatchlistId=default_list)
    assert fault.code == "ValidationException"
    fault = refused(api.disassociate_fraudster, **who, WatchlistId=known)
    assert (fault.code, fault.conflict_type) == (
        "ConflictException",
        "FRAUDSTER_MUST_BELONG_TO_AT_LEAST_ONE_WATCHLIST",
    )


def test_a_deleted_fraudster_is_on_no_list(
    service: ServiceProcess, domain_id: str, default_list: str
) -> None:
    known = make_list(service, domain_id)["WatchlistId"]
    who = {"DomainId": domain_id, "FraudsterId": add_fraudster(service, domain_id, default_list, known)}
    assert set(service.voice_id.delete_fraudster(**who)) == {"ResponseMetadata"}
    for call in (service.voice_id.describe_fraudster, service.voice_id.delete_fraudster):
        fault = refused(call, **who)
        assert (fault.code, fault.resource_type) == ("ResourceNotFoundException", "FRAUDSTER")
    assert service.voice_id.list_fraudsters(DomainId=domain_id)["FraudsterSummaries"] == []
    assert service.voice_id.delete_watchlist(DomainId=domain_id, WatchlistId=known)


@pytest.mark.slow
def test_a_list_holds_five_hundred_fraudsters(
    service: ServiceProcess, domain_id: str, default_list: str
) -> None:
    api, known = service.voice_id, make_list(service, domain_id)["WatchlistId"]
    ids = [add_fraudster(service, domain_id, default_list) for _ in range(501)]
    for fraudster_id in ids[:500]:
        api.associate_fraudster(DomainId=domain_id, FraudsterId=fraudster_id, WatchlistId=known)
    last = {"DomainId": domain_id, "FraudsterId": ids[500], "WatchlistId": known}
    assert refused(api.associate_fraudster, **last).code == "ServiceQuotaExceededException"
    # One that is on it already needs no room.
    api.associate_fraudster(**{**last, "FraudsterId": ids[0]})
    api.disassociate_fraudster(**{**last, "FraudsterId": ids[0]})
    assert api.associate_fraudster(**last)["Fraudster"]["WatchlistIds"] == [default_list, known]
    pages = api.get_paginator("list_fraudsters").paginate(DomainId=domain_id, WatchlistId=known)
    listed = [item["GeneratedFraudsterId"] for page in pages for item in page["FraudsterSummaries"]]
    assert listed == ids[1:]


def test_by_a_setting_the_last_list_is_a_validation_error(tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tmp_path_factory.mktemp("last") / "data"
    with running(data, LAST_WATCHLIST_CONFLICT="false", **NO_JOBS) as service:
        domain_id = service.domain()
        domain = service.voice_id.describe_domain(DomainId=domain_id)["Domain"]
        only = domain["WatchlistDetails"]["DefaultWatchlistId"]
        fault = refused(
            service.voice_id.disassociate_fraudster,
            DomainId=domain_id,
            FraudsterId=add_fraudster(service, domain_id, only),
            WatchlistId=only,
        )
        assert (fault.code, fault.conflict_type) == ("ValidationException", None)


def test_a_session_is_never_there(service: ServiceProcess, domain_id: str) -> None:
    for name in ("contact-1", f"id#{NOBODY}"):
        fault = refused(service.voice_id.evaluate_session, DomainId=domain_id, SessionNameOrId=name)
        assert (fault.code, fault.resource_type) == ("ResourceNotFoundException", "SESSION")
