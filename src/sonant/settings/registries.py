"""Back ends by the name that a setting gives them: key stores, object stores, engines, event sinks.

Each back end is one module of a package, which defines it as `BACK_END`. To add one, add the module.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Any

from sonant.errors import SetupError


class Registry(Collection[str]):
    """Modules of back ends of one kind by name; as a collection, their names.

    A module's name is the back end's, with `_` for `-`. It is imported when its back end is first used: a
    service does not load what it does not use.
    """

    def __init__(self, setting: str, package: str, *, first: str) -> None:
        """`setting` names a back end, `package` holds the modules, `first` is the name listed first."""
        self.setting, self._package, self._first = setting, package, first

    @cached_property
    def _modules(self) -> dict[str, str]:
        spec = find_spec(self._package)  # imports the packages around it, not the package itself
        paths = spec.submodule_search_locations if spec else None
        names = sorted(module.name for module in iter_modules(paths) if not module.name.startswith("_"))
        names.sort(key=lambda name: name != self._first)
        return {name.replace("_", "-"): f"{self._package}.{name}" for name in names}

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)

    def register(self, name: str, module: str) -> None:
        """Add the back end of a module, or replace the one of this name."""
        self._modules[name] = module

    def unregister(self, name: str) -> None:
        """Remove a back end. Nothing happens when there is none of this name."""
        self._modules.pop(name, None)

    def check(self, name: str) -> None:
        """Raise SetupError unless there is a back end of this name."""
        if name not in self:
            raise SetupError(f"setting {self.setting} is {name!r}, must be one of: {', '.join(self)}")

    def get(self, name: str) -> Any:
        """Return the `BACK_END` of the module of this name. Raises SetupError when there is none."""
        self.check(name)
        return import_module(self._modules[name]).BACK_END


KEY_STORES = Registry("keys", "sonant.storage.keys.stores", first="local")
OBJECT_STORES = Registry("objects", "sonant.storage.objects.stores", first="local")
ENGINES = Registry("engine", "sonant.jobs.workers.engines", first="local")
EVENT_SINKS = Registry("events.sinks", "sonant.events.sinks", first="file")
