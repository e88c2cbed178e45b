"""A SQLite database with this release's tables: migrated once a process, then copied."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

from sonant.storage.database.engine import Database


def put_tables(file: Path) -> None:
    """Make the database, with tables and without rows, where there is none yet."""
    if not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copy(_template(), file)


@lru_cache
def _template() -> Path:
    folder = tempfile.mkdtemp(prefix="sonant-template-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file = Path(folder, "sonant.db")
    database = Database(f"sqlite:///{file}")
    database.migrate()
    database.close()
    file.chmod(0o600)
    return file
