"""Names of objects in tests, and their files in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sonant.storage.objects.store import ObjectUri

NO_KEYS: Any = None
"""A key store for what is neither sealed nor opened."""


def uri(key: str, bucket: str = "calls") -> ObjectUri:
    return ObjectUri(bucket, key)


def tree(folder: Path | str) -> dict[str, bytes | None]:
    """Every path below a folder, with the content of files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in Path(folder).rglob("*")
    }
