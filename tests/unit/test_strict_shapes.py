"""The strict judge of answers: what obeys a service model passes, and any one departure from it is found."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.model import ServiceModel, Shape
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from strict_json import matches, read_json
from strict_shapes import assert_obeys, faults

from sonant.gateway.models import load_models
from sonant.gateway.protocol import compile_output
from sonant.gateway.samples import sample

PER_SHAPE = settings(max_examples=settings().max_examples // 6, suppress_health_check=list(HealthCheck))

#: All that the two models of the service do not use, but another one may.
OTHER = ServiceModel(
    {
        "metadata": {"protocol": "json", "serviceId": "Other"},
        "operations": {},
        "shapes": {
            "All": {
                "type": "structure",
                "required": ["Kept"],
                "members": {
                    "Kept": {"shape": "Flag"},
                    "Renamed": {"shape": "Long", "locationName": "renamed"},
                    "Tags": {"shape": "Tags"},
                    "Either": {"shape": "Either"},
                    "Anything": {"shape": "Anything"},
                    "Bytes": {"shape": "Bytes"},
                    "Moment": {"shape": "Moment"},
                    "Day": {"shape": "Day"},
                    "Nested": {"shape": "Text", "jsonvalue": True},
                    "Real": {"shape": "Real"},
                },
            },
            "Flag": {"type": "boolean"},
            "Long": {"type": "long"},
            "Text": {"type": "string"},
            "Key": {"type": "string", "pattern": "[a-z]+"},
            "Tags": {"type": "map", "key": {"shape": "Key"}, "value": {"shape": "Flag"}, "max": 2},
            "Either": {
                "type": "structure",
                "union": True,
                "members": {"One": {"shape": "Flag"}, "Other": {"shape": "Text"}},
            },
            "Anything": {"type": "structure", "document": True, "members": {}},
            "Bytes": {"type": "blob", "min": 1, "max": 3},
            "Moment": {"type": "timestamp", "timestampFormat": "iso8601"},
            "Day": {"type": "timestamp", "timestampFormat": "rfc822"},
            "Real": {"type": "double", "min": 0, "max": 1},
        },
    }
).shape_for("All")
RIGHT = {
    "Kept": False,
    "renamed": 2**40,
    "Tags": {"a": True, "b": False},
    "Either": {"One": True},
    "Anything": {"any": [None, 1]},
    "Bytes": "AAA=",
    "Moment": "2026-01-01T00:00:00.5Z",
    "Day": "Fri, 13 Feb 2009 23:31:30 GMT",
    "Nested": '{"a": 1}',
    "Real": 1,
}

OUTPUTS = {
    target: operation.output_shape
    for target, operation in load_models().operations.items()
    if operation.output_shape is not None and operation.output_shape.members
}


def of_shape(shape: Any) -> st.SearchStrategy[Any]:
    """JSON values that the shape allows."""
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    match shape.type_name:
        case "structure":
            members = {name: of_shape(member) for name, member in shape.members.items()}
            needed = {name: members[name] for name in shape.required_members}
            return st.fixed_dictionaries(
                needed, optional={name: members[name] for name in members.keys() - needed.keys()}
            )
        case "list":
            return st.lists(of_shape(shape.member), min_size=least or 0, max_size=min(most or 2, 2))
        case "integer":
            return st.integers(least if least is not None else -(2**31), most or 2**31 - 1)
        case "float" | "double":
            return st.floats(least, most, allow_nan=False, allow_infinity=False)
        case "boolean":
            return st.booleans()
        case "timestamp":
            return st.integers(0, 4_000_000_000_000).map(lambda milliseconds: milliseconds / 1000)
        case "blob":
            return st.binary(max_size=20).map(lambda data: base64.b64encode(data).decode())
        case "string" if shape.enum:
            return st.sampled_from(shape.enum)
        case "string":
            pattern = shape.metadata.get("pattern")
            if pattern is None:
                return st.text(st.characters(codec="utf-8"), min_size=least or 0, max_size=20)
            if r"\p" in pattern:
                return st.text(st.sampled_from("aZ9 _.:/=+-@"), min_size=least or 0, max_size=20)
            texts = st.from_regex(pattern.removesuffix("$") + r"\Z", fullmatch=True)
            return texts.filter(
                lambda text: (least or 0) <= len(text) <= (most or 10**9) and matches(pattern, text)
            )
    raise AssertionError(shape.type_name)


def places(shape: Any, value: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Every value inside: its shape, its container, and its place in that."""
    if shape.type_name == "structure":
        for name, inner in value.items():
            yield shape.members[name], value, name
            yield from places(shape.members[name], inner)
    elif shape.type_name == "list":
        for number, inner in enumerate(value):
            yield shape.member, value, number
            yield from places(shape.member, inner)


