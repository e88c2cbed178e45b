"""Build the engine that executes the tasks of jobs, by the name that the setting `engine` gives it.

To add an engine, write a module of this package with the two functions of `EngineModule`, and list it in
`ENGINES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from sonant.errors import SetupError
from sonant.settings import Settings

if TYPE_CHECKING:
    from sonant.jobs.window import Engine

#: Modules of engines by name; imported when chosen.
ENGINES: Mapping[str, str] = {"local": f"{__name__}.local", "ray": f"{__name__}.ray"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineParts:
    """Functions of the assembly that an engine calls in its worker processes. All can be pickled."""

    worker_main: Callable[..., None]
    """Runs a worker process of this host: (pipe, settings)."""
    build_executor: Callable[..., Any]
    """Builds a task executor on another host, by its settings: (audio, fraud, location, models, gpu)."""
    storage_location: Callable[[Settings], Mapping[str, object]]
    """The settings on which two hosts must agree to find the same recordings; no secrets."""


class EngineModule(Protocol):
    """The interface of an engine's module."""

    def build_engine(self, settings: Settings, parts: EngineParts) -> Engine:
        """Build the engine. Raises SetupError when the host cannot run it."""
        ...

    def check_engine(self, settings: Settings) -> None:
        """Check that the host can run the engine. Raises SetupError."""
        ...


def build_engine(settings: Settings, parts: EngineParts) -> Engine:
    """Build the engine that the settings name. Raises SetupError."""
    return _module(settings.engine).build_engine(settings, parts)


def check_engine(settings: Settings) -> None:
    """Check that a runner could have the engine that the settings name. Raises SetupError."""
    _module(settings.engine).check_engine(settings)


def _module(name: str) -> EngineModule:
    if name not in ENGINES:
        raise SetupError(f"there is no engine {name!r}; the engines are {', '.join(sorted(ENGINES))}")
    return cast(EngineModule, import_module(ENGINES[name]))
