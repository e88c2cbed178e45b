"""Temporary files of tests in memory: every write of a store waits for the disk, which no test looks at."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

FOLDER = Path("/dev/shm")
#: What a run may need at once, with a wide margin.
ROOM_BYTES = 4 << 30


def put_temporary_files_in_memory() -> None:
    """Have this process and those that it starts make temporary files there, if there is room.

    `TMPDIR` names another place.
    """
    if "TMPDIR" not in os.environ and _has_room():
        os.environ["TMPDIR"] = tempfile.tempdir = str(FOLDER)


def _has_room() -> bool:
    try:
        found = os.statvfs(FOLDER)
        memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        available_bytes = int(memory["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return False
    return (
        os.access(FOLDER, os.W_OK | os.X_OK)
        and not found.f_flag & os.ST_NOEXEC
        and min(found.f_bavail * found.f_frsize, available_bytes) >= ROOM_BYTES
    )
