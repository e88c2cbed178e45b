"""Rate limits per account, Region and operation."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonant.errors import Throttling
from sonant.gateway import throttle as module
from sonant.gateway.models import OWN_PREFIX, load_models
from sonant.gateway.throttle import GROUPS, LEAST_BURST, Throttle, rates_per_s
from sonant.settings import Rates

OPERATIONS = load_models().operations
OWN = [operation.name for target, operation in OPERATIONS.items() if target.startswith(OWN_PREFIX)]


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


def taken(throttle, account="1" * 12, operation="Call", tries=1000):
    """How many calls in a row are let through."""
    for done in range(tries):
        try:
            throttle.take(account, operation)
        except Throttling:
            return done
    return tries


def test_every_operation_of_both_models_has_exactly_one_rate():
    grouped = Counter(name for names in GROUPS.values() for name in names)
    assert set(grouped.values()) == {1}
    published = {o.name for target, o in OPERATIONS.items() if not target.startswith(OWN_PREFIX)}
    assert published <= set(grouped) <= published | set(OWN)
    assert OWN
    assert not published & set(OWN)
    rates = rates_per_s(Rates(), OWN)
    assert rates.keys() == {operation.name for operation in OPERATIONS.values()}
    assert all(rate > 0 for rate in rates.values())


def test_every_rate_setting_is_used():
    assert {field.name for field in fields(Rates)} == {*GROUPS, "sonant_operations", "factor"}


@pytest.mark.parametrize(
    ("operation", "rate"),
    [
        ("EvaluateSession", 60),
        ("CreateDomain", 2),
        ("ListSpeakerEnrollmentJobs", 2),
        ("ListSpeakers", 5),
        ("OptOutSpeaker", 10),
        ("DeleteFraudster", 10),
        ("TagResource", 2),
        ("AssociateFraudster", 10),
        ("ListFraudsters", 5),
        ("DeleteWatchlist", 2),
        ("ImportOptOuts", 10),
        ("DescribeSession", 60),
    ],
)
def test_default_rates_are_the_published_ones(operation, rate):
    assert rates_per_s(Rates(), OWN)[operation] == rate


def test_the_factor_multiplies_all_rates_and_0_disables_them(clock):
    normal, double = rates_per_s(Rates(), OWN), rates_per_s(Rates(factor=2.0), OWN)
    assert double == {name: 2 * rate for name, rate in normal.items()}
    off = Throttle(rates_per_s(Rates(factor=0.0), OWN), clock)
    assert taken(off, operation="CreateDomain", tries=5000) == 5000


def test_an_operation_without_a_rate_is_not_limited(clock):
    assert taken(Throttle({"Other": 1.0}, clock), tries=5000) == 5000


@pytest.mark.parametrize(("rate", "burst"), [(1.0, 5), (2.0, 5), (5.0, 5), (10.0, 10), (60.0, 60), (7.5, 7)])
def test_a_bucket_holds_one_second_of_calls_and_at_least_five(clock, rate, burst):
    throttle = Throttle({"Call": rate}, clock)
    assert taken(throttle) == burst
    clock.now_s += 3600.0
    assert taken(throttle) == burst, "no more than a full bucket after however long a pause"


def test_an_empty_bucket_fills_at_its_rate(clock):
    throttle = Throttle({"Call": 2.0}, clock)
    taken(throttle)
    clock.now_s += 0.25
    assert taken(throttle) == 0
    clock.now_s += 0.25
    assert taken(throttle) == 1, "refused calls cost nothing"
    clock.now_s += 1.5
    assert taken(throttle) == 3


def test_throttling_is_the_modelled_error(clock):
    throttle = Throttle({"Call": 1.0}, clock)
    taken(throttle)
    with pytest.raises(Throttling, match=r"^Rate exceeded$") as refused:
        throttle.take("1" * 12, "Call")
    assert refused.value.http_status == 429


def test_accounts_and_operations_do_not_share_a_bucket(clock):
    throttle = Throttle({"Call": 1.0, "Other": 1.0}, clock)
    assert taken(throttle, "1" * 12) == LEAST_BURST
    assert taken(throttle, "2" * 12) == LEAST_BURST
    assert taken(throttle, "1" * 12, "Other") == LEAST_BURST
    assert taken(throttle, "1" * 12) == 0


def test_the_number_of_buckets_is_bounded(clock, monkeypatch):
    monkeypatch.setattr(module, "MAX_BUCKETS", 50)
    throttle = Throttle({"Call": 1.0}, clock)
    for number in range(1000):
        throttle.take(f"{number:012d}", "Call")
        assert throttle.bucket_count <= 50


@given(
    rate=st.floats(0.1, 100),
    pauses_s=st.lists(st.floats(0, 3) | st.just(0.0), min_size=1, max_size=200),
)
def test_no_period_admits_more_than_burst_and_rate_allow(rate, pauses_s):
    clock = Clock()
    throttle, through = Throttle({"Call": rate}, clock), []
    for pause_s in pauses_s:
        clock.now_s += pause_s
        try:
            throttle.take("1" * 12, "Call")
        except Throttling:
            continue
        through.append(clock.now_s)
    burst = max(rate, LEAST_BURST)
    for first in range(len(through)):
        for last in range(first, len(through)):
            assert last - first + 1 <= burst + (through[last] - through[first]) * rate + 1e-6


def test_shared_buckets_decide_after_the_local_bucket():
    requests = []

    def shared(account_id, region, operation, rate, size):
        requests.append((account_id, region, operation, rate, size))
        return len(requests) != 2

    throttle = Throttle({"DescribeSpeaker": 6.0, "Free": 0.0}, lambda: 0.0, shared)
    throttle.take("1" * 12, "DescribeSpeaker", "eu-west-2")
    with pytest.raises(Throttling):
        throttle.take("1" * 12, "DescribeSpeaker", "eu-west-2")
    for _ in range(4):
        throttle.take("1" * 12, "DescribeSpeaker", "eu-west-2")
    with pytest.raises(Throttling):
        throttle.take("1" * 12, "DescribeSpeaker", "eu-west-2")
    throttle.take("1" * 12, "Free")
    assert requests == [("1" * 12, "eu-west-2", "DescribeSpeaker", 6.0, 6.0)] * 6
