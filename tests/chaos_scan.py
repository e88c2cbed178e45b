"""Looks for bytes in all files below folders; a process of its own.

A process that has a SQLite database open must not open and close its files: the kernel would drop the locks
that SQLite holds on them, and it would work on a log that others have thrown away.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
from pathlib import Path

#: Folders that are the user's own.
SKIPPED = ("buckets", "objects", "results")


def holds(path: Path, needles: list[bytes]) -> bytes | None:
    """The first of them that a file holds."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return None
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return next((needle for needle in needles if content.find(needle) >= 0), None)
    except (OSError, ValueError):
        return None  # it is gone by now, or nothing that can be read


def main() -> None:
    asked = json.load(sys.stdin)
    needles = [bytes.fromhex(needle) for needle in asked["needles"]]
    files = 0
    for root in asked["roots"]:
        for folder, names, found in os.walk(root):
            names[:] = [name for name in names if name not in SKIPPED]
            for name in found:
                files += 1
                if (needle := holds(Path(folder) / name, needles)) is not None:
                    sys.exit(f"{folder}/{name} holds {needle[:24]!r} open")
    print(files)


if __name__ == "__main__":
    main()
