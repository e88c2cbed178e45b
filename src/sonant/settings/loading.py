"""Load settings: defaults < `sonant.toml` < secret files < `SONANT_*` environment < flags.

A setting `quotas.speakers_per_domain` is `[quotas] speakers_per_domain = 5` in the file and
`SONANT_QUOTAS_SPEAKERS_PER_DOMAIN=5` in the environment. `SONANT_SECRETS` names a folder with a file for each
setting that is to be in neither, named as its variable: the environment of a process is shown by many tools.
"""

from __future__ import annotations

import logging
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sonant.errors import SetupError
from sonant.settings.declaration import accepted, convert
from sonant.settings.fields import Settings
from sonant.settings.listing import (
    CARRIERS_GROUP,
    OTHER_VARIABLES,
    PREFIX,
    Setting,
    all_settings,
    carrier_settings,
    core_settings,
    find_setting,
    former_variables,
    groups,
    name_of,
    variable_of,
)

log = logging.getLogger(__name__)

#: Variables that Kubernetes sets in every pod for a Service whose name begins with "sonant", such as
#: SONANT_API_SERVICE_HOST and SONANT_API_PORT_8180_TCP_ADDR (its documentation, "Discovering services").
#: What of a URL may be secret.
_USER_IN_URL, _QUERY = re.compile(r"//[^/@\s]*@"), re.compile(r"(://[^?\s]*)\?[^\s,]*")
_SERVICE_LINK = re.compile(
    r"SONANT_(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)"
)
_SECRET_MAX_BYTES = 64 * 1024
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """A value and the source that it comes from."""

    value: Any
    source: str
    """Name of the source in messages: the file's path, the variable, the command line."""


