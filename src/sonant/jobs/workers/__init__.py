"""Build the engine that executes the tasks of jobs, by the name that the setting `engine` gives it.

To add an engine, write a module that defines an `EngineBackEnd` as `BACK_END`, and list it in
`settings.registries.ENGINES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sonant.settings import Settings
from sonant.settings.registries import ENGINES

if TYPE_CHECKING:
    from sonant.jobs.window import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineParts:
    """Functions of the assembly that an engine calls in its worker processes. All can be pickled."""

    worker_main: Callable[..., None]
    """Runs a worker process of this host: (pipe, settings)."""
    build_executor: Callable[..., Any]
    """Builds a task executor on another host, by its settings: (audio, fraud, location, models, gpu)."""
    storage_location: Callable[[Settings], Mapping[str, object]]
    """The settings on which two hosts must agree to find the same recordings; no secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineBackEnd:
    """The functions of one kind of engine."""

    build: Callable[[Settings, EngineParts], Engine]
    """Builds the engine. Raises SetupError when the host cannot run it."""
    check: Callable[[], None] = lambda: None
    """Checks that the host can run the engine. Raises SetupError."""


def build_engine(settings: Settings, parts: EngineParts) -> Engine:
    """Build the engine that the settings name. Raises SetupError."""
    return _back_end(settings).build(settings, parts)


def check_engine(settings: Settings) -> None:
    """Check that a runner could have the engine that the settings name. Raises SetupError."""
    _back_end(settings).check()


def _back_end(settings: Settings) -> EngineBackEnd:
    found: EngineBackEnd = ENGINES.get(settings.engine)
    return found
