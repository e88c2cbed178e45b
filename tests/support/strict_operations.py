"""Checks the answer of an operation's function that a test calls without HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from strict_json import read_json
from strict_shapes import assert_obeys

from sonant.gateway.models import Operation, load_models
from sonant.gateway.protocol import compile_output


@cache
def _operations() -> Mapping[str, Operation]:
    return {operation.name: operation for operation in load_models().operations.values()}


@cache
def _serializer(operation: str) -> Callable[[Mapping[str, Any] | None], bytes]:
    return compile_output(_operations()[operation].output_shape, strict=True)


def judged(operation: str, answer: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the answer; fail unless its serialized form obeys the operation's model."""
    shape = _operations()[operation].output_shape
    if shape is None:
        assert not answer, f"{operation} has no output"
    else:
        assert_obeys(shape, read_json(_serializer(operation)(answer)))
    return dict(answer or {})
