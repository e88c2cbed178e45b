"""Write docs/settings.md from the settings themselves: `python tools/settings_page.py > docs/settings.md`."""

from __future__ import annotations

import ast
import inspect

from sonant.settings import fields, loading

_HEAD = """# Settings

Read from defaults, then `sonant.toml`, then the environment, then flags; the later wins. In the file a dot
is a table: `quotas.domains_per_account` is `domains_per_account` under `[quotas]`.

| setting | environment | default | meaning |
|---|---|---|---|
"""


def page() -> str:
    """The whole page, one row a setting."""
    meanings = _meanings()
    rows = []
    for name, default in loading.names():
        group, _, last = name.rpartition(".")
        value = str(default).lower() if isinstance(default, bool) else str(default)
        shown = f"`{value}`" if value else "empty"
        meaning = meanings[group.capitalize() or "Settings", last]
        if not meaning:
            raise SystemExit(f"the setting {name} has no docstring")
        variable = "SONANT_" + name.upper().replace(".", "_")
        rows.append(f"| `{name}` | `{variable}` | {shown} | {meaning} |\n")
    return _HEAD + "".join(rows)


def _meanings() -> dict[tuple[str, str], str]:
    """The string behind each field, by class and field."""
    found = {}
    for part in ast.parse(inspect.getsource(fields)).body:
        if not isinstance(part, ast.ClassDef):
            continue
        for field, text in zip(part.body, part.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                told = text.value if isinstance(text, ast.Expr) else None
                meaning = str(told.value) if isinstance(told, ast.Constant) else ""
                found[part.name, field.target.id] = " ".join(meaning.split())
    return found


if __name__ == "__main__":
    print(page(), end="")
