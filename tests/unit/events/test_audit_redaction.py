"""Redaction of requests and responses in the audit trail, for every operation of both service models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from sonant.audit.redaction import HIDDEN, compile_redaction, time_text
from sonant.gateway.models import load_models

OPERATIONS = load_models().operations
SECRET = "CANARY"
OPEN = "plain"


def filled(shape: Any) -> Any:
    """A value with `SECRET` in all that is sensitive and `OPEN` in all other text."""
    sensitive = bool(shape.metadata.get("sensitive"))
    match shape.type_name:
        case "structure":
            return {name: filled(member) for name, member in shape.members.items()}
        case "list":
            return [filled(shape.member)] * 2
        case "map":
            return {filled(shape.key): filled(shape.value)}
        case "string":
            return SECRET if sensitive else OPEN
        case "blob":
            return SECRET.encode()
        case "timestamp":
            return datetime(2021, 8, 17, 1, 55, 40, tzinfo=UTC)
        case "boolean":
            return True
        case _:
            return 7


def sensitive_paths(shape: Any, path: str = "") -> Iterator[str]:
    if shape.metadata.get("sensitive") or shape.type_name == "blob":
        yield path
    elif shape.type_name == "structure":
        for name, member in shape.members.items():
            yield from sensitive_paths(member, f"{path}.{name}")
    elif shape.type_name == "list":
        yield from sensitive_paths(shape.member, path + "[]")


SHAPES = [
    pytest.param(shape, id=f"{operation.name} {side}")
    for operation in OPERATIONS.values()
    for side, shape in (("input", operation.input_shape), ("output", operation.output_shape))
    if shape is not None
]


@pytest.mark.parametrize("shape", SHAPES)
def test_no_sensitive_value_is_shown_and_no_other_member_is_lost(shape: Any) -> None:
    shown = compile_redaction(shape)(filled(shape))
    text = orjson.dumps(shown).decode()
    assert SECRET not in text
    assert [name[:1].lower() + name[1:] for name in shape.members] == list(shown)
    assert (HIDDEN in text) == any(sensitive_paths(shape))


def test_the_models_have_something_to_hide() -> None:
    hidden = {path for operation in OPERATIONS.values() for path in sensitive_paths(operation.input_shape)}
    assert {
        ".Name",
        ".Description",
        ".SpeakerId",
        ".FraudsterId",
        ".JobName",
        ".Tags[].Key",
        ".TagKeys[]",
    } <= (hidden)


def view(operation: str, side: str = "input_shape") -> Any:
    return compile_redaction(getattr(OPERATIONS[operation], side))


def test_members_are_in_lower_camel_case_and_ids_stay() -> None:
    request = {"DomainId": "d", "Name": "calls", "ServerSideEncryptionConfiguration": {"KmsKeyId": "alias/k"}}
    assert view("VoiceID.UpdateDomain")(request) == {
        "domainId": "d",
        "name": HIDDEN,
        "serverSideEncryptionConfiguration": {"kmsKeyId": "alias/k"},
    }


def test_a_list_of_secrets_is_hidden_as_one() -> None:
    request = {"DomainId": "d", "SpeakerIds": ["a"] * 1000}
    assert view("Sonant.ImportOptOuts")(request) == {"domainId": "d", "speakerIds": HIDDEN}


def test_times_are_text_as_cloudtrail_writes_them() -> None:
    assert time_text(datetime(2021, 8, 17, 1, 55, 40, tzinfo=UTC)) == "Aug 17, 2021, 1:55:40 AM"
    assert time_text(datetime(2021, 12, 3, 0, 5, 9, tzinfo=UTC)) == "Dec 3, 2021, 12:05:09 AM"
    assert time_text(datetime(2021, 12, 31, 12, 0, 0, tzinfo=UTC)) == "Dec 31, 2021, 12:00:00 PM"


def test_unknown_members_are_left_out_and_long_values_cut() -> None:
    shown = view("VoiceID.ListSpeakers")({"DomainId": "d", "Unknown": "x", "NextToken": "n" * 9000})
    assert list(shown) == ["domainId", "nextToken"]
    assert len(json.dumps(shown)) < 2200
