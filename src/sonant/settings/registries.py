"""Back ends by the name that a setting gives them: key stores, object stores, engines, event sinks.

Each back end is one module, which defines it as `BACK_END`. To add one, write the module and name it here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from importlib import import_module
from typing import Any

from sonant.errors import SetupError


class Registry(Collection[str]):
    """Modules of back ends of one kind by name; as a collection, their names.

    A module is imported when its back end is first used: a service does not load what it does not use.
    """

    def __init__(self, setting: str, modules: Mapping[str, str]) -> None:
        """`setting` is the one that names a back end. `modules` maps names to dotted module names."""
        self.setting, self._modules = setting, dict(modules)

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


#: Each module defines a `storage.keys.store.KeyBackEnd`.
KEY_STORES = Registry(
    "keys",
    {
        "local": "sonant.storage.keys.local",
        "aws-kms": "sonant.storage.keys.aws_kms",
        "pkcs11": "sonant.storage.keys.pkcs11",
    },
)
#: Each module defines a `storage.objects.store.ObjectBackEndType`.
OBJECT_STORES = Registry(
    "objects",
    {
        "local": "sonant.storage.objects.local",
        "s3": "sonant.storage.objects.s3",
    },
)
#: Each module defines a function from `Settings` to an `events.sinks.Sink`.
EVENT_SINKS = Registry(
    "events.sinks",
    {
        "file": "sonant.events.sinks.file",
        "webhook": "sonant.events.sinks.webhook",
        "eventbridge": "sonant.events.sinks.eventbridge",
    },
)
#: Each module defines a `jobs.workers.EngineBackEnd`.
ENGINES = Registry(
    "engine",
    {
        "local": "sonant.jobs.workers.local",
        "ray": "sonant.jobs.workers.ray",
    },
)
