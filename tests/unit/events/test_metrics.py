"""Metrics, read with Prometheus' own parser."""

from __future__ import annotations

import asyncio
import platform
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import httpx
import pytest
from event_peers import NOON
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import insert, update
from starlette.applications import Starlette
from starlette.testclient import TestClient

from sonant import __version__
from sonant.errors import AccessDenied, DatabaseUnavailable, InternalServer, SetupError, Throttling, WireError
from sonant.events import outbox
from sonant.gateway.metrics_route import check_metrics, metrics_route
from sonant.gateway.thread_pool import ThreadPool
from sonant.metrics import MetricsRegistry
from sonant.metrics.calls import DECISIONS
from sonant.metrics.stored import STREAM_ENDS
from sonant.sessions.calls import EndReason
from sonant.sessions.decisions import AuthenticationDecision, FraudDecision
from sonant.settings import Gateway, Metrics, Postgres, Settings
from sonant.settings.declaration import declaration_of
from sonant.storage.crypto.vault import Vault
from sonant.storage.database.engine import Database
from sonant.storage.database.schema import domains, events, fraudsters, speakers
from sonant.storage.database.schema import jobs as job_rows
from sonant.storage.repositories import counters, jobs, session_streams, sessions
from sonant.storage.times import to_us
from sonant.thread_plan import plan_threads

ONE, TWO = "1" * 22, "2" * 22


def page(
    database: Database, cache_s: float = 0.0, failing: Callable[[], bool] = lambda: False
) -> MetricsRegistry:
    return MetricsRegistry(database, cache_s, failing, plan=plan_threads(Settings()))


def samples(page: MetricsRegistry) -> dict[tuple[str, str], float]:
    """Values by name and label value."""
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(page.render().decode())
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }


def furnish(database: Database) -> None:
    """Two domains, one with three speakers, a fraudster and an active job of which 7 of 10 are open."""
    with database.write() as connection:
        for domain_id in (ONE, TWO):
            connection.execute(
                insert(domains).values(
                    domain_id=domain_id,
                    account_id="0" * 12,
                    region="r",
                    status="ACTIVE",
                    name_sealed=b"",
                    tags_sealed=b"",
                    kms_key_arn="k",
                    data_key_wrapped=b"",
                    default_watchlist_id="w",
                    created_at=0,
                    updated_at=0,
                )
            )
        for number in range(3):
            connection.execute(
                insert(speakers).values(
                    speaker_id=f"id#{number}",
                    domain_id=ONE,
                    customer_id_hash=bytes([number]) * 32,
                    customer_id_sealed=b"",
                    status="ENROLLED",
                    created_at=0,
                    updated_at=0,
                )
            )
        connection.execute(
            insert(fraudsters).values(fraudster_id="id#f", domain_id=TWO, wrapped=b"", created_at=to_us(NOON))
        )
        for number, status in enumerate(("IN_PROGRESS", "COMPLETED")):
            jobs.insert_job(
                connection,
                job_id=str(number) * 22,
                kind=jobs.ENROLLMENT,
                domain_id=ONE,
                name_sealed=None,
                role_arn="r",
                input_uri="i",
                output_uri="o",
                output_kms_key=None,
                config={},
                now=NOON,
            )
            connection.execute(
                update(job_rows)
                .where(job_rows.c.job_id == str(number) * 22)
                .values(status=status, entries_total=10, entries_done=3)
            )


def test_calls_are_counted_and_timed_by_operation(database: Database) -> None:
    shown = page(database)
    shown.calls.observe("DescribeSpeaker", 0.002, None)
    shown.calls.observe("DescribeSpeaker", 0.004, AccessDenied("no"))
    shown.calls.observe("DeleteSpeaker", 0.1, InternalServer())
    shown.calls.observe("DeleteSpeaker", 0.001, Throttling("slow"))
    found = samples(shown)
    assert found["voiceid_request_latency_seconds_count", "DescribeSpeaker"] == 2
    assert found["voiceid_request_latency_seconds_sum", "DescribeSpeaker"] == pytest.approx(0.006)
    assert found["voiceid_user_errors_total", "DescribeSpeaker"] == 1
    assert found["voiceid_system_errors_total", "DeleteSpeaker"] == 1
    assert found["voiceid_throttles_total", "DeleteSpeaker"] == 1
    assert ("voiceid_user_errors_total", "DeleteSpeaker") not in found


