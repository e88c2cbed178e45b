"""What time does to the data, with a clock that is moved by hand."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from batch_house import House
from batch_values import entry
from sqlalchemy import func, select, text

from sonant.errors import AccessDenied, ResourceNotFound
from sonant.ids import new_generated_id
from sonant.installation import DEFAULT_ALIAS
from sonant.jobs.housekeeping import (
    BATCH,
    KEY_CHANGE_PAUSES,
    RETRY_S,
    SCRUB_S,
    SUSPENSION,
    SWEEP_S,
    Housekeeper,
    years_before,
)
from sonant.settings import Enrollment, Jobs, Quotas, Settings
from sonant.store import domains, speakers, watchlists
from sonant.store.database.schema import metadata, speaker_keys, voiceprints
from sonant.store.vault import open_vault

START = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
VECTOR = bytes(range(256)) * 4
INSTANT = timedelta(microseconds=1)


@dataclass
class MovedClock:
    now: datetime = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock():
    return MovedClock()


@pytest.fixture
def kept(tmp_path, clock):
    settings = Settings(
        data=tmp_path / "data",
        enrollment=Enrollment(net_speech_s=6.0),
        jobs=Jobs(workers=1),
        quotas=Quotas(domains_per_account=1000),
    )
    house = House.open(settings, clock=clock)
    yield house
    house.close()


@pytest.fixture
def keeper(kept, clock):
    return Housekeeper(database=kept.store.database, keys_of=kept.store.accounts.keys, clock=clock)


def vault_of(house, connection, domain_id):
    domain = domains.find_by_id(connection, domain_id)
    return open_vault(house.store.keys, domain_id, domain.arn, domain.data_key_wrapped)


def enroll(house, domain_id, *customers):
    """Enrolled speakers without a recording; their generated ids."""
    made = []
    with house.store.database.write() as connection:
        vault = vault_of(house, connection, domain_id)
        for customer in customers:
            speaker_id = new_generated_id()
            seal = speakers.add(
                connection,
                vault,
                domain_id=domain_id,
                speaker_id=speaker_id,
                customer_id=customer,
                status="PENDING",
                now=house.service.clock(),
            )
            voiceprint = speakers.Voiceprint(model_id="m", vector=VECTOR, audio=b"fLaC", net_speech_s=6.0)
            speakers.enroll(connection, seal, speaker_id, voiceprint, house.service.clock())
            made.append(speaker_id)
    return made


def add_fraudster(house, domain_id):
    fraudster_id = new_generated_id()
    with house.store.database.write() as connection:
        domain = domains.find_by_id(connection, domain_id)
        _, wrapped = vault_of(house, connection, domain_id).new_speaker(fraudster_id)
        watchlists.add_fraudster(
            connection,
            fraudster_id=fraudster_id,
            domain_id=domain_id,
            wrapped=wrapped,
            watchlist_id=domain.default_watchlist_id,
            now=house.service.clock(),
        )
    return fraudster_id, wrapped


def secrets_of(house, speaker_id):
    """The wrapped key and the sealed voiceprint, as they stand in the database now."""
    with house.store.database.read() as connection:
        wrapped = connection.execute(
            select(speaker_keys.c.wrapped).where(speaker_keys.c.speaker_id == speaker_id)
        ).scalar_one()
        vector, audio = connection.execute(
            select(voiceprints.c.vector_sealed, voiceprints.c.audio_sealed).where(
                voiceprints.c.speaker_id == speaker_id
            )
        ).one()
    return wrapped, vector, audio


def files_with(house, *wanted):
    """Names of the data folder's files that hold any of some bytes."""
    return [
        path.name
        for path in sorted(house.settings.data.rglob("*"))
        if path.is_file() and any(one in path.read_bytes() for one in wanted)
    ]


def details(house, domain_id):
    return house.call("DescribeDomain", DomainId=domain_id)["Domain"]["ServerSideEncryptionUpdateDetails"]


def change_key(house, domain_id, key):
    house.call(
        "UpdateDomain",
        DomainId=domain_id,
        Name="tests",
        ServerSideEncryptionConfiguration={"KmsKeyId": key},
    )


# --- key changes


