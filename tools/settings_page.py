"""Write docs/settings.md from the settings themselves: `python tools/settings_page.py > docs/settings.md`."""

from __future__ import annotations

from pathlib import Path

from sonant.settings.declaration import shown_number
from sonant.settings.listing import FORMER_NAMES, OTHER_VARIABLES, Setting, all_settings

_HEAD = """# Settings

Read from defaults, then `sonant.toml`, then the environment, then flags; the later wins. In the file a dot
is a table: `quotas.domains_per_account` is `domains_per_account` under `[quotas]`. A value outside its range
stops the command with a message that names both, and so does an unknown name, in the file and among the
variables that begin with `SONANT_`.

| setting | environment | default | range | unit | meaning |
|---|---|---|---|---|---|
"""
_FORMER = """
## Former names

These names still work in this release, in the file and in the environment, with a warning. A setting that is
given by both names is an error.

| former name | name |
|---|---|
"""
_OTHERS = """
## Other variables

These variables are not settings. Those that Kubernetes sets for a Service, such as `SONANT_API_SERVICE_HOST`,
are ignored.

| variable | meaning |
|---|---|
"""


def page() -> str:
    """Build the whole page."""
    settings = "".join(_row(setting) for setting in all_settings().values())
    former = "".join(
        f"| `{_with_members(old)}` | `{_with_members(new)}` |\n" for old, new in FORMER_NAMES.items()
    )
    others = "".join(f"| `{name}` | {meaning} |\n" for name, meaning in OTHER_VARIABLES.items())
    return _HEAD + settings + _FORMER + former + _OTHERS + others


def _row(setting: Setting) -> str:
    cells = (
        f"`{setting.name}`",
        f"`{setting.variable}`",
        _default(setting.default),
        _range(setting),
        setting.declared.unit,
        setting.declared.meaning,
    )
    return "| " + " | ".join(cells) + " |\n"


def _default(value: bool | float | str | Path) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int | float):
        return f"`{int(value) if value == int(value) else value}`"
    return f"`{value}`" if str(value) else "empty"


def _range(setting: Setting) -> str:
    declared = setting.declared
    if declared.least is not None and declared.most is not None:
        return f"{shown_number(declared.least)} to {shown_number(declared.most)}"
    if setting.kind is bool:
        return "`true`, `false`"
    return ", ".join(f"`{one}`" for one in declared.choices) or declared.form


def _with_members(name: str) -> str:
    return name if "." in name else f"{name}.*"


if __name__ == "__main__":
    print(page(), end="")
