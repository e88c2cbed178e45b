"""What each operation means: one function an operation, `(service, caller, request) -> answer`."""

from __future__ import annotations

from collections.abc import Mapping

from sonant.operations.registry import RegisteredOperation, load_operations

#: All operations, by their names in the service models.
OPERATIONS: Mapping[str, RegisteredOperation] = load_operations(__name__, __path__)