def test_a_key_change_is_carried_through_and_the_old_key_is_needed_until_then(kept, keeper):
    old = kept.store.keys.create(alias="alias/old")
    new = kept.store.keys.create(alias="alias/new")
    domain_id = kept.new_domain(key="alias/old")
    change_key(kept, domain_id, "alias/new")
    assert details(kept, domain_id)["UpdateStatus"] == "IN_PROGRESS"
    assert details(kept, domain_id)["OldKmsKeyId"] == old.arn
    kept.store.keys.disable("alias/old")
    with pytest.raises(AccessDenied, match="is disabled"):
        kept.call("ListSpeakers", DomainId=domain_id)
    kept.store.keys.enable("alias/old")
    assert keeper.change_keys() == 1
    assert details(kept, domain_id)["UpdateStatus"] == "COMPLETED"
    kept.store.keys.disable("alias/old")
    assert kept.call("ListSpeakers", DomainId=domain_id)["SpeakerSummaries"] == []
    kept.store.keys.enable("alias/old")
    kept.store.keys.disable("alias/new")
    with pytest.raises(AccessDenied, match=new.key_id):
        kept.call("ListSpeakers", DomainId=domain_id)
    assert keeper.change_keys() == 0


def test_a_key_change_is_tried_at_once_after_5_and_after_15_minutes_and_then_fails(kept, keeper, clock):
    kept.store.keys.create(alias="alias/old")
    domain_id = kept.new_domain(key="alias/old")
    other = kept.new_domain()
    change_key(kept, domain_id, DEFAULT_ALIAS)
    old = kept.store.keys.disable("alias/old")

    def state():
        with kept.store.database.read() as connection:
            domain = domains.find_by_id(connection, domain_id)
        return domain.update_status, domain.update_attempts

    assert (timedelta(minutes=5), timedelta(minutes=15)) == KEY_CHANGE_PAUSES
    keeper.change_keys()
    assert state() == ("IN_PROGRESS", 1)
    for attempt, pause in enumerate(KEY_CHANGE_PAUSES, start=1):
        clock.now += pause - INSTANT
        keeper.change_keys()
        assert state() == ("IN_PROGRESS", attempt), "not before its time"
        clock.now += INSTANT
        keeper.change_keys()
    assert state()[0] == "FAILED"
    clock.now += timedelta(days=1)
    keeper.change_keys()
    assert state()[0] == "FAILED", "it is not tried for ever"

    kept.store.keys.enable("alias/old")
    assert details(kept, domain_id)["Message"] == f"key {old.key_id} is disabled"
    change_key(kept, domain_id, DEFAULT_ALIAS)
    assert state() == ("IN_PROGRESS", 0), "the same call begins it anew"
    assert keeper.change_keys() == 1
    assert details(kept, domain_id) == {
        "Message": None,
        "OldKmsKeyId": old.arn,
        "UpdateStatus": "COMPLETED",
    }
    kept.store.keys.disable("alias/old")
    assert kept.call("ListSpeakers", DomainId=domain_id)["SpeakerSummaries"] == []
    assert details(kept, other) is None


def test_a_damaged_key_file_holds_up_no_other_domain_and_its_path_is_not_told(kept, keeper):
    broken = kept.store.keys.create(alias="alias/broken")
    kept.store.keys.create(alias="alias/fine")
    bad, good = kept.new_domain(key="alias/broken"), kept.new_domain(key="alias/fine")
    for domain_id in (bad, good):
        change_key(kept, domain_id, DEFAULT_ALIAS)
    (kept.settings.data / "keys" / f"{broken.key_id}.json").write_bytes(b"{")
    assert keeper.change_keys() == 1
    assert details(kept, good)["UpdateStatus"] == "COMPLETED"
    with kept.store.database.read() as connection:
        domain = domains.find_by_id(connection, bad)
    assert (domain.update_status, domain.update_attempts) == ("IN_PROGRESS", 1)
    assert domain.update_message == "the key cannot be read; the service's log tells why"


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
    assert files_with(kept, wrapped), "the bytes are where they are looked for"
    assert keeper.expire_speakers() == 1
    speaker = kept.call("DescribeSpeaker", DomainId=domain_id, SpeakerId="customer-1")["Speaker"]
    assert speaker["Status"] == "EXPIRED"
    assert speaker["GeneratedSpeakerId"] == speaker_id
    assert speaker["UpdatedAt"] == clock.now
    assert files_with(kept, wrapped, vector, audio) == []
    assert kept.call("ExportSpeaker", DomainId=domain_id, SpeakerId=speaker_id)["Voiceprint"] is None
    assert keeper.expire_speakers() == 0


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


