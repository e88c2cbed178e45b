"""The register of operations, against the service models that say which there are."""

from __future__ import annotations

import pytest

from sonant.gateway.models import load_models
from sonant.operations import OPERATIONS
from sonant.operations.registry import ExecutorKind, operation

MODELLED = {model.name: model for model in load_models().operations.values()}


def test_every_operation_of_the_models_has_a_function() -> None:
    assert MODELLED.keys() - OPERATIONS.keys() == set()


def test_every_registered_function_is_an_operation_of_the_models() -> None:
    assert OPERATIONS.keys() - MODELLED.keys() == set()


def test_operations_with_their_own_executor_take_seconds() -> None:
    declared = {name: one.executor for name, one in OPERATIONS.items() if one.executor is not None}
    assert declared.pop("CompareRecording") is ExecutorKind.RECORDING
    assert {name for name, kind in declared.items() if kind is ExecutorKind.LONG} == {
        "DescribeActivity",
        "DescribeAuditTrail",
        "DescribeDeletionReceipt",
        "ListAuditRecords",
        "ListJobOutcomes",
        "ListKeys",
        "ListVoiceDuplicates",
    }


def test_lists_that_read_for_milliseconds_leave_the_thread_of_short_reads() -> None:
    kinds = {name: OPERATIONS[name].executor for name in ("ListPrincipals", "ListSettings")}
    assert set(kinds.values()) == {ExecutorKind.WRITE}


def test_a_second_function_for_an_operation_is_refused() -> None:
    def describe_domain(*_arguments: object) -> None:
        return None

    with pytest.raises(ValueError, match="two functions answer the operation DescribeDomain"):
        operation(describe_domain)