def load(
    *,
    file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """Read all sources. `flags` maps dotted names to values; those that are None are ignored.

    Without `file`, `SONANT_CONFIG` names it, else `sonant.toml` in the current folder is read if it exists.
    Raises SetupError that names the setting, its value, its source and what it must be.
    """
    given = _from_file(_settings_file(file, environment))
    given |= _from_secrets(environment) | _from_environment(environment)
    given |= {
        name: _Given(value=value, source="command line")
        for name, value in (flags or {}).items()
        if value is not None
    }
    settings = _build({name: _converted(_known(name), one) for name, one in given.items()})
    if settings.engine == "ray" and not settings.ray.address:
        wanted = _known("ray.address").declared.form
        raise SetupError(f"setting ray.address is empty, must be {wanted}, because engine is 'ray'")
    return settings


def as_flags(settings: Settings) -> dict[str, Any]:
    """Turn settings into dotted names and JSON values, which `from_flags` reads back."""
    found: dict[str, Any] = {}
    for name in core_settings():
        table, _, last = name.rpartition(".")
        value = getattr(getattr(settings, table) if table else settings, last)
        found[name] = str(value.absolute()) if isinstance(value, Path) else value
    return found | {f"{CARRIERS_GROUP}.{name}": value for name, value in settings.carriers.items()}


def from_flags(flags: Mapping[str, Any]) -> Settings:
    """Read settings from nothing but these values, not even from a file in the current folder. Raises
    SetupError."""
    given = {name: _Given(value=value, source="command line") for name, value in flags.items()}
    return _build({name: _converted(_known(name), one) for name, one in given.items()})


def _settings_file(file: Path | None, environment: Mapping[str, str]) -> Path | None:
    if file is not None:
        return file
    if named := environment.get("SONANT_CONFIG"):
        return Path(named)
    usual = Path("sonant.toml")
    return usual if usual.is_file() else None


def _from_file(file: Path | None) -> dict[str, _Given]:
    if file is None:
        return {}
    try:
        tree = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise SetupError(f"settings file {file} does not exist") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        raise SetupError(f"settings file {file} cannot be read: {fault}") from None
    except RecursionError:
        raise SetupError(f"settings file {file} cannot be read: it is nested too deeply") from None
    found: dict[str, _Given] = {}
    for written, value in _flattened(tree):
        name = name_of(written)
        if name in groups():
            raise SetupError(f"{file}: [{written}] must be a table")
        if find_setting(name) is None:
            raise SetupError(f"{file}: unknown setting {written}{_nearest(written, all_settings())}")
        if name in found:
            raise SetupError(f"{file}: {name} is set twice, once by a former name; keep {name}")
        if name != written:
            log.warning(
                "%s: setting %s is now called %s; the former name ends with the next release",
                file,
                written,
                name,
            )
        found[name] = _Given(value=value, source=str(file))
    return found


def _flattened(tree: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """Dotted names and values of a file with tables of one level."""
    for name, value in tree.items():
        if isinstance(value, dict) and (value or name_of(name) in groups()):
            yield from ((f"{name}.{inner}", one) for inner, one in value.items())
        else:
            yield name, value


def _from_secrets(environment: Mapping[str, str]) -> dict[str, _Given]:
    """Read a folder of files.

    Kubernetes keeps folders and links of its own there, whose names begin with a dot. Systemd has all
    credentials of the service in one folder, also those that are no settings, such as the secret of keys.
    """
    folder = environment.get("SONANT_SECRETS", "")
    if not folder:
        return {}
    found: dict[str, _Given] = {}
    shared = folder.rstrip("/") == environment.get("CREDENTIALS_DIRECTORY", "").rstrip("/")
    try:
        for file in sorted(Path(folder).iterdir()):
            if file.name.startswith(".") or not file.is_file():
                continue
            if shared and not file.name.startswith(PREFIX):
                continue
            if file.stat().st_size > _SECRET_MAX_BYTES:
                raise SetupError(f"secret file {file} is larger than {_SECRET_MAX_BYTES} bytes")
            setting = next((one for one in all_settings().values() if one.variable == file.name), None)
            if setting is None:
                near = _nearest(file.name, _variables(all_settings()))
                raise SetupError(f"secret file {file} is not named as the variable of a setting{near}")
            # Editors and `echo` end a file with a line feed.
            value = file.read_text("utf-8").removesuffix("\n")
            found[setting.name] = _Given(value=value, source=f"secret file {file}")
    except (OSError, UnicodeDecodeError) as fault:
        why = fault.strerror if isinstance(fault, OSError) else "a file in it is not UTF-8"
        raise SetupError(f"folder {folder} of SONANT_SECRETS cannot be read: {why}") from None
    return found


def _from_environment(environment: Mapping[str, str]) -> dict[str, _Given]:
    known, former = _variables(core_settings()), former_variables()
    found: dict[str, _Given] = {}
    for variable, value in environment.items():
        if (
            not variable.startswith(PREFIX)
            or variable in OTHER_VARIABLES
            or _is_service_link(variable, value)
        ):
            continue
        name = known.get(variable) or former.get(variable) or _variables(carrier_settings()).get(variable)
        if name is None:
            candidates = [*_variables(all_settings()), *OTHER_VARIABLES]
            raise SetupError(
                f"unknown environment variable {variable}{_nearest(variable, candidates)}; "
                f"names that begin with {PREFIX} must be those of settings"
            )
        if name in found:
            raise SetupError(
                f"{found[name].source} and {variable} set the same setting {name}; keep {variable_of(name)}"
            )
        if variable in former:
            log.warning(
                "environment variable %s is now called %s; the former name ends with the next release",
                variable,
                variable_of(name),
            )
        found[name] = _Given(value=value, source=f"environment variable {variable}")
    return found


def in_force(settings: Settings) -> dict[str, Any]:
    """Return the settings that are not at their defaults, by dotted name, for the log: secrets are masked.

    Of URLs, what may hold a secret is masked too: user, password and query.
    """
    found: dict[str, Any] = {}
    for name, setting in core_settings().items():
        table, _, last = name.rpartition(".")
        value = getattr(getattr(settings, table) if table else settings, last)
        if value != setting.default:
            found[name] = "***" if setting.declared.secret else _masked(value)
    return found | {f"{CARRIERS_GROUP}.{name}": "***" for name in settings.carriers}


def _masked(value: Any) -> Any:
    if not isinstance(value, str):
        return str(value) if isinstance(value, Path) else value
    return _QUERY.sub(r"\1?***", _USER_IN_URL.sub("//***@", value))


def _variables(settings: Mapping[str, Setting]) -> dict[str, str]:
    return {one.variable: one.name for one in settings.values()}


def _is_service_link(variable: str, value: str) -> bool:
    if variable.endswith("_PORT") and _SERVICE_URL.fullmatch(value):
        return True
    return _SERVICE_LINK.fullmatch(variable) is not None


def _known(name: str) -> Setting:
    found = find_setting(name)
    if found is None:
        raise KeyError(name)
    return found


def _converted(setting: Setting, given: _Given) -> Any:
    try:
        return convert(given.value, setting.kind, setting.declared)
    except (TypeError, ValueError, OverflowError):
        shown = "a secret" if setting.declared.secret else repr(given.value)
        wanted = accepted(setting.kind, setting.declared)
        raise SetupError(f"{given.source}: {setting.name} is {shown}, must be {wanted}") from None


def _build(values: Mapping[str, Any]) -> Settings:
    top = {name: value for name, value in values.items() if "." not in name}
    tables: dict[str, dict[str, Any]] = {}
    carriers: dict[str, Any] = {}
    for name, value in values.items():
        table, dot, last = name.partition(".")
        if not dot:
            continue
        if name in core_settings():
            tables.setdefault(table, {})[last] = value
        else:
            carriers[last] = value
    made = {table: groups()[table](**inner) for table, inner in tables.items()}
    return Settings(**top, **made, carriers=carriers)


def _nearest(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""