def test_an_operation_that_nobody_called_has_no_figures(database: Database) -> None:
    assert not any(name.startswith("voiceid_request") for name, _ in samples(page(database)))


def test_domains_show_their_speakers_fraudsters_jobs_and_open_requests(database: Database) -> None:
    furnish(database)
    found = samples(page(database))
    assert found["voiceid_speakers", ONE] == 3
    assert found["voiceid_fraudsters", TWO] == 1
    assert found["voiceid_active_speaker_enrollment_jobs", ONE] == 1
    assert found["sonant_queue_depth", ONE] == 7
    assert ("voiceid_active_fraudster_registration_jobs", ONE) not in found


def test_pending_and_ongoing_sessions_are_active_expired_are_not(database: Database) -> None:
    furnish(database)
    vault, now = Vault(ONE, bytes(32)), datetime.now(UTC)
    setup = sessions.Setup(
        acceptance_threshold=90, authentication_speech_s=10.0, risk_threshold=None, watchlist_id=None
    )
    with database.write() as connection:
        for number, wait_s in enumerate((60, 60, 60, -1)):
            sessions.add(
                connection,
                vault,
                domain_id=ONE,
                session_id=f"id#{number}",
                name=f"contact-{number}",
                speaker_id=None,
                setup=setup,
                contact_arn=None,
                now=now,
                until=now + timedelta(seconds=wait_s),
            )
        session_streams.claim(connection, "id#1", 1, "me", now, now + timedelta(seconds=60))
        session_streams.end(connection, "id#2", 1, "REQUESTED", now, now + timedelta(hours=24))
    found = samples(page(database))
    assert found["voiceid_active_sessions", ONE] == 2
    assert ("voiceid_active_sessions", TWO) not in found


def test_what_runners_did_is_shown_as_counters(database: Database) -> None:
    with database.write() as connection:
        counters.add(connection, {(counters.AUDIO, ""): 61.5, (counters.OUTCOMES, "NEW_ENROLLMENT"): 4})
    found = samples(page(database))
    assert found["sonant_audio_seconds_total", ""] == 61.5
    assert found["sonant_job_requests_total", "NEW_ENROLLMENT"] == 4


def test_the_database_is_not_asked_again_within_the_cache_time(database: Database) -> None:
    cached, fresh = page(database, cache_s=60), page(database)
    assert not any(name == "voiceid_speakers" for name, _ in samples(cached))
    furnish(database)
    assert not any(name == "voiceid_speakers" for name, _ in samples(cached))
    assert samples(fresh)["voiceid_speakers", ONE] == 3


