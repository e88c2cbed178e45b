"""Walking a tree of folders without ever following a symbolic link, and naming what goes wrong.

Every step is taken from the folder before it (`dir_fd`) with O_NOFOLLOW, so that no link put anywhere below
the root, at any moment, leads out of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from sonant.errors import (
    BucketNotFound,
    InvalidObjectName,
    ObjectDenied,
    ObjectError,
    ObjectNotFound,
    ObjectsUnavailable,
    SealBroken,
    StorageFull,
)
from sonant.storage.machine import lacks

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# Opening a named pipe must not hang, opening a terminal must not make it ours.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


@contextlib.contextmanager
def faults(where: str) -> Iterator[None]:
    """Make errors name `where`, and turn those of the operating system into object errors."""
    try:
        yield
    except SealBroken as fault:
        raise SealBroken(f"{where}: {fault}") from None
    except OSError as fault:
        raise _typed(fault, where) from None


def _typed(fault: OSError, where: str) -> ObjectError | ObjectsUnavailable:
    if lacks(fault):
        return ObjectsUnavailable(f"objects cannot be used: {fault.strerror}")
    match fault.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return ObjectNotFound(f"{where}: there is no such object")
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return StorageFull(f"{where}: no room: {fault.strerror}")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return ObjectDenied(f"{where}: the service may not do this: {fault.strerror}")
        case errno.ELOOP:
            return ObjectDenied(f"{where}: a symbolic link, which is never followed")
        case errno.ENXIO:
            return ObjectDenied(f"{where}: not a regular file")
        case errno.ENAMETOOLONG:
            return InvalidObjectName(f"{where}: the file system cannot hold so long a name")
        case _:
            return ObjectError(f"{where}: {fault.strerror or 'the device failed'}")


def open_bucket(root: Path, bucket: str) -> int:
    """A descriptor of the bucket's folder."""
    with faults(f"s3://{bucket}"):
        try:
            base = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
            try:
                return _step(base, bucket.encode(), f"s3://{bucket}")
            finally:
                os.close(base)
        except (FileNotFoundError, NotADirectoryError):
            raise BucketNotFound(f"s3://{bucket}: there is no such bucket") from None


def _step(folder: int, name: bytes, where: str) -> int:
    """A descriptor of the folder `name` in `folder`. Raises ObjectDenied for a link, OSError otherwise."""
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except OSError as fault:
        # What a link raises here differs between systems.
        if fault.errno in (errno.ENOTDIR, errno.ELOOP, errno.EMLINK) and _is_link(folder, name):
            raise ObjectDenied(f"{where}: the path holds a symbolic link, which is never followed") from None
        raise


def _is_link(folder: int, name: bytes) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def not_a_file(mode: int, where: str) -> ObjectDenied:
    what = "a symbolic link, which is never followed" if stat.S_ISLNK(mode) else "not a regular file"
    return ObjectDenied(f"{where}: {what}")


class Walk:
    """A place in a bucket, moved from folder to folder; holds one descriptor.

    Going to a folder below the present one costs only the steps in between, any other starts at the bucket.
    """

    def __init__(self, root: Path, bucket: str, where: str) -> None:
        self._root, self._bucket, self.where = root, bucket, where
        self._path: tuple[bytes, ...] = ()
        self._folder = open_bucket(root, bucket)

    def to(self, path: Sequence[bytes], *, make: bool = False) -> int:
        """Go to the folder at `path` and return its descriptor, which stays the walk's.

        With `make`, folders that are missing are made. Raises ObjectDenied, OSError.
        """
        path = tuple(path)
        if self._folder < 0 or path[: len(self._path)] != self._path:
            self.close()
            self._folder = open_bucket(self._root, self._bucket)
        for name in path[len(self._path) :]:
            if make:
                self._make(name)
            below = _step(self._folder, name, self.where)
            os.close(self._folder)
            self._folder, self._path = below, (*self._path, name)
        return self._folder

    def _make(self, name: bytes) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=self._folder)
        except FileExistsError:
            return
        os.fsync(self._folder)

    def close(self) -> None:
        """Let go of the descriptor; the next `to` starts at the bucket."""
        if self._folder >= 0:
            os.close(self._folder)
        self._folder, self._path = -1, ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_file(folder: int, name: bytes, where: str) -> tuple[int, os.stat_result]:
    """A regular file, open for reading. Raises ObjectDenied for all but files and folders, OSError."""
    descriptor = os.open(name, _FILE, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise ObjectNotFound(f"{where}: there is no such object")
        if not stat.S_ISREG(status.st_mode):
            raise not_a_file(status.st_mode, where)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status
