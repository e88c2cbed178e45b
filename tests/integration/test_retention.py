"""Speakers expire, deleted domains are erased, with a clock that is moved by hand; nothing stays behind."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from batch_values import entry
from kept_testbed import INSTANT, START, add_fraudster, enroll, files_with, rows_left, secrets_of
from sqlalchemy import text

from sonant.errors import ResourceNotFound
from sonant.events import outbox
from sonant.events.documents import speaker_event
from sonant.events.outbox import Outbox
from sonant.retention.housekeeping import BATCH, SCRUB_S
from sonant.retention.rules import SUSPENDED_DOMAIN, years_before
from sonant.storage.repositories import counters, domains

SUSPENSION = timedelta(days=30)
#: For what is told of SQLite only: PostgreSQL overwrites nothing at once.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

# --- speakers expire


@pytest.mark.parametrize(
    ("moment", "earlier"),
    [
        (datetime(2027, 7, 4, 5, tzinfo=UTC), datetime(2024, 7, 4, 5, tzinfo=UTC)),
        (datetime(2028, 2, 29, 23, 59, tzinfo=UTC), datetime(2025, 2, 28, 23, 59, tzinfo=UTC)),
        (datetime(2027, 2, 28, tzinfo=UTC), datetime(2024, 2, 28, tzinfo=UTC)),
    ],
)
def test_three_years_are_calendar_years_and_29_february_becomes_the_28th(moment, earlier):
    assert years_before(moment, 3) == earlier


def test_a_speaker_expires_three_years_after_its_last_use_and_not_before(kept, keeper, clock):
    domain_id = kept.new_domain()
    (speaker_id,) = enroll(kept, domain_id, "customer-1")
    wrapped, vector, audio = secrets_of(kept, speaker_id)
    used = START.replace(minute=0)  # exact to the hour
    clock.now = used.replace(year=2029)
    assert keeper.expire_speakers() == 0
    clock.now += INSTANT
    if kept.settings.embedded:
        assert files_with(kept, wrapped), "the bytes are where they are looked for"
    assert keeper.expire_speakers() == 1
    speaker = kept.call("DescribeSpeaker", DomainId=domain_id, SpeakerId="customer-1")["Speaker"]
    assert speaker["Status"] == "EXPIRED"
    assert speaker["GeneratedSpeakerId"] == speaker_id
    assert speaker["UpdatedAt"] == clock.now
    assert files_with(kept, wrapped, vector, audio) == []
    assert kept.call("ExportSpeaker", DomainId=domain_id, SpeakerId=speaker_id)["Voiceprint"] is None
    assert keeper.expire_speakers() == 0


@pytest.mark.slow
def test_more_speakers_than_fit_one_transaction_expire_in_one_sweep(kept, keeper, clock):
    domain_id = kept.new_domain()
    enroll(kept, domain_id, *(f"customer-{number}" for number in range(BATCH + 1)))
    clock.now = START.replace(year=2030)
    assert keeper.expire_speakers() == BATCH + 1
    assert {speaker.status for speaker in kept.speakers(domain_id).values()} == {"EXPIRED"}


def test_a_refusal_never_expires(kept, keeper, clock):
    domain_id = kept.new_domain()
    enroll(kept, domain_id, "enrolled-before")
    for customer in ("enrolled-before", "never-seen"):
        kept.call("OptOutSpeaker", DomainId=domain_id, SpeakerId=customer)
    clock.now = START.replace(year=2099)
    assert keeper.expire_speakers() == 0
    assert {speaker.status for speaker in kept.speakers(domain_id).values()} == {"OPTED_OUT"}


def test_an_expired_speaker_can_opt_out(kept, keeper, clock):
    domain_id = kept.new_domain()
    enroll(kept, domain_id, "customer-1")
    clock.now = START.replace(year=2030)
    keeper.expire_speakers()
    speaker = kept.call("OptOutSpeaker", DomainId=domain_id, SpeakerId="customer-1")["Speaker"]
    assert (speaker["CustomerSpeakerId"], speaker["Status"]) == ("customer-1", "OPTED_OUT")


def test_job_that_skips_enrolled_speakers_enrolls_expired_ones(kept, keeper, clock, calls):
    domain_id = kept.new_domain()
    enroll(kept, domain_id, "customer-1")
    clock.now = START.replace(year=2030)
    keeper.expire_speakers()
    kept.put("s3://calls/english.wav", calls["english.wav"])
    outcome = kept.enroll(domain_id, [entry("r1", "customer-1", "s3://calls/english.wav")], action="SKIP")
    assert outcome.successes == {"r1": "NEW_ENROLLMENT"}
    assert list(kept.voiceprints(domain_id)) == ["customer-1"]
    assert keeper.expire_speakers() == 0


def test_domain_with_a_disabled_key_is_left_for_the_next_sweep(kept, keeper, clock):
    kept.store.keys.create(alias="alias/off")
    closed, other = kept.new_domain(key="alias/off"), kept.new_domain()
    for domain_id in (closed, other):
        enroll(kept, domain_id, "customer-1")
    kept.store.keys.disable("alias/off")
    clock.now = START.replace(year=2030)
    assert keeper.expire_speakers() == 1
    kept.store.keys.enable("alias/off")
    assert kept.speakers(closed)["customer-1"].status == "ENROLLED"
    assert kept.speakers(other)["customer-1"].status == "EXPIRED"
    assert keeper.expire_speakers() == 1
    assert kept.speakers(closed)["customer-1"].status == "EXPIRED"


def test_a_speaker_whose_row_is_damaged_delays_no_one_and_is_counted(kept, keeper, clock, caplog):
    domain_id, other = kept.new_domain(), kept.new_domain()
    customers = [f"customer-{number}" for number in range(BATCH + 2)]
    ids = enroll(kept, domain_id, *customers)
    enroll(kept, other, "customer-1")
    for damaged in (min(ids), max(ids)):
        broken = "UPDATE speaker_keys SET wrapped = :broken WHERE speaker_id = :id"
        kept.execute(broken, id=damaged, broken=b"\0")
    clock.now = START.replace(year=2030)

    assert keeper.expire_speakers() == BATCH + 1

    assert kept.speakers(other)["customer-1"].status == "EXPIRED"
    with kept.store.database.read() as connection:
        left = connection.execute(text("SELECT speaker_id FROM speakers WHERE status = 'ENROLLED'"))
        assert set(left.scalars()) == {min(ids), max(ids)}
        assert counters.read(connection)[counters.NOT_EXPIRED, ""] == 2
    assert f"domain {domain_id}: 2 speakers could not be expired" in caplog.text
    assert "id#" not in caplog.text
    assert "customer-" not in caplog.text

    assert keeper.expire_speakers() == 0
    with kept.store.database.read() as connection:
        assert counters.read(connection)[counters.NOT_EXPIRED, ""] == 4, "every sweep meets them again"


# --- suspended domains


def test_domain_cannot_be_restored_after_30_days_even_before_the_sweep(kept, clock):
    late, early = kept.new_domain(), kept.new_domain()
    for domain_id in (late, early):
        kept.call("DeleteDomain", DomainId=domain_id)
    clock.now += SUSPENSION - INSTANT
    assert kept.call("RestoreDomain", DomainId=early)["Domain"]["DomainStatus"] == "ACTIVE"
    clock.now += INSTANT
    for _ in range(2):
        with pytest.raises(ResourceNotFound) as refused:
            kept.call("RestoreDomain", DomainId=late)
        assert refused.value.members["ResourceType"] == "DOMAIN"
    assert kept.call("DescribeDomain", DomainId=late)["Domain"]["DomainStatus"] == "SUSPENDED"
    assert kept.call("RestoreDomain", DomainId=early)["Domain"]["DomainStatus"] == "ACTIVE"


def test_suspended_domain_is_erased_after_30_days_with_its_contents(kept, keeper, clock):
    domain_id = kept.new_domain()
    (speaker_id,) = enroll(kept, domain_id, "customer-1")
    add_fraudster(kept, domain_id)
    kept.call("CreateWatchlist", DomainId=domain_id, Name="mine")
    kept.start(domain_id, [entry("r1", "customer-2", "s3://calls/none.wav")])
    assert rows_left(kept).keys() >= {"domains", "watchlists", "fraudsters", "jobs", "voiceprints"}
    sealed = secrets_of(kept, speaker_id)
    kept.call("DeleteDomain", DomainId=domain_id)

    clock.now = START + SUSPENSION - INSTANT
    assert keeper.erase_domains() == 0
    assert kept.call("RestoreDomain", DomainId=domain_id)["Domain"]["DomainStatus"] == "ACTIVE"
    assert kept.speakers(domain_id)["customer-1"].speaker_id == speaker_id
    clock.now += SUSPENSION
    assert keeper.erase_domains() == 0, "the suspension that was taken back does not count"

    kept.call("DeleteDomain", DomainId=domain_id)
    clock.now += SUSPENSION - INSTANT
    assert keeper.erase_domains() == 0
    kept.call("DeleteDomain", DomainId=domain_id)  # again: does not begin the 30 days anew
    clock.now += INSTANT
    assert SUSPENDED_DOMAIN.duration == SUSPENSION
    assert keeper.erase_domains() == 1
    with pytest.raises(ResourceNotFound):
        kept.call("RestoreDomain", DomainId=domain_id)
    assert rows_left(kept) == {}
    assert files_with(kept, *sealed) == []


# --- the write-ahead log


@on_sqlite
@pytest.mark.parametrize(
    ("operation", "request_of"),
    [
        ("DeleteSpeaker", lambda customer: {"SpeakerId": customer}),
        ("OptOutSpeaker", lambda customer: {"SpeakerId": customer}),
        ("ImportOptOuts", lambda customer: {"SpeakerIds": [customer]}),
    ],
)
def test_key_and_voiceprint_are_in_no_file_when_the_call_returns(kept, operation, request_of):
    domain_id = kept.new_domain()
    (speaker_id,) = enroll(kept, domain_id, "customer-1")
    sealed = secrets_of(kept, speaker_id)
    assert "sonant.db-wal" in files_with(kept, *sealed)
    kept.call(operation, DomainId=domain_id, **request_of("customer-1"))
    assert files_with(kept, *sealed) == []


@on_sqlite
def test_a_fraudsters_key_is_in_no_file_when_delete_fraudster_returns(kept):
    domain_id = kept.new_domain()
    fraudster_id, wrapped = add_fraudster(kept, domain_id)
    assert "sonant.db-wal" in files_with(kept, wrapped)
    kept.call("DeleteFraudster", DomainId=domain_id, FraudsterId=fraudster_id)
    assert files_with(kept, wrapped) == []


@on_sqlite
def test_what_a_busy_moment_left_in_the_log_is_gone_a_minute_later(kept, keeper, clock):
    domain_id = kept.new_domain()
    (speaker_id,) = enroll(kept, domain_id, "customer-1")
    wrapped, _, _ = secrets_of(kept, speaker_id)
    due: dict[str, datetime] = {}
    keeper.turn(due)
    with kept.store.database.engine.connect() as reader:  # a snapshot that needs the log
        reader.execute(text("SELECT count(*) FROM speakers")).scalar()
        kept.call("DeleteSpeaker", DomainId=domain_id, SpeakerId="customer-1")
        assert files_with(kept, wrapped), "the reader still needs it"
    clock.now += timedelta(seconds=SCRUB_S)
    keeper.turn(due)
    assert files_with(kept, wrapped) == []


# --- events and tokens


def test_events_that_every_sink_took_are_deleted_after_their_days(kept, keeper, clock):
    domain_id = kept.new_domain()
    with kept.store.database.write() as connection:
        outbox.add_sink(connection, "file")
        domain = domains.find_by_id(connection, domain_id)
        assert domain is not None
    with kept.store.database.write() as connection:
        told = [speaker_event(domain, "DELETE_SPEAKER", speaker_id="id#" + "0" * 22)]
        Outbox(enabled=True).put(connection, told, clock.now)
        (sequence,) = connection.execute(text("SELECT sequence FROM events")).scalars()
        assert outbox.acquire_lease(connection, "file", "me", clock.now, timedelta(hours=1))
        assert outbox.advance_cursor(connection, "file", "me", sequence)
    of_file = dataclasses.replace(keeper, sinks=["file"])
    clock.now += timedelta(days=7)
    assert of_file.purge_events() == (0, 0)
    clock.now += INSTANT
    assert of_file.purge_events() == (1, 0)


def test_client_tokens_are_deleted_a_week_after_their_use(kept, keeper, clock):
    kept.call("CreateWatchlist", DomainId=kept.new_domain(), Name="list", ClientToken="token")
    clock.now += timedelta(days=7) - INSTANT
    assert keeper.forget_tokens() == 0
    clock.now += INSTANT
    assert keeper.forget_tokens() == 1
