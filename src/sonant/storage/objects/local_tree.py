"""The folders of a bucket: walking and listing them without following a symbolic link.

Every step starts at the folder before it (`dir_fd`) with O_NOFOLLOW, so that no link that is put below the
root at any moment leads out of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from sonant.errors import (
    InvalidObjectName,
    ObjectDenied,
    ObjectError,
    ObjectsUnavailable,
    SealBroken,
    StorageFull,
)
from sonant.storage.files import is_out_of_resources
from sonant.storage.objects.local_names import TEMPORARY, piece_of, segment_of
from sonant.storage.objects.store import KEY_MAX_BYTES, no_such_bucket, no_such_object

#: File names from the bucket's folder on.
Names = tuple[bytes, ...]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# Opening a named pipe must not block, opening a terminal must not make it the controlling one.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


@contextlib.contextmanager
def object_errors(uri: str) -> Iterator[None]:
    """Raise errors of an object store, which name `uri`, for those of the operating system."""
    try:
        yield
    except SealBroken as fault:
        raise SealBroken(f"{uri}: {fault}") from None
    except OSError as fault:
        raise _object_error(fault, uri) from None


def _object_error(fault: OSError, uri: str) -> ObjectError | ObjectsUnavailable:
    if is_out_of_resources(fault):
        return ObjectsUnavailable(f"objects cannot be used: {fault.strerror}")
    match fault.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return no_such_object(uri)
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return StorageFull(f"{uri}: no space: {fault.strerror}")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return ObjectDenied(f"{uri}: the service may not do this: {fault.strerror}")
        case errno.ELOOP:
            return ObjectDenied(f"{uri}: a symbolic link, which is never followed")
        case errno.ENXIO:
            return ObjectDenied(f"{uri}: not a regular file")
        case errno.ENAMETOOLONG:
            return InvalidObjectName(f"{uri}: the name is too long for the file system")
        case _:
            return ObjectError(f"{uri}: {fault.strerror or 'the device failed'}")


def open_bucket(root: Path, bucket: str) -> int:
    """Open the bucket's folder and return its descriptor."""
    with object_errors(f"s3://{bucket}"):
        try:
            base = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
            try:
                return _step(base, bucket.encode(), f"s3://{bucket}")
            finally:
                os.close(base)
        except (FileNotFoundError, NotADirectoryError):
            raise no_such_bucket(f"s3://{bucket}") from None


def _step(folder: int, name: bytes, uri: str) -> int:
    """Open the folder `name` in `folder`. Raises ObjectDenied for a link, OSError otherwise."""
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except OSError as fault:
        # Systems differ in the error for a link.
        if fault.errno in (errno.ENOTDIR, errno.ELOOP, errno.EMLINK) and _is_link(folder, name):
            raise ObjectDenied(f"{uri}: the path holds a symbolic link, which is never followed") from None
        raise


def _is_link(folder: int, name: bytes) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def not_a_file(mode: int, uri: str) -> ObjectDenied:
    """Make the error for a link or a special file."""
    kind = "a symbolic link, which is never followed" if stat.S_ISLNK(mode) else "not a regular file"
    return ObjectDenied(f"{uri}: {kind}")


class Walk:
    """A position in a bucket that moves from folder to folder and holds one descriptor.

    Moving to a folder below the present one costs the steps in between; any other move starts at the bucket.
    """

    def __init__(self, root: Path, bucket: str, uri: str) -> None:
        self._root, self._bucket, self.uri = root, bucket, uri
        self._path: tuple[bytes, ...] = ()
        self._folder = open_bucket(root, bucket)

    def to(self, path: Sequence[bytes], *, make: bool = False) -> int:
        """Move to the folder at `path` and return its descriptor, which the walk closes.

        With `make`, missing folders are made. Raises ObjectDenied, OSError.
        """
        path = tuple(path)
        if self._folder < 0 or path[: len(self._path)] != self._path:
            self.close()
            self._folder = open_bucket(self._root, self._bucket)
        for name in path[len(self._path) :]:
            if make:
                self._make(name)
            below = _step(self._folder, name, self.uri)
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
        """Close the descriptor. The next `to` starts at the bucket."""
        if self._folder >= 0:
            os.close(self._folder)
        self._folder, self._path = -1, ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_file(folder: int, name: bytes, uri: str) -> tuple[int, os.stat_result]:
    """Open a regular file. Raises ObjectNotFound for a folder, ObjectDenied for other kinds, OSError."""
    descriptor = os.open(name, _FILE, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise no_such_object(uri)
        if not stat.S_ISREG(status.st_mode):
            raise not_a_file(status.st_mode, uri)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status


# --- listing


class _Entry(NamedTuple):
    key: str
    """The key of a file; the common beginning of its objects' keys for a folder."""
    path: Names
    is_folder: bool


def list_objects(walk: Walk, prefix: str) -> Iterator[tuple[str, Names]]:
    """List key and path of every object whose key begins with `prefix`, in the order of UTF-8 bytes.

    Skips names that no key has, links and special files. Moves the walk.
    """
    # Code points sort as their UTF-8 bytes do. A folder's key ends with `/`: it sorts as its objects do.
    pending = [_Entry("", (), True)]
    while pending:
        entry = pending.pop()
        if not entry.is_folder:
            yield entry.key, entry.path
            continue
        wanted = []
        for segment, path, is_folder in _segments(walk, entry.path):
            key = entry.key + segment + ("/" if is_folder else "")
            if len(key.encode()) <= KEY_MAX_BYTES and (
                key.startswith(prefix) or (is_folder and prefix.startswith(key))
            ):
                wanted.append(_Entry(key, path, is_folder))
        pending += sorted(wanted, key=attrgetter("key"), reverse=True)


def stale_files(walk: Walk, before: float) -> Iterator[Names]:
    """List temporary files last written before the time `before` (seconds since 1970). Moves the walk."""
    pending: list[Names] = [()]
    while pending:
        folder = pending.pop()
        for name, is_folder in _names(walk, folder):
            path = (*folder, name)
            if is_folder:
                pending.append(path)
            elif name.startswith(TEMPORARY):
                try:
                    status = os.stat(name, dir_fd=walk.to(folder), follow_symlinks=False)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                if status.st_mtime < before:
                    yield path


def _segments(walk: Walk, folder: Names, piece: bytes = b"", names: Names = ()) -> Iterator[_Entry]:
    """List the key segments in a folder; long ones are collected from the folders below."""
    for name, is_folder in _names(walk, folder):
        found = piece_of(name)
        if found is None:
            continue
        segment_bytes, continues = piece + found[0], found[1]
        path, segment_names = (*folder, name), (*names, name)
        if not continues:
            segment = segment_of(segment_bytes, segment_names)
            if segment is not None:
                yield _Entry(segment, path, is_folder)
        elif is_folder and len(segment_bytes) < KEY_MAX_BYTES:
            yield from _segments(walk, path, segment_bytes, segment_names)


def _names(walk: Walk, folder: Names) -> list[tuple[bytes, bool]]:
    """List files and folders, each with whether it is a folder; nothing when the folder is gone or a link."""
    with object_errors(walk.uri):
        try:
            with os.scandir(walk.to(folder)) as entries:
                return [
                    (os.fsencode(entry.name), is_folder)
                    for entry in entries
                    if (is_folder := entry.is_dir(follow_symlinks=False))
                    or entry.is_file(follow_symlinks=False)
                ]
        except (FileNotFoundError, NotADirectoryError, ObjectDenied):
            return []