def wrong_values(shape: Any, value: Any) -> list[Any]:
    """Values that are not of the shape, some of them only just."""
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    anywhere = [None, object]
    match shape.type_name:
        case "structure":
            lacking = [
                {name: inner for name, inner in value.items() if name != needed}
                for needed in shape.required_members
            ]
            return [*anywhere, [], "x", 0, {**value, "Unknown": 1}, {**value, "Unknown": None}, *lacking]
        case "list":
            return [*anywhere, {}, "x", False, [None], *([[*value] * (most + 1)] if most and value else [])]
        case "integer":
            beyond = [] if most is None else [least - 1, most + 1]
            return [*anywhere, True, False, float(value), str(value), 2**31, *beyond]
        case "float" | "double":
            return [*anywhere, True, str(value)]
        case "boolean":
            return [*anywhere, int(value), float(value), str(value).lower(), "", []]
        case "timestamp":
            return [
                *anywhere,
                True,
                str(value),
                "2026-01-01T00:00:00Z",
                value + 0.0001234,
                value * 1e6 + 1e12,
            ]
        case "blob":
            return [*anywhere, "*", "AAA", [0], 0]
        case "string":
            given: list[object] = [*anywhere, 0, False, ["x"], {}]
            given += ["none of them", value.lower() + " "] if shape.enum else []
            given += ["x" * (most + 1)] if most else []
            pattern = shape.metadata.get("pattern", "")
            given += [value + "\n", "\n"] if pattern and "ASCII" not in pattern else []  # which has line ends
            given += [""] if least else []
            return given
    raise AssertionError(shape.type_name)


@pytest.mark.parametrize("target", OUTPUTS)
def test_what_the_serialiser_makes_of_a_sample_obeys_the_model(target: str) -> None:
    shape = OUTPUTS[target]
    assert_obeys(shape, read_json(compile_output(shape, strict=True)(sample(shape))))


@pytest.mark.parametrize("target", OUTPUTS)
def test_every_value_that_the_model_allows_passes(target: str) -> None:
    shape = OUTPUTS[target]

    @PER_SHAPE
    @given(of_shape(shape))
    def check(value: Any) -> None:
        assert faults(shape, read_json(json.dumps(value).encode())) == []

    check()


@pytest.mark.parametrize("target", OUTPUTS)
def test_one_wrong_value_anywhere_is_found(target: str) -> None:
    shape = OUTPUTS[target]

    @PER_SHAPE
    @given(of_shape(shape), st.data())
    def check(value: Any, data: st.DataObject) -> None:
        changed = {"top": copy.deepcopy(value)}
        found = [(shape, changed, "top"), *places(shape, changed["top"])]
        inner, container, place = data.draw(st.sampled_from(found))
        wrong = data.draw(st.sampled_from(wrong_values(inner, container[place])))
        assume(wrong != container[place] or type(wrong) is not type(container[place]))
        container[place] = wrong
        told = faults(shape, changed["top"])
        assert told, (place, wrong)
        assert place == "top" or any(str(place) in fault for fault in told)

    check()


def test_what_no_model_of_ours_uses_is_judged_too() -> None:
    assert faults(OTHER, RIGHT) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"Kept": 0}, "Kept: 0 is no boolean"),
        ({"Kept": None}, "Kept: null is sent; what is absent is left out"),
        ({"Renamed": 1}, "Renamed: All has no such member"),
        ({"renamed": 2**63}, f"renamed: {2**63} is not within {-(2**63)} and {2**63 - 1}"),
        ({"Tags": {"A": True}}, "Tags, the key 'A': 'A' does not match [a-z]+"),
        ({"Tags": {"a": 1}}, "Tags.a: 1 is no boolean"),
        ({"Tags": {"a": None}}, "Tags.a: null is sent; what is absent is left out"),
        ({"Tags": dict.fromkeys("abc", True)}, "Tags: 3 items, not 0 to 2"),
        ({"Either": {}}, "Either: a union holds one member, not 0"),
        ({"Either": {"One": True, "Other": "x"}}, "Either: a union holds one member, not 2"),
        ({"Bytes": ""}, "Bytes: it holds 0 bytes, not 1 to 3"),
        ({"Bytes": "AAAAAA=="}, "Bytes: it holds 4 bytes, not 1 to 3"),
        ({"Moment": 1700000000}, "Moment: 1700000000 is no string"),
        ({"Day": "yesterday"}, "Day: 'yesterday' is no date of RFC 822"),
        ({"Nested": "{"}, "Nested: no JSON in a string: "),
        ({"Nested": {"a": 1}}, "Nested: no JSON in a string: "),
        ({"Real": 1.01}, "Real: 1.01 is not within 0 and 1"),
    ],
)
def test_a_departure_is_reported_by_its_place(change: dict[str, Any], told: str) -> None:
    found = faults(OTHER, {**RIGHT, **change})
    assert len(found) == 1
    assert found[0].startswith(told)


def test_a_required_member_that_is_missing_is_reported() -> None:
    given = {name: value for name, value in RIGHT.items() if name != "Kept"}
    assert faults(OTHER, given) == ["Kept: required and absent"]


def test_a_shape_of_an_unknown_type_is_not_let_pass() -> None:
    with pytest.raises(KeyError):
        faults(Shape("Odd", {"type": "quaternion"}), 1)
