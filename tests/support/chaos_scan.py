"""Looks for bytes in all files below folders; a process of its own.

Reads from its input, as JSON, `roots` (folders), `skipped` (folders not entered) and `needles` (in hex);
prints how many files it read whole, or ends with 1 and the first file that holds one.

A process that has a SQLite database open must not open and close its files: the kernel would drop the locks
that SQLite holds on them, and it would work on a log that others have thrown away.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
from pathlib import Path


def holds(path: Path, needles: list[bytes]) -> bytes | None:
    """The first of them that a file holds. Raises OSError for a file that cannot be read."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return next((needle for needle in needles if content.find(needle) >= 0), None)


def main() -> None:
    asked = json.load(sys.stdin)
    needles = [bytes.fromhex(needle) for needle in asked["needles"]]
    skipped = set(asked["skipped"])
    files = 0
    for root in asked["roots"]:
        for folder, names, found in os.walk(root):
            names[:] = [name for name in names if f"{folder}/{name}" not in skipped]
            for path in (Path(folder) / name for name in found):
                try:
                    if not path.is_file():
                        continue  # a socket
                    needle = holds(path, needles)
                except (FileNotFoundError, ValueError):
                    continue  # gone, or cut to nothing, while it was looked at
                files += 1
                if needle is not None:
                    sys.exit(f"{path} holds {needle[:24]!r} open")
    print(files)


if __name__ == "__main__":
    main()
