"""Local keys: their states, as other processes see them."""

import json
import multiprocessing
import time
from datetime import UTC, datetime, timedelta

import pytest
from counting import counted_calls
from waiting import PATIENCE_S

from sonant.errors import KeyNotFound, KeyUnusable, SetupError
from sonant.storage.keys.stores.local import LocalKeyStore

REGION, ACCOUNT = "eu-west-1", "123456789012"
CONTEXT = {"aws:voiceid:domain:arn": "arn:aws:voiceid:eu-west-1:123456789012:domain/D"}


@pytest.fixture
def store(open_keys):
    return open_keys()


# --- states


def test_a_disabled_key_refuses_every_use_until_it_is_enabled(store):
    key = store.create()
    data_key = store.generate_data_key(key.key_id, CONTEXT)
    assert store.disable(key.key_id).state == "Disabled"
    with pytest.raises(KeyUnusable, match="disabled"):
        store.decrypt(data_key.wrapped, CONTEXT)
    with pytest.raises(KeyUnusable):
        store.generate_data_key(key.key_id, CONTEXT)
    assert store.enable(key.key_id) == key
    assert store.decrypt(data_key.wrapped, CONTEXT) == data_key.plaintext


def test_key_pending_deletion_is_refused_and_shows_its_date(store, clock):
    key = store.create()
    wrapped = store.generate_data_key(key.key_id, CONTEXT).wrapped
    pending = store.schedule_deletion(key.key_id, 7)
    assert (pending.state, pending.deletion_date) == ("PendingDeletion", clock.now + timedelta(days=7))
    with pytest.raises(KeyUnusable, match="pending deletion"):
        store.decrypt(wrapped, CONTEXT)
    for change in (store.enable, store.disable, lambda ref: store.schedule_deletion(ref, 7)):
        with pytest.raises(KeyUnusable, match="cancel the deletion first"):
            change(key.key_id)


def test_a_cancelled_deletion_leaves_the_key_disabled(store, clock):
    key = store.create()
    data_key = store.generate_data_key(key.key_id, CONTEXT)
    store.schedule_deletion(key.key_id, 30)
    clock.now += timedelta(days=29, hours=23)
    cancelled = store.cancel_deletion(key.key_id)
    assert (cancelled.state, cancelled.deletion_date) == ("Disabled", None)
    store.enable(key.key_id)
    clock.now += timedelta(days=100)
    assert store.decrypt(data_key.wrapped, CONTEXT) == data_key.plaintext


def test_only_a_pending_deletion_can_be_cancelled(store):
    with pytest.raises(SetupError, match="not pending deletion"):
        store.cancel_deletion(store.create().key_id)


@pytest.mark.parametrize("days", [-1, 0, 6, 31, 7.5])
def test_a_deletion_waits_7_to_30_days(store, days):
    key = store.create()
    with pytest.raises(SetupError, match="7 to 30 days"):
        store.schedule_deletion(key.key_id, days)
    assert store.describe(key.key_id).state == "Enabled"


def test_key_past_its_deletion_date_does_not_exist_before_the_purge(store, clock):
    key = store.create(alias="alias/sonant")
    wrapped = store.generate_data_key(key.key_id, CONTEXT).wrapped
    store.schedule_deletion(key.key_id, 7)
    clock.now += timedelta(days=7)
    uses = [
        lambda: store.describe(key.key_id),
        lambda: store.describe("alias/sonant"),
        lambda: store.decrypt(wrapped, CONTEXT),
        lambda: store.generate_data_key("alias/sonant", CONTEXT),
        lambda: store.cancel_deletion(key.key_id),
        lambda: store.enable(key.key_id),
    ]
    for use in uses:
        with pytest.raises(KeyNotFound):
            use()
    assert store.list() == []
    assert store.create(alias="alias/sonant").key_id != key.key_id


