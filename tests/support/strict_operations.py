"""Judges what an operation's function answers, where no wire is between it and the test."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from strict_json import read_json
from strict_shapes import assert_obeys

from sonant.gateway.models import Operation, load_models
from sonant.gateway.protocol import compile_output


@cache
def _operations() -> Mapping[str, Operation]:
    return {operation.name: operation for operation in load_models().operations.values()}


def judged(operation: str, answer: Mapping[str, Any] | None) -> dict[str, Any]:
    """The answer; fails unless what would go out for it is as the operation's model says."""
    shape = _operations()[operation].output_shape
    if shape is None:
        assert not answer, f"{operation} has no output"
    else:
        assert_obeys(shape, read_json(compile_output(shape, strict=True)(answer)))
    return dict(answer or {})
