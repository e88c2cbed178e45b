"""List all settings by name, their former names, and the other `SONANT_*` variables."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from sonant.settings.declaration import Declaration, declaration_of
from sonant.settings.fields import Settings

PREFIX = "SONANT_"

#: Package with one module a carrier, and the group of the settings that these modules declare.
_CARRIERS, CARRIERS_GROUP = "sonant.carriers.providers", "live"

#: Settings and groups that were renamed: former name -> name. Each serves for one release, with a warning.
FORMER_NAMES: Mapping[str, str] = {
    "wire": "gateway",
    "rates.own": "rates.sonant_operations",
}

#: Variables that are read in other places; all others that begin with SONANT_ must name a setting.
OTHER_VARIABLES: Mapping[str, str] = {
    "SONANT_CONFIG": "Path of the settings file, unless `--config` names one.",
    "SONANT_SECRETS": "Folder of files, such as a mounted secret of Kubernetes or Docker: each is named as "
    "a setting's variable and holds the value.",
    "SONANT_BACKUP_PASSPHRASE": "Passphrase of `sonant backup` and `sonant restore`.",
    "SONANT_SPEECH_CACHE": "Folder for the speech that `make demo` and `make test` fetch.",
    "SONANT_TESTS_MUST_RUN": "With `1` a skipped test fails the test run.",
    "SONANT_TESTS_SEED": "Seed of the ids that tests draw; each test draws the same in every run.",
    "SONANT_TEST_POSTGRES": "URL of a PostgreSQL server for the tests.",
    "SONANT_CHAOS_FAULTS": "Number of faults in the chaos test.",
    "SONANT_CHAOS_SEED": "Seed of the chaos test.",
    "SONANT_CHAOS_ONLY": "Names of the chaos test's faults, separated by commas.",
    "SONANT_CHAOS_PATIENCE_S": "How long the chaos test waits for the service to recover, in seconds.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting: its name, its default and what it accepts."""

    name: str
    """Dotted name, such as `quotas.domains_per_account`."""
    kind: type
    """One of bool, int, float, str, Path."""
    default: Any
    declared: Declaration

    @property
    def variable(self) -> str:
        """Name of the environment variable."""
        return variable_of(self.name)


def variable_of(name: str) -> str:
    """Name the environment variable of a setting."""
    return PREFIX + name.upper().replace(".", "_")


@cache
def all_settings() -> Mapping[str, Setting]:
    """List every setting by its dotted name, group by group. Imports the module of every carrier."""
    order = ["", *groups()]
    found = {**core_settings(), **carrier_settings()}
    return dict(sorted(found.items(), key=lambda one: order.index(one[0].rpartition(".")[0])))


@cache
def core_settings() -> Mapping[str, Setting]:
    """List the settings of this package by dotted name: all but those of carriers."""
    found = _settings_of(Settings, "")
    for name, kind in groups().items():
        found |= _settings_of(kind, f"{name}.")
    return found


@cache
def carrier_settings() -> Mapping[str, Setting]:
    """List the settings that the carriers' modules declare as `SETTINGS`. Imports every one of them."""
    found: dict[str, Setting] = {}
    for module in iter_modules(import_module(_CARRIERS).__path__):
        declared = getattr(import_module(f"{_CARRIERS}.{module.name}"), "SETTINGS", None)
        found |= _settings_of(declared, f"{CARRIERS_GROUP}.") if declared else {}
    return found


def find_setting(name: str) -> Setting | None:
    """Return the setting of a dotted name, None if there is none.

    Carriers' modules, which are not cheap to import, are searched last: most commands never need them.
    """
    return core_settings().get(name) or carrier_settings().get(name)


@cache
def groups() -> Mapping[str, type]:
    """List the groups of settings: the table's name in the file -> its dataclass."""
    hints = typing.get_type_hints(Settings)
    return {one.name: hints[one.name] for one in fields(Settings) if is_dataclass(hints[one.name])}


def _settings_of(kind: type, prefix: str) -> dict[str, Setting]:
    hints = typing.get_type_hints(kind)
    found = {}
    for one in fields(kind):
        declared = declaration_of(one)
        if declared is not None:
            found[prefix + one.name] = Setting(
                name=prefix + one.name, kind=hints[one.name], default=one.default, declared=declared
            )
    return found


def name_of(former: str) -> str:
    """Translate a former name; any other name is returned unchanged."""
    if former in FORMER_NAMES:
        return FORMER_NAMES[former]
    table, dot, last = former.partition(".")
    return FORMER_NAMES.get(table, table) + dot + last


@cache
def former_variables() -> Mapping[str, str]:
    """List the variables of former names: variable -> the setting's present dotted name."""
    found: dict[str, str] = {}
    for former, name in FORMER_NAMES.items():
        if name in groups():
            members = [one for one in core_settings() if one.startswith(f"{name}.")]
            found |= {variable_of(former + one.removeprefix(name)): one for one in members}
        else:
            found[variable_of(former)] = name
    return found