def test_a_job_that_skips_enrolled_speakers_enrolls_expired_ones_as_if_they_were_new(
    kept, keeper, clock, calls
):
    domain_id = kept.new_domain()
    enroll(kept, domain_id, "customer-1")
    clock.now = START.replace(year=2030)
    keeper.expire_speakers()
    kept.put("s3://calls/english.wav", calls["english.wav"])
    outcome = kept.enroll(domain_id, [entry("r1", "customer-1", "s3://calls/english.wav")], action="SKIP")
    assert outcome.successes == {"r1": "NEW_ENROLLMENT"}
    assert list(kept.voiceprints(domain_id)) == ["customer-1"]
    assert keeper.expire_speakers() == 0


def test_a_domain_whose_key_is_disabled_is_left_for_the_next_sweep_and_the_others_are_done(
    kept, keeper, clock
):
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


# --- suspended domains


def rows_left(house):
    """Rows by table, of those that hang on domains."""
    with house.store.database.read() as connection:
        counts = {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in metadata.sorted_tables
            if table.name not in ("principals", "access_keys", "consents", "client_tokens", "counters")
        }
    return {name: count for name, count in counts.items() if count}


def test_a_suspended_domain_can_be_restored_for_30_days_and_is_then_erased_with_all_it_holds(
    kept, keeper, clock
):
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
    assert timedelta(days=30) == SUSPENSION
    assert keeper.erase_domains() == 1
    with pytest.raises(ResourceNotFound):
        kept.call("RestoreDomain", DomainId=domain_id)
    assert rows_left(kept) == {}
    assert files_with(kept, *sealed) == []


# --- the turns


def test_a_step_that_fails_does_not_stop_the_others_and_is_tried_again(kept, keeper, clock, caplog):
    domain_id = kept.new_domain()
    enroll(kept, domain_id, "customer-1")
    gone = kept.new_domain()
    kept.call("DeleteDomain", DomainId=gone)
    kept.execute(
        "CREATE TRIGGER refuse BEFORE DELETE ON domains BEGIN SELECT RAISE(ABORT, 'the disk says no'); END"
    )
    clock.now = START.replace(year=2030)
    due = {}
    keeper.turn(due)
    assert kept.speakers(domain_id)["customer-1"].status == "EXPIRED"
    assert "erasing domains failed" in caplog.text
    kept.execute("DROP TRIGGER refuse")
    clock.now += timedelta(seconds=RETRY_S) - INSTANT
    keeper.turn(due)
    assert "domains" in rows_left(kept)
    with kept.store.database.read() as connection:
        assert domains.find_by_id(connection, gone) is not None, "a fault is not met again every second"
    clock.now += INSTANT
    keeper.turn(due)
    with kept.store.database.read() as connection:
        assert domains.find_by_id(connection, gone) is None


def test_domains_and_speakers_are_looked_at_once_a_day(kept, keeper, clock):
    domain_id = kept.new_domain()
    enroll(kept, domain_id, "customer-1")
    due = {}
    clock.now = years_later = START.replace(year=2029, minute=0)
    keeper.turn(due)
    clock.now = years_later + timedelta(seconds=SWEEP_S) - INSTANT
    keeper.turn(due)
    assert kept.speakers(domain_id)["customer-1"].status == "ENROLLED"
    clock.now += INSTANT
    keeper.turn(due)
    assert kept.speakers(domain_id)["customer-1"].status == "EXPIRED"


def test_the_housekeepers_thread_ends_when_it_is_told_to(keeper):
    stop = threading.Event()
    thread = threading.Thread(target=keeper.run, args=(stop,))
    thread.start()
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


# --- the write-ahead log


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


def test_a_fraudsters_key_is_in_no_file_when_delete_fraudster_returns(kept):
    domain_id = kept.new_domain()
    fraudster_id, wrapped = add_fraudster(kept, domain_id)
    assert "sonant.db-wal" in files_with(kept, wrapped)
    kept.call("DeleteFraudster", DomainId=domain_id, FraudsterId=fraudster_id)
    assert files_with(kept, wrapped) == []


def test_what_a_busy_moment_left_in_the_log_is_gone_a_minute_later(kept, keeper, clock):
    domain_id = kept.new_domain()
    (speaker_id,) = enroll(kept, domain_id, "customer-1")
    wrapped, _, _ = secrets_of(kept, speaker_id)
    due = {}
    keeper.turn(due)
    with kept.store.database.engine.connect() as reader:  # a snapshot that needs the log
        reader.execute(text("SELECT count(*) FROM speakers")).scalar()
        kept.call("DeleteSpeaker", DomainId=domain_id, SpeakerId="customer-1")
        assert files_with(kept, wrapped), "the reader still needs it"
    clock.now += timedelta(seconds=SCRUB_S)
    keeper.turn(due)
    assert files_with(kept, wrapped) == []
