"""The register of operations: the functions that answer them, by the names of the service models.

A new operation is a function with the decorator `operation`, in any module of this package; everything else
about it is in the service model.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from typing import TypeVar, overload

from sonant.operations.service import Answer, Caller, Request, Service

OperationFunction = Callable[[Service, Caller, Request], Answer | None]
F = TypeVar("F", bound=OperationFunction)


class ExecutorKind(Enum):
    """Which of the gateway's threads run an operation."""

    READ = "read"
    """Reads for about a millisecond or less. On SQLite one thread does all of them."""
    WRITE = "write"
    """Changes something, or reads for some milliseconds."""
    LONG = "long"
    """May take seconds: threads of its own, so that no other request waits behind it."""
    RECORDING = "recording"
    """Decodes a recording, which may take seconds: threads of its own, each with a worker process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredOperation:
    """One operation's function and where it runs. Can be called like the function."""

    function: OperationFunction
    executor: ExecutorKind | None = None
    """None: READ for the Describe and List operations of the model, WRITE for all others."""
    read_first: OperationFunction | None = None
    """For an operation that changes something, but seldom: gives the answer if reading is enough, else None.
    It runs as a READ, and `function` only after it, as a WRITE."""

    def __call__(self, service: Service, caller: Caller, request: Request) -> Answer | None:
        return self.function(service, caller, request)


_registered: dict[str, RegisteredOperation] = {}


@overload
def operation(function: F) -> F: ...


@overload
def operation(
    *, executor: ExecutorKind | None = None, read_first: OperationFunction | None = None
) -> Callable[[F], F]: ...


def operation(
    function: F | None = None,
    *,
    executor: ExecutorKind | None = None,
    read_first: OperationFunction | None = None,
) -> F | Callable[[F], F]:
    """Register a function as the operation of its name: `create_domain` answers `CreateDomain`.

    Raises ValueError when another function has the name already.
    """

    def register(decorated: F) -> F:
        name = "".join(word.capitalize() for word in decorated.__name__.split("_"))
        if name in _registered:
            raise ValueError(f"two functions answer the operation {name}")
        _registered[name] = RegisteredOperation(function=decorated, executor=executor, read_first=read_first)
        return decorated

    return register if function is None else register(function)


def load_operations(package: str, path: list[str]) -> Mapping[str, RegisteredOperation]:
    """Import every module of `package`, which lies at `path`, and return what they registered, by name."""
    for module in pkgutil.iter_modules(path):
        import_module(f"{package}.{module.name}")
    return dict(sorted(_registered.items()))