def test_a_database_that_is_away_leaves_all_other_metrics(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = page(database)
    assert samples(shown)["sonant_database_available", ""] == 1
    with monkeypatch.context() as away:
        away.setattr(database, "read", _no_database)
        found = samples(shown)
    assert found["sonant_database_available", ""] == 0
    assert ("sonant_audit_failing", "") in found
    assert not any(name == "sonant_database_damaged" for name, _ in found)
    assert samples(shown)["sonant_database_damaged", ""] == 0


def _no_database() -> Any:
    raise DatabaseUnavailable("the database does not answer")


@pytest.mark.parametrize("failing", [True, False])
def test_a_trail_that_cannot_be_written_shows(database: Database, failing: bool) -> None:
    assert samples(page(database, failing=lambda: failing))["sonant_audit_failing", ""] == failing


def test_counters_are_there_from_zero(database: Database) -> None:
    shown = MetricsRegistry(database, 0.0, lambda: False, operations=["DescribeSpeaker"])
    found = samples(shown)
    for name, label in (
        ("voiceid_user_errors_total", "DescribeSpeaker"),
        ("voiceid_throttles_total", "DescribeSpeaker"),
        ("sonant_refusals_total", "AccessDeniedException"),
        ("sonant_job_requests_total", "NEW_ENROLLMENT"),
        ("sonant_integrity_faults_total", "speakers"),
        ("sonant_speakers_locked_total", ""),
        ("sonant_streams_ended_total", "CALL_ENDED"),
        ("sonant_last_backup_timestamp_seconds", ""),
    ):
        assert found[name, label] == 0.0, name
    assert labelled(shown, "sonant_jobs_total", "type", "status")["SPEAKER_ENROLLMENT", "FAILED"] == 0.0
    assert labelled(shown, "sonant_decisions_total", "kind", "decision")["fraud", "HIGH_RISK"] == 0.0


def labelled(page: MetricsRegistry, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """Values of one metric by its labels, in this order."""
    return {
        tuple(sample.labels[label] for label in labels): sample.value
        for family in text_string_to_metric_families(page.render().decode())
        for sample in family.samples
        if sample.name == name
    }


def test_every_end_of_a_stream_and_every_decision_is_known() -> None:
    assert set(STREAM_ENDS) == {reason.value for reason in EndReason}
    assert set(DECISIONS["authentication"]) == set(get_args(AuthenticationDecision))
    assert set(DECISIONS["fraud"]) == set(get_args(FraudDecision))


def test_refusals_are_counted_by_code(database: Database) -> None:
    shown = page(database)
    shown.calls.observe("DescribeSpeaker", 0.0, AccessDenied("no"))
    shown.calls.observe("DeleteSpeaker", 0.0, AccessDenied("no"))
    assert samples(shown)["sonant_refusals_total", "AccessDeniedException"] == 2


def test_decisions_are_counted_with_scores_and_times(database: Database) -> None:
    shown = page(database)
    shown.decisions.observe("authentication", "ACCEPT", 95, 11.0)
    shown.decisions.observe("authentication", "REJECT", 20, 25.0)
    shown.decisions.observe("authentication", "NOT_ENOUGH_SPEECH", None, 3.0)
    shown.decisions.observe("fraud", "LOW_RISK", 0, None)
    found = labelled(shown, "sonant_decisions_total", "kind", "decision")
    assert found["authentication", "ACCEPT"] == found["authentication", "NOT_ENOUGH_SPEECH"] == 1
    scores = labelled(shown, "sonant_decision_score_bucket", "kind", "le")
    assert (scores["authentication", "94.0"], scores["authentication", "100.0"]) == (1, 2)
    assert scores["fraud", "9.0"] == 1
    times = labelled(shown, "sonant_decision_seconds_count", "kind")
    assert times == {("authentication",): 2, ("fraud",): 0}


def test_ended_jobs_are_counted_with_their_working_time(database: Database) -> None:
    with database.write() as connection:
        for worked_s, status in ((0.5, "COMPLETED"), (60.0, "COMPLETED"), (100_000.0, "FAILED")):
            counters.count_ended_job(connection, jobs.ENROLLMENT, status, worked_s)
    shown = page(database)
    assert labelled(shown, "sonant_jobs_total", "type", "status")[jobs.ENROLLMENT, "COMPLETED"] == 2
    buckets = labelled(shown, "sonant_job_seconds_bucket", "type", "le")
    bounds = {bound: value for (kind, bound), value in buckets.items() if kind == jobs.ENROLLMENT}
    assert (bounds["1"], bounds["15"], bounds["60"], bounds["86400"], bounds["+Inf"]) == (1, 1, 2, 2, 3)
    assert samples(shown)["sonant_job_seconds_sum", jobs.ENROLLMENT] == 100_060.5
    assert samples(shown)["sonant_job_seconds_count", jobs.REGISTRATION] == 0


def test_the_build_and_the_process_are_shown(database: Database) -> None:
    shown = page(database)
    assert labelled(shown, "sonant_build_info", "version", "python") == {
        (__version__, platform.python_version()): 1.0
    }
    assert samples(shown)["process_resident_memory_bytes", ""] > 0


def test_the_oldest_waiting_event_is_shown(database: Database) -> None:
    furnish(database)
    stored_at = datetime.now(UTC) - timedelta(minutes=10)
    with database.write() as connection:
        outbox.add_sink(connection, "webhook")
        connection.execute(
            insert(events).values(
                event_id="e", domain_id=ONE, type="t", created_at=to_us(stored_at), document="{}"
            )
        )
    assert samples(page(database))["sonant_events_oldest_seconds", "webhook"] >= 600


# --- who may read them


def client(token: str) -> TestClient:
    return served(lambda: b"figures", token)


def served(render: Callable[[], bytes], token: str = "", most_waiting: int = 2) -> TestClient:
    threads = ThreadPool(1, "metrics", most_waiting=most_waiting)
    return TestClient(Starlette(routes=[metrics_route(render, "text/plain", token, threads)]))


def test_a_scraper_with_the_token_is_served() -> None:
    answer = client("t0ken").get("/metrics", headers={"Authorization": "Bearer t0ken"})
    assert (answer.status_code, answer.content) == (200, b"figures")


@pytest.mark.parametrize(
    "shown", ["", "Bearer", "Bearer ", "Bearer t0ke", "Bearer t0kenn", "Basic t0ken", "t0ken"]
)
def test_a_scraper_with_another_token_is_not(shown: str) -> None:
    answer = client("t0ken").get("/metrics", headers={"Authorization": shown})
    assert (answer.status_code, answer.content) == (401, b"")


def test_scrapes_that_pile_up_are_refused() -> None:
    go_on = threading.Event()

    def render() -> bytes:
        go_on.wait()
        return b"figures"

    async def scrape(app: Starlette) -> list[int]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://sonant") as client:
            tasks = [asyncio.create_task(client.get("/metrics")) for _ in range(5)]
            while sum(task.done() for task in tasks) < 3:
                await asyncio.sleep(0)
            go_on.set()
            return [(await task).status_code for task in tasks]

    app = served(render).app
    assert isinstance(app, Starlette)
    statuses = asyncio.run(scrape(app))
    assert sorted(statuses) == [200, 200, 503, 503, 503]


def test_settings_tell_how_many_connections_there_are() -> None:
    settings = Settings(database="postgresql://127.0.0.1/sonant")
    rest = plan_threads(settings).total - settings.gateway.threads - settings.gateway.comparisons
    told = next(declaration_of(field) for field in fields(Postgres) if field.name == "connections")
    assert told is not None
    assert told.meaning.endswith(f"`gateway.threads`, `gateway.comparisons` and {rest}.")


def test_threads_and_connections_are_shown(database: Database) -> None:
    plan = plan_threads(Settings())
    with ThreadPoolExecutor(1) as scraper, database.write():
        shown = scraper.submit(lambda: samples(page(database))).result()
    assert shown["sonant_threads", "calls"] == plan.calls == 8
    assert shown["sonant_database_connections_in_use", ""] == 1
    assert shown["sonant_database_connections_waiting", ""] == 0


def test_without_a_token_anybody_who_reaches_it_is_served() -> None:
    assert client("").get("/metrics").status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_no_token_is_needed_on_a_loopback_address(host: str) -> None:
    check_metrics(Settings(metrics=Metrics(enabled=True), gateway=Gateway(host=host)))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "voice.example"])
def test_elsewhere_metrics_without_a_token_are_a_setup_error(host: str) -> None:
    check_metrics(Settings(gateway=Gateway(host=host)))
    check_metrics(Settings(metrics=Metrics(enabled=True, token="t"), gateway=Gateway(host=host)))
    with pytest.raises(SetupError, match=r"metrics\.token"):
        check_metrics(Settings(metrics=Metrics(enabled=True), gateway=Gateway(host=host)))


def test_the_token_is_not_shown() -> None:
    assert "t0ken" not in repr(Settings(metrics=Metrics(token="t0ken")))


def test_every_error_is_of_one_of_the_three_kinds(database: Database) -> None:
    shown = page(database)
    leaves = [leaf for base in WireError.__subclasses__() for leaf in base.__subclasses__()]
    for leaf in leaves:
        shown.calls.observe(leaf.__name__, 0.0, leaf.__new__(leaf))
    counted = [name for name, _ in samples(shown) if name.endswith("_total") and name.startswith("voiceid")]
    assert len(counted) == len(leaves)
