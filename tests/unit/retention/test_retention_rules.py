"""The table of what is stored for how long."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sonant.retention.rules import (
    DELIVERED_EVENT,
    REPETITIONS,
    RULES,
    SESSION,
    SUSPENDED_DOMAIN,
    UNDELIVERED_EVENT,
    UNUSED_SPEAKER,
)
from sonant.settings import Events, Live, Settings

NOON = datetime(2028, 2, 29, 12, tzinfo=UTC)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.subject[:30])
def test_a_rule_has_exactly_one_length_and_says_why(rule):
    lengths = [rule.duration, rule.years, rule.newest, rule.setting]
    assert sum(length is not None for length in lengths) == 1
    assert rule.subject and rule.since and rule.reason


@pytest.mark.parametrize(
    ("rule", "settings", "cutoff"),
    [
        (SUSPENDED_DOMAIN, Settings(), NOON - timedelta(days=30)),
        (UNUSED_SPEAKER, Settings(), datetime(2025, 2, 28, 12, tzinfo=UTC)),
        (SESSION, replace(Settings(), live=Live(keep_h=2.5)), NOON - timedelta(hours=2.5)),
        (DELIVERED_EVENT, Settings(events=Events(keep_days=3)), NOON - timedelta(days=3)),
        (UNDELIVERED_EVENT, Settings(events=Events(give_up_days=0)), None),
    ],
)
def test_the_cutoff_of_a_rule_follows_its_setting(rule, settings, cutoff):
    assert rule.cutoff(NOON, settings) == cutoff


def test_a_rule_of_numbers_has_no_cutoff():
    with pytest.raises(ValueError, match="no duration"):
        REPETITIONS.cutoff(NOON, Settings())
