"""Where settings come from: defaults < `sonant.toml` < `SONANT_*` environment < flags.

A setting `quotas.speakers_per_domain` is `[quotas] speakers_per_domain = 5` in the file and
`SONANT_QUOTAS_SPEAKERS_PER_DOMAIN=5` in the environment.
"""

from __future__ import annotations

import os
import re
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from sonant.errors import SetupError
from sonant.settings import Settings
from sonant.settings.registries import KEY_STORES, OBJECT_STORES

_BACK_ENDS = {"engine": ("local", "ray")}
_REGION = re.compile(r"[a-z0-9-]{1,64}")
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


def load(
    *,
    file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """Read all sources. `flags` maps dotted names to values and ignores `None`.

    Without `file`, `SONANT_CONFIG` names it, else `sonant.toml` in the current folder is read if there.
    Raises SetupError that names the source, the setting and what it must be.
    """
    path = file or (Path(environment["SONANT_CONFIG"]) if environment.get("SONANT_CONFIG") else None)
    tree: dict[str, Any] = {}
    if path is None and Path("sonant.toml").is_file():
        path = Path("sonant.toml")
    if path is not None:
        try:
            tree = tomllib.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise SetupError(f"settings file {path} does not exist") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
            raise SetupError(f"settings file {path} cannot be read: {fault}") from None
    settings: Settings = _build(
        Settings,
        tree,
        environment,
        {name: value for name, value in (flags or {}).items() if value is not None},
        prefix="",
        source=str(path),
    )
    KEY_STORES.check(settings.keys)
    OBJECT_STORES.check(settings.objects)
    for name, known in _BACK_ENDS.items():
        if getattr(settings, name) not in known:
            raise SetupError(
                f"setting {name} is {getattr(settings, name)!r}, must be one of: {', '.join(known)}"
            )
    if settings.engine == "ray" and not re.fullmatch(
        r"auto|[^/:]+:\d{1,5}|\[[^/]+\]:\d{1,5}", settings.ray.address
    ):
        raise SetupError(
            f"setting ray.address is {settings.ray.address!r}, must be host:port of a Ray cluster's head "
            "node, or auto for the cluster that this host belongs to"
        )
    if not (len(settings.account) == 12 and settings.account.isdigit()):
        raise SetupError(f"setting account is {settings.account!r}, must be 12 digits")
    for name in settings.served_regions:
        if not _REGION.fullmatch(name):
            raise SetupError(
                f"settings region and regions name {name!r}; a Region's name has 1 to 64 of a-z 0-9 -, "
                "such as eu-west-2"
            )
    return settings


def names(kind: type = Settings, prefix: str = "") -> list[tuple[str, Any]]:
    """Every setting's dotted name with its default, for docs and `sonant doctor`."""
    found: list[tuple[str, Any]] = []
    blank = kind()
    for item in fields(kind):
        value = getattr(blank, item.name)
        if is_dataclass(value):
            found += names(type(value), f"{prefix}{item.name}.")
        else:
            found.append((prefix + item.name, value))
    return found


def _build(
    kind: type,
    tree: Mapping[str, Any],
    environment: Mapping[str, str],
    flags: Mapping[str, Any],
    prefix: str,
    source: str,
) -> Any:
    hints = typing.get_type_hints(kind)
    known = {item.name for item in fields(kind)}
    for name in tree:
        if name not in known:
            raise SetupError(f"{source}: unknown setting {prefix + name}")
    values: dict[str, Any] = {}
    for name in sorted(known):
        dotted, hint = prefix + name, hints[name]
        if is_dataclass(hint):
            part = tree.get(name, {})
            if not isinstance(part, dict):
                raise SetupError(f"{source}: [{dotted}] must be a table")
            values[name] = _build(hint, part, environment, flags, dotted + ".", source)  # type: ignore[arg-type]
            continue
        variable = "SONANT_" + dotted.upper().replace(".", "_")
        if dotted in flags:
            values[name] = _cast(hint, flags[dotted], f"flag for {dotted}")
        elif variable in environment:
            values[name] = _cast(hint, environment[variable], variable)
        elif name in tree:
            values[name] = _cast(hint, tree[name], f"{source}: {dotted}")
    return kind(**values)


def _cast(hint: Any, value: Any, where: str) -> Any:
    try:
        if hint is bool:
            if isinstance(value, bool):
                return value
            word = str(value).strip().lower()
            if word in _TRUE | _FALSE:
                return word in _TRUE
            raise ValueError
        if hint in (int, float):
            if isinstance(value, bool):
                raise ValueError
            number = hint(value)
            if not number >= 0 or (hint is int and isinstance(value, float) and value != number):
                raise ValueError
            return number
        return hint(value)
    except (TypeError, ValueError):
        wanted = {bool: "true or false", int: "a whole number, 0 or more", float: "a number, 0 or more"}
        raise SetupError(f"{where} is {value!r}, must be {wanted.get(hint, hint.__name__)}") from None
