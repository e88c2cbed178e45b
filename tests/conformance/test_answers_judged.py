"""Every operation of both models on both databases, its response checked against the model; and that the
responses to every client are checked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from postgres_server import not_default
from sample_requests import NOBODY, OWN, furnish, method, put_recording
from service_process import ServiceProcess, running
from signed_http import call
from strict_answers import OPERATIONS


@pytest.fixture
def either(database_url: str, tmp_path: Path) -> Iterator[ServiceProcess]:
    """A service on SQLite, and one on PostgreSQL."""
    with running(
        tmp_path / "data",
        DATABASE=not_default(database_url),
        QUOTAS_DOMAINS_PER_ACCOUNT="10",
        QUOTAS_ACTIVE_ENROLLMENT_JOBS_PER_DOMAIN="10",
        JOBS_WORKERS="1",
    ) as service:
        (service.data / "buckets" / "calls").mkdir()
        yield service


def seen(service: ServiceProcess) -> set[tuple[str | None, str | None]]:
    """(target, error) of all that was answered so far; none of it may be wrong."""
    assert service.answers is not None
    assert service.answers.judge() == []
    return service.answers.seen


# On SQLite `test_boto3_matrix` makes the same calls, and what is answered there is judged alike.
@pytest.mark.parametrize(
    "database_url", [pytest.param("sqlite", marks=pytest.mark.slow), "postgresql"], indirect=True
)
def test_every_operation_has_a_successful_answer_as_modelled(
    either: ServiceProcess, recording: bytes
) -> None:
    put_recording(either, recording)
    own = either.own_client()
    for operation, asked in furnish(either).requests.items():
        method(own if operation in OWN else either.voice_id, operation)(**asked)
    assert {target for target, error in seen(either) if error is None} == set(OPERATIONS)


def test_answers_to_every_client_are_checked(service: ServiceProcess) -> None:
    before = len(seen(service))
    with pytest.raises(ClientError):
        service.voice_id.describe_fraudster(DomainId=NOBODY, FraudsterId=f"id#{NOBODY}")
    assert ("VoiceID.DescribeFraudster", "ResourceNotFoundException") in seen(service)

    call(service, "VoiceID.Nonsense")
    assert ("VoiceID.Nonsense", "UnknownOperationException") in seen(service)

    service.aws("voice-id", "list-speakers", "--domain-id", NOBODY)
    assert ("VoiceID.ListSpeakers", "ResourceNotFoundException") in seen(service)

    service.sonant("voice-id", "list-watchlists", "--domain-id", NOBODY)
    assert ("VoiceID.ListWatchlists", "ResourceNotFoundException") in seen(service)
    assert len(seen(service)) >= before


def test_default_watchlist_is_a_boolean_in_every_answer(service: ServiceProcess, domain_id: str) -> None:
    at: dict[str, Any] = {"DomainId": domain_id}
    default = service.voice_id.list_watchlists(**at)["WatchlistSummaries"][0]["WatchlistId"]
    made = call(service, "VoiceID.CreateWatchlist", {**at, "Name": "known"})
    known = made.json["Watchlist"]["WatchlistId"]
    changed = call(service, "VoiceID.UpdateWatchlist", {**at, "WatchlistId": known, "Name": "changed"})
    for answer in (made, changed):
        assert b'"DefaultWatchlist":false' in answer.body
    described = call(service, "VoiceID.DescribeWatchlist", {**at, "WatchlistId": default})
    assert b'"DefaultWatchlist":true' in described.body
    for watchlist_id, is_default in ((default, True), (known, False)):
        shown = service.sonant(
            "voice-id", "describe-watchlist", "--domain-id", domain_id, "--watchlist-id", watchlist_id
        )
        assert json.loads(shown.out)["Watchlist"]["DefaultWatchlist"] is is_default
