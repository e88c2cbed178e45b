"""A folder of small secret files that several processes read and change at the same time.

Readers take no lock: files are only ever replaced as a whole. Writers take turns by a lock file. Folder and
files belong to their owner alone (0700, 0600); anything looser is refused, not repaired, because whoever
could read the secrets may have done so.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shlex
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sonant.errors import KeysUnreachable, SetupError
from sonant.storage.machine import lacks

_LOCK = ".lock"
_LEAVING = ".tmp-"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Stamp(NamedTuple):
    """Changes whenever a file is replaced (`replace` sees to it that modification times only grow)."""

    mtime_ns: int
    inode: int
    size_bytes: int


class PrivateFolder:
    """Raises SetupError, which says what to do, for every fault of the folder itself."""

    def __init__(self, path: Path) -> None:
        """The folder is made by the first writer; until then it is an empty one."""
        self.path = path.absolute()
        self._prefix = f"{self.path}{os.sep}"
        self._seen = False
        self.check()

    def check(self) -> None:
        """Refuse a folder that others may enter.

        Raises KeysUnreachable for one that was there and is gone: a file system may be away, and comes back.
        """
        try:
            mode = os.stat(self._prefix).st_mode  # noqa: PTH116 - runs at every use of a key
        except FileNotFoundError:
            if not self._seen:
                return
            raise KeysUnreachable(
                f"folder {self.path} is gone: put it back, from a backup if need be"
            ) from None
        except OSError as fault:
            raise _typed(fault, f"folder {self.path} cannot be used: {fault.strerror}") from None
        if mode & _OTHERS:
            raise SetupError(
                f"folder {self.path} holds secrets and is open to other users "
                f"(mode {stat.S_IMODE(mode):04o}): run chmod 700 {shlex.quote(str(self.path))}"
            )
        self._seen = True

    def stamp(self, name: str) -> Stamp | None:
        """The present version of a file, or None when there is no such file."""
        try:
            status = os.lstat(self._prefix + name)
        except FileNotFoundError:
            return None
        except OSError as fault:
            raise _typed(fault, f"file {self._prefix}{name} cannot be used: {fault.strerror}") from None
        return self._accepted(name, status)

    def read(self, name: str, max_bytes: int) -> tuple[Stamp, bytes] | None:
        """A file's version and content, or None when there is no such file."""
        try:
            # O_NONBLOCK: a named pipe put here must not hang the service.
            descriptor = os.open(self._prefix + name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as fault:
            raise _typed(fault, f"file {self._prefix}{name} cannot be read: {fault.strerror}") from None
        with self._faults("read"), os.fdopen(descriptor, "rb", buffering=0) as file:
            stamp = self._accepted(name, os.fstat(descriptor))
            if stamp.size_bytes > max_bytes:
                raise SetupError(f"file {self._prefix}{name} is larger than {max_bytes} bytes")
            return stamp, file.read(max_bytes) or b""

    def names(self, suffix: str) -> list[str]:
        self.check()
        if not self._seen:
            return []
        with self._faults("read"):
            return sorted(path.name for path in self.path.iterdir() if path.suffix == suffix)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold off every other writer, of this and of other processes. Makes the folder, if it never was."""
        self.check()
        if not self._seen:
            with self._faults("made"):
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.check()
        with self._faults("locked"):
            lock = os.open(self._prefix + _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            with self._faults("locked"):
                fcntl.flock(lock, fcntl.LOCK_EX)
                # Under the lock nobody is writing: whatever temporary file lies here was left by a crash.
                for path in self.path.glob(_LEAVING + "*"):
                    self._shred(path)
            yield
        finally:
            os.close(lock)

    def replace(self, name: str, content: bytes, *, overwrite: bool = False) -> None:
        """Write a file as a whole: after a crash there is the old content or the new. Needs the lock.

        `overwrite`: a look at the disk does not find the old content afterwards (see `destroy`).
        """
        old = self.stamp(name)
        leaving = self._leaving()
        with self._faults("written"):
            descriptor = os.open(leaving, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    # Two changes within one tick of the file system's clock must still differ in time:
                    # readers know a new version by it, and an inode number may come back.
                    mtime_ns = max(time.time_ns(), old.mtime_ns + 1 if old else 0)
                    os.utime(descriptor, ns=(mtime_ns, mtime_ns))
                    os.fsync(descriptor)
                gone = self._leaving() if overwrite else None
                if gone is not None:
                    gone.hardlink_to(self.path / name)
                leaving.rename(self.path / name)
                if gone is not None:
                    self._shred(gone)
            except BaseException:
                with contextlib.suppress(OSError):
                    leaving.unlink()
                raise
            self._sync()

    def rename(self, old: str, new: str) -> None:
        """Give a file its final name; nothing happens if there is none. Needs the lock."""
        with self._faults("written"), contextlib.suppress(FileNotFoundError):
            (self.path / old).rename(self.path / new)
            self._sync()

    def destroy(self, name: str) -> None:
        """Overwrite and remove a file, so that a look at the disk does not find it. Needs the lock.

        Copies that the file system, the disk or a backup keeps of their own accord are out of reach.
        """
        leaving = self._leaving()
        with self._faults("destroyed"):
            (self.path / name).rename(leaving)
            self._shred(leaving)
            self._sync()

    def _leaving(self) -> Path:
        return self.path / (_LEAVING + secrets.token_hex(8))

    def _shred(self, path: Path) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            os.write(descriptor, bytes(os.fstat(descriptor).st_size))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        path.unlink()

    def _sync(self) -> None:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _accepted(self, name: str, status: os.stat_result) -> Stamp:
        if not stat.S_ISREG(status.st_mode):
            raise SetupError(f"file {self._prefix}{name} is not a regular file: put the file itself there")
        if status.st_mode & _OTHERS:
            path = self._prefix + name
            raise SetupError(
                f"file {path} holds a secret and is open to other users "
                f"(mode {stat.S_IMODE(status.st_mode):04o}): run chmod 600 {shlex.quote(path)}"
            )
        return Stamp(status.st_mtime_ns, status.st_ino, status.st_size)

    @contextlib.contextmanager
    def _faults(self, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as fault:
            raise _typed(fault, f"folder {self.path} cannot be {done}: {fault.strerror}") from None


def _typed(fault: OSError, what: str) -> SetupError | KeysUnreachable:
    """A fault of the folder is the operator's; one of a process without files left is over at some time."""
    return KeysUnreachable(what) if lacks(fault) else SetupError(what)