def test_purge_destroys_due_keys_only(store, open_keys, clock, tmp_path):
    due, later, kept = (store.create(alias=f"alias/{name}") for name in ("due", "later", "kept"))
    wrapped = store.generate_data_key(due.key_id, CONTEXT).wrapped
    material = json.loads((tmp_path / "keys" / f"{due.key_id}.json").read_text())["material"]
    store.schedule_deletion(due.key_id, 7)
    store.schedule_deletion(later.key_id, 8)
    assert store.purge_due() == []
    clock.now += timedelta(days=7)

    assert store.purge_due() == [due.key_id]

    assert [key.key_id for key in store.list()] == sorted([later.key_id, kept.key_id])
    for file in (tmp_path / "keys").iterdir():
        assert material not in file.read_text()
        assert due.key_id not in file.read_text() or file.name == "destroyed.json"
    clock.now -= timedelta(days=7)
    for instance in (store, open_keys()):
        with pytest.raises(KeyNotFound):
            instance.decrypt(wrapped, CONTEXT)


# --- several processes


def test_change_by_one_store_takes_effect_at_the_next_use_of_another(open_keys, clock):
    service, tool = open_keys(), open_keys()
    key = service.create(alias="alias/sonant")
    data_key = service.generate_data_key("alias/sonant", CONTEXT)
    for _ in range(20):
        assert service.decrypt(data_key.wrapped, CONTEXT) == data_key.plaintext
        tool.disable(key.key_id)
        with pytest.raises(KeyUnusable):
            service.decrypt(data_key.wrapped, CONTEXT)
        tool.enable(key.key_id)
    tool.schedule_deletion(key.key_id, 7)
    with pytest.raises(KeyUnusable):
        service.generate_data_key("alias/sonant", CONTEXT)
    tool.cancel_deletion(key.key_id)
    other = tool.create()
    tool.delete_alias("alias/sonant")
    tool.create_alias("alias/sonant", other.key_id)
    assert service.describe("alias/sonant").key_id == other.key_id
    tool.schedule_deletion(key.key_id, 7)
    clock.now += timedelta(days=8)
    tool.purge_due()
    with pytest.raises(KeyNotFound):
        service.decrypt(data_key.wrapped, CONTEXT)


def test_changes_within_one_clock_tick_differ(store, tmp_path, monkeypatch):
    key = store.create()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    times = []
    for change in (store.disable, store.enable) * 5:
        change(key.key_id)
        times.append((tmp_path / "keys" / f"{key.key_id}.json").stat().st_mtime_ns)
    assert times == sorted(set(times))


def _create_five(folder, number):
    store = LocalKeyStore(folder, region=REGION, account=ACCOUNT, clock=lambda: datetime.now(UTC))
    for count in range(5):
        store.create(alias=f"alias/{number}-{count}")


def test_concurrent_writers_in_several_processes_lose_no_change(store, tmp_path):
    processes = [
        multiprocessing.get_context("fork").Process(target=_create_five, args=(tmp_path / "keys", number))
        for number in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE_S)
        assert process.exitcode == 0
    assert sorted(alias for key in store.list() for alias in key.aliases) == sorted(
        f"alias/{number}-{count}" for number in range(4) for count in range(5)
    )


def test_keys_outlive_the_process(open_keys):
    first = open_keys()
    first.create("kept", alias="alias/sonant")
    data_key = first.generate_data_key("alias/sonant", CONTEXT)
    second = open_keys()
    assert second.list() == first.list()
    assert second.decrypt(data_key.wrapped, CONTEXT) == data_key.plaintext


# --- cost


def test_unwrapping_checks_the_key_files_version_without_reading_it(store):
    wrapped = store.generate_data_key(store.create().key_id, CONTEXT).wrapped
    store.decrypt(wrapped, CONTEXT)
    with counted_calls() as calls:
        store.decrypt(wrapped, CONTEXT)
    asked = {name: count for name, count in calls.items() if name.startswith("posix.")}
    assert asked == {"posix.stat": 1, "posix.lstat": 1}
    assert calls.total() < 45
