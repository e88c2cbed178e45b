"""Opened data keys stay in memory for their time and no longer."""

from __future__ import annotations

import threading

import pytest
from manual_clock import ManualClock
from waiting import wait_until

from sonant.storage.crypto import vault
from sonant.storage.keys.expiring import ExpiringItems
from sonant.storage.keys.store import DataKeyCache


def test_data_key_leaves_memory_although_nobody_asks_for_it():
    cache = DataKeyCache(0.05)
    assert cache.get("a", lambda: b"key") == b"key"
    assert len(cache) == 1
    wait_until("the key to leave memory", lambda: len(cache) == 0)


def test_data_key_is_opened_again_after_its_time():
    clock, opened = ManualClock(), []
    cache = DataKeyCache(5.0, clock)

    def unwrap():
        opened.append(clock())
        return b"key"

    for _ in range(3):
        cache.get("a", unwrap)
        clock.advance(2.5)
    assert len(opened) == 2


def test_time_runs_from_before_the_request():
    clock = ManualClock()
    cache = DataKeyCache(5.0, clock)

    def slow():
        clock.advance(4.0)
        return b"first"

    cache.get("a", slow)
    clock.advance(1.0)
    assert cache.get("a", lambda: b"second") == b"second"


def test_refused_key_is_not_held():
    cache = DataKeyCache(5.0)

    def refused():
        raise ValueError("disabled")

    with pytest.raises(ValueError, match="disabled"):
        cache.get("a", refused)
    assert len(cache) == 0


def test_items_whose_time_is_over_are_removed_together():
    clock = ManualClock()
    items: ExpiringItems[int] = ExpiringItems(60.0, 10, clock)
    for number in range(3):
        items.put(number, number, clock())
        clock.advance(20.0)
    assert (len(items), items.remove_expired(), len(items)) == (3, 20.0, 2)
    clock.advance(40.0)
    assert (items.remove_expired(), len(items)) == (None, 0)


def test_items_beyond_the_limit_replace_the_oldest():
    items: ExpiringItems[int] = ExpiringItems(60.0, 2, lambda: 0.0)
    for number in range(3):
        items.put(number, number, 0.0)
    assert [items.get(number) for number in range(3)] == [None, 1, 2]


def test_thread_that_removes_keys_ends_with_the_last_one_and_starts_again():
    others = set(threading.enumerate())

    def at_work():
        return {one for one in threading.enumerate() if one.name == "secrets in memory"} - others

    cache = DataKeyCache(0.05)
    for _ in range(2):
        cache.get("a", lambda: b"key")
        wait_until("the thread to end", lambda: not at_work() and not len(cache))


def test_data_key_whose_key_was_taken_away_leaves_memory_at_once():
    revoked = set()
    cache = DataKeyCache(3600.0, is_good=lambda cache_key: cache_key not in revoked)
    for name in ("stays", "goes"):
        cache.get(name, name.encode)
    revoked.add("goes")
    wait_until("the data key to leave memory", lambda: len(cache) == 1)
    assert cache.get("stays", lambda: b"opened again") == b"stays"


def test_keys_derived_from_a_data_key_are_held_by_its_vault_only():
    assert not [name for name in vars(vault) if hasattr(getattr(vault, name), "cache_info")]
