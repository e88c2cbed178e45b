"""Token buckets: how many events a stretch of time lets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonant.token_bucket import TokenBucket


def taken(bucket: TokenBucket, now_s: float, tries: int = 1000) -> int:
    return sum(bucket.take(now_s) for _ in range(tries))


def test_new_bucket_is_full() -> None:
    assert taken(TokenBucket(2.0, 5.0, now_s=100.0), 100.0) == 5


def test_tokens_come_back_with_time_up_to_the_size() -> None:
    bucket = TokenBucket(2.0, 5.0, now_s=0.0)
    taken(bucket, 0.0)
    assert taken(bucket, 0.4) == 0
    assert taken(bucket, 0.5) == 1
    assert taken(bucket, 1.6) == 2
    assert taken(bucket, 1000.0) == 5


def test_clock_that_goes_back_adds_nothing() -> None:
    bucket = TokenBucket(1.0, 5.0, now_s=100.0)
    taken(bucket, 100.0)
    assert taken(bucket, 50.0) == 0
    assert taken(bucket, 101.0) == 1


def test_added_tokens_count_up_to_the_size() -> None:
    bucket = TokenBucket(1.0, 5.0, now_s=0.0)
    taken(bucket, 0.0)
    bucket.add(2.5)
    assert taken(bucket, 0.0) == 2
    bucket.add(100.0)
    assert taken(bucket, 0.0) == 5


@given(per_s=st.floats(0.1, 50), pauses_s=st.lists(st.floats(0, 3), min_size=1, max_size=100))
def test_events_never_exceed_the_size_and_the_inflow(per_s: float, pauses_s: list[float]) -> None:
    bucket, now_s, events = TokenBucket(per_s, 5.0, now_s=0.0), 0.0, 0
    for pause_s in pauses_s:
        now_s += pause_s
        events += taken(bucket, now_s, tries=300)
    assert events <= 5.0 + per_s * now_s + 1e-6
    assert events >= 1 or per_s * now_s == pytest.approx(0)
