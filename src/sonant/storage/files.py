"""Helpers for files: errors that pass by themselves, and durable changes of folders."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

_TEMPORARY_ERRORS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN))
#: Size of the file that `try_folder` writes: a page.
_TRIAL_BYTES = 4096


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


def try_folder(folder: Path) -> None:
    """Write a small file, sync it, read it back and delete it. Raises OSError.

    Its name is one that backups, key folders and the audit trail leave out.
    """
    content, path = os.urandom(_TRIAL_BYTES), folder / f".tmp-trial-{os.getpid()}-{threading.get_ident()}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
        if os.pread(descriptor, _TRIAL_BYTES, 0) != content:
            raise OSError(errno.EIO, "what was written is not what is read")
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)
