"""Sample values for every input and output shape satisfy the model."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import orjson
import pytest
from botocore.model import ShapeResolver

from sonant.errors import SetupError
from sonant.gateway.models import load_models
from sonant.gateway.protocol import compile_output
from sonant.gateway.samples import sample
from sonant.gateway.validation import compile_input

OPERATIONS = {operation.name: operation for operation in load_models().operations.values()}
ANSWERING = sorted(name for name, operation in OPERATIONS.items() if operation.output_shape is not None)


def as_sent(value: Any) -> Any:
    """A sample as a client would send it: the input validator reads JSON."""
    match value:
        case dict():
            return {key: as_sent(part) for key, part in value.items()}
        case list():
            return [as_sent(part) for part in value]
        case datetime():
            return value.timestamp()
        case bytes():
            return base64.b64encode(value).decode()
        case _:
            return value


def type_names(shape: Any) -> Iterator[str]:
    yield shape.type_name
    if shape.type_name == "structure":
        for member in shape.members.values():
            yield from type_names(member)
    elif shape.type_name == "list":
        yield from type_names(shape.member)


@pytest.mark.parametrize("name", ANSWERING)
def test_a_sample_answer_is_complete_and_serializable(name):
    shape = OPERATIONS[name].output_shape
    assert shape is not None
    made = sample(shape)
    assert made.keys() == shape.members.keys()
    written = orjson.loads(compile_output(shape, strict=True)(made))
    assert written.keys() == made.keys(), "no member is lost"


@pytest.mark.parametrize(
    "name", [name for name in ANSWERING if "blob" not in set(type_names(OPERATIONS[name].output_shape))]
)
def test_a_sample_answer_satisfies_all_constraints(name):
    shape = OPERATIONS[name].output_shape
    assert shape is not None
    made = sample(shape)
    assert compile_input(shape)(as_sent(made)).keys() == made.keys()


@pytest.mark.parametrize("name", sorted(name for name, model in OPERATIONS.items() if model.input_shape))
def test_a_sample_request_passes_validation(name):
    shape = OPERATIONS[name].input_shape
    made = sample(shape)
    assert compile_input(shape)(as_sent(made)).keys() == made.keys()


def test_the_checks_detect_a_broken_sample():
    shape = OPERATIONS["DescribeDomain"].output_shape
    made = as_sent(sample(shape))
    made["Domain"]["DomainId"] = "too short"
    with pytest.raises(Exception, match="domainId"):
        compile_input(shape)(made)


def shape_of(**definition):
    return ShapeResolver({"Odd": definition}).get_shape_by_name("Odd")


def test_a_string_shape_without_sample_is_a_setup_error():
    with pytest.raises(SetupError, match="no sample value for Odd"):
        sample(shape_of(type="string", pattern="^q{7}$"))


def test_an_unknown_type_is_a_setup_error():
    with pytest.raises(SetupError, match="no sample value for the type character of Odd"):
        sample(shape_of(type="character"))
