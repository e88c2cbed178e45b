"""The tests' own strictness: what JSON a typed client refuses, and what counts as the same."""

from __future__ import annotations

import base64
import copy
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strict_json import (
    NotStrict,
    assert_same,
    blob,
    boolean,
    differences,
    epoch_seconds,
    number,
    read_json,
    text,
    whole_number,
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=12,
)
#: Values that Python takes for equal, of different types.
LOOKALIKES = [(0, False), (1, True), (0, 0.0), (1.0, True), (0, -0.0)]


@given(VALUES)
def test_what_json_can_say_is_read_as_it_was_written(value: object) -> None:
    assert_same(read_json(json.dumps(value).encode()), value)
    assert_same(read_json(json.dumps(value, ensure_ascii=False).encode()), value)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting"),
        (b"{} {}", "Extra data"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'"\xff"', "codec can't decode"),
        (b'{"a": NaN}', "NaN is no JSON"),
        (b"[-Infinity]", "-Infinity is no JSON"),
        (b"[1e999]", "larger than a double"),
        (b'{"a": 1, "b": 2, "a": 1}', "given twice: a"),
        (b'[{"x": {"a": 1, "a": 2}}]', "given twice: a"),
        (b'["\\ud800"]', "half of a surrogate pair"),
        (b'{"\\udfff": 1}', "half of a surrogate pair"),
    ],
)
def test_what_some_reader_of_json_refuses_is_refused(raw: bytes, why: str) -> None:
    with pytest.raises(NotStrict, match=why):
        read_json(raw)


@given(VALUES)
def test_a_value_is_the_same_as_its_copy(value: object) -> None:
    assert differences(copy.deepcopy(value), value) == []


@pytest.mark.parametrize(("one", "other"), LOOKALIKES)
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"a": {"b": [1, v]}}])
def test_values_of_other_types_are_not_the_same(one: object, other: object, wrap: object) -> None:
    for found, expected in ((one, other), (other, one)):
        with pytest.raises(AssertionError, match="is of type"):
            assert_same(wrap(found), wrap(expected))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("found", "expected", "told"),
    [
        ({"a": 1}, {"a": 2}, ["a: 1, not 2"]),
        ({"a": 1}, {}, ["a: not expected"]),
        ({}, {"a": {"b": 1}}, ["a: missing"]),
        ({1: "x"}, {True: "x"}, ["True: missing", "1: not expected"]),
        ([1, 2], [1], ["the value: 2 items, not 1"]),
        ({"a": [{"b": False}]}, {"a": [{"b": 0}]}, ["a[0].b: False is of type bool, not int"]),
        ({"a": None}, {}, ["a: not expected"]),
        ("0", 0, ["the value: '0' is of type str, not int"]),
    ],
)
def test_differences_are_reported_by_their_place(found: object, expected: object, told: list[str]) -> None:
    assert differences(found, expected) == told


OTHER_VALUES: tuple[object, ...] = (0, 1, 0.0, "true", "", None, [], {})


def test_a_boolean_is_true_or_false_and_nothing_else() -> None:
    assert [boolean(value) for value in (True, False)] == [[], []]
    assert all(boolean(value) for value in OTHER_VALUES)


def test_a_whole_number_has_no_point_and_keeps_to_its_limits() -> None:
    assert not any(whole_number(value, -1, 5) for value in (-1, 0, 5))
    assert all(whole_number(value, -1, 5) for value in (-2, 6, 1.0, True, False, "1", None, 10**30))


def test_a_number_is_finite_and_no_boolean() -> None:
    assert not any(number(value, 0, 5) for value in (0, 5, 0.5, 5.0))
    assert all(number(value, 0, 5) for value in (-0.1, 5.1, True, "1", None, math.nan, math.inf))


def test_a_time_is_a_number_of_seconds_to_the_millisecond() -> None:
    assert not any(epoch_seconds(value) for value in (0, 1700000000, 1700000000.5, 1795378069.905))
    milliseconds = 1795378069905
    wrong = ("2026-01-01T00:00:00Z", True, None, -1, 1700000000.1234, milliseconds, math.inf)
    assert all(epoch_seconds(value) for value in wrong)


@given(st.integers(0, 253_402_300_799_999))
def test_every_millisecond_is_a_time(milliseconds: int) -> None:
    assert epoch_seconds(milliseconds / 1000) == []


def test_a_text_is_judged_by_length_pattern_and_values() -> None:
    assert text("山田", 2, 2, r"^\p{L}+$") == []
    assert text("", pattern=r"^\p{ASCII}{0,9}$") == []
    assert text("SKIP", values=["SKIP", "OVERWRITE"]) == []
    for told in (
        text(7),
        text(None),
        text("a", least=2),
        text("abc", most=2),
        text("a\n", pattern="^a$"),
        text("xay", pattern="a"),
        text("\u2028", pattern="."),
        text("é", pattern=r"\p{ASCII}"),
        text("skip", values=["SKIP"]),
    ):
        assert len(told) == 1


@given(st.binary())
def test_bytes_are_base64_as_an_encoder_writes_them(data: bytes) -> None:
    written = base64.b64encode(data).decode()
    assert blob(written, len(data), len(data)) == []
    assert blob(written, len(data) + 1)
    if written.endswith("="):
        assert blob(written.rstrip("="))
    for wrong in (written + "\n", written + " ", written + "-", data, None, list(data)):
        assert blob(wrong)
