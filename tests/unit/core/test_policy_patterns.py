"""Wildcards: `*` is any run of characters, `?` is any one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import PATIENCE_S

from sonant.iam.patterns import any_arn_of, any_of, tokenize


def matches(pattern: str, text: str) -> bool:
    return any_of([tokenize(pattern)]).matches(text)


def matches_arn(pattern: str, text: str) -> bool:
    return any_arn_of([tokenize(pattern)]).matches(text)


def reference(pattern: str, text: str) -> bool:
    """The definition, one character at a time: reachable positions in the pattern."""
    positions = {0}
    for step in [*text, None]:
        for position in sorted(positions):  # a `*` may stand for nothing
            while position < len(pattern) and pattern[position] == "*":
                position += 1
                positions.add(position)
        if step is None:
            break
        positions = {
            position if pattern[position] == "*" else position + 1
            for position in positions
            if position < len(pattern) and pattern[position] in (step, "*", "?")
        }
    return len(pattern) in positions


PATTERNS = st.text("ab*?", max_size=10)
TEXTS = st.text("ab", max_size=10)


@given(PATTERNS, TEXTS)
def test_patterns_match_as_defined(pattern: str, text: str) -> None:
    assert matches(pattern, text) is reference(pattern, text)


@given(st.lists(PATTERNS, max_size=4), TEXTS)
def test_several_patterns_match_what_any_matches(patterns: list[str], text: str) -> None:
    assert any_of(map(tokenize, patterns)).matches(text) is any(reference(one, text) for one in patterns)


PARTS = st.lists(st.text("ab*?", max_size=4), min_size=6, max_size=7)


@given(PARTS, st.lists(st.text("ab", max_size=4), min_size=5, max_size=8))
def test_arns_are_matched_part_by_part(pattern: list[str], arn: list[str]) -> None:
    # when
    found = matches_arn(":".join(pattern), ":".join(arn))
    # then the first five parts match one by one, and the rest as a whole
    heads = zip(pattern[:5], arn[:5], strict=True)
    tail = len(arn) > 5 and reference(":".join(pattern[5:]), ":".join(arn[5:]))
    assert found is (tail and all(reference(part, text) for part, text in heads))


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        # stars that nothing ends
        ("*a" * 2000 + "*b", "a" * 4000),
        # a long piece that almost fits everywhere
        ("*" + "a?" * 2000 + "b*", "a" * 4000),
        # runs of stars
        ("*" * 4000 + "b", "a" * 4000),
    ],
)
@pytest.mark.timeout(PATIENCE_S)
def test_no_pattern_takes_exponential_time(pattern: str, text: str) -> None:
    """Where a run may be tried again the number of tries is beyond all bounds, not only the machine's."""
    assert not matches(pattern, text)
    assert not matches_arn("arn:" + pattern + ":*:*:*:" + pattern, "arn:" + text + ":a:a:a:" + text)
