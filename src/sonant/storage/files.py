"""Helpers for files: errors that pass by themselves, and durable changes of folders."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_TEMPORARY_ERRORS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN))


def is_out_of_resources(error: OSError) -> bool:
    """Return whether the process lacked file descriptors or memory: the same call may work later."""
    return error.errno in _TEMPORARY_ERRORS


def sync_folder(folder: Path) -> None:
    """Make new, renamed and removed entries of a folder survive a power cut. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
