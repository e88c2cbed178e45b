"""A folder of small secret files that several processes read and change at the same time.

Readers take no lock: files are only replaced as a whole. Writers exclude each other by a lock file. Folder
and files are accessible to their owner alone (0700, 0600). Anything looser is refused, not repaired, because
other users may have read the secrets already.
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
from typing import NamedTuple, Protocol

from sonant.errors import KeysUnreachable, SetupError
from sonant.storage.files import is_out_of_resources, sync_folder

_LOCK = ".lock"
_TEMPORARY = ".tmp-"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
#: Bytes that encryption adds to a file at most.
_WRAPPING_BYTES = 64


class Stamp(NamedTuple):
    """A version of a file: it differs after every `replace`, which makes modification times only grow."""

    mtime_ns: int
    inode: int
    size_bytes: int


class Wrapping(Protocol):
    """Encrypts the contents of files under a secret that is not beside them. Raises SetupError without it."""

    def seal(self, name: str, content: bytes) -> bytes:
        """Return the content of a file as it is to be stored."""
        ...

    def open(self, name: str, stored: bytes) -> bytes:
        """Return the content of a file, encrypted or not."""
        ...


class PrivateFolder:
    """Reads, replaces and destroys files. Faults of the folder raise SetupError, which says what to do."""

    def __init__(self, path: Path, wrapping: Wrapping | None = None) -> None:
        """The folder is made by the first writer; until then it counts as empty.

        `wrapping` encrypts the files that are written as `secret`, and opens all that are encrypted.
        """
        self.wrapping = wrapping
        self.path = path.absolute()
        self._prefix = f"{self.path}{os.sep}"
        self._existed = False
        self.check()

    def check(self) -> None:
        """Raise SetupError for a folder that other users may enter.

        Raises KeysUnreachable for one that existed and is gone: its file system may come back.
        """
        try:
            mode = os.stat(self._prefix).st_mode  # noqa: PTH116 - runs at every use of a key
        except FileNotFoundError:
            if not self._existed:
                return
            raise KeysUnreachable(
                f"folder {self.path} is gone: put it back, from a backup if need be"
            ) from None
        except OSError as fault:
            raise _error(fault, f"folder {self.path} cannot be used: {fault.strerror}") from None
        if mode & _OTHERS:
            raise SetupError(
                f"folder {self.path} holds secrets and is open to other users "
                f"(mode {stat.S_IMODE(mode):04o}): run chmod 700 {shlex.quote(str(self.path))}"
            )
        self._existed = True

    def stamp(self, name: str) -> Stamp | None:
        """Return the present version of a file, or None when there is no such file."""
        try:
            status = os.lstat(self._prefix + name)
        except FileNotFoundError:
            return None
        except OSError as fault:
            raise _error(fault, f"file {self._prefix}{name} cannot be used: {fault.strerror}") from None
        return self._checked_stamp(name, status)

    def read(self, name: str, max_bytes: int) -> tuple[Stamp, bytes] | None:
        """Return a file's version and content, or None when there is no such file."""
        try:
            # O_NONBLOCK: a named pipe put here must not hang the service.
            descriptor = os.open(self._prefix + name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as fault:
            raise _error(fault, f"file {self._prefix}{name} cannot be read: {fault.strerror}") from None
        with self._errors("read"), os.fdopen(descriptor, "rb", buffering=0) as file:
            stamp = self._checked_stamp(name, os.fstat(descriptor))
            most_bytes = max_bytes + (0 if self.wrapping is None else _WRAPPING_BYTES)
            content = file.read(most_bytes) or b""
            if self.wrapping is not None:
                content = self.wrapping.open(name, content)
            if max(stamp.size_bytes - most_bytes, len(content) - max_bytes) > 0:
                raise SetupError(f"file {self._prefix}{name} is larger than {max_bytes} bytes")
            return stamp, content

    def names(self, suffix: str) -> list[str]:
        """Return the names of the files with a suffix, sorted."""
        self.check()
        if not self._existed:
            return []
        with self._errors("read"):
            return sorted(path.name for path in self.path.iterdir() if path.suffix == suffix)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other writers out, of this and other processes. Makes the folder if it never existed."""
        self.check()
        if not self._existed:
            with self._errors("made"):
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.check()
        with self._errors("locked"):
            lock = os.open(self._prefix + _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            with self._errors("locked"):
                fcntl.flock(lock, fcntl.LOCK_EX)
                # Under the lock nothing is being written: temporary files are those that a crash left.
                for path in self.path.glob(_TEMPORARY + "*"):
                    self._shred(path)
            yield
        finally:
            os.close(lock)

    def replace(self, name: str, content: bytes, *, overwrite: bool = False, secret: bool = False) -> None:
        """Write a file as a whole: after a crash it has the old content or the new. Needs the lock.

        With `overwrite`, the old content is destroyed on the disk (see `destroy`). A `secret` file is
        encrypted where there is a wrapping.
        """
        if secret and self.wrapping is not None:
            content = self.wrapping.seal(name, content)
        old = self.stamp(name)
        temporary = self._temporary_path()
        with self._errors("written"):
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    # Two changes within one tick of the file system's clock must differ in time: readers
                    # detect a new version by it, and inode numbers are used again.
                    mtime_ns = max(time.time_ns(), old.mtime_ns + 1 if old else 0)
                    os.utime(descriptor, ns=(mtime_ns, mtime_ns))
                    os.fsync(descriptor)
                old_link = self._temporary_path() if overwrite else None
                if old_link is not None:
                    old_link.hardlink_to(self.path / name)
                temporary.rename(self.path / name)
                if old_link is not None:
                    self._shred(old_link)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
            sync_folder(self.path)

    def rename(self, old: str, new: str) -> None:
        """Rename a file. Nothing happens when there is none. Needs the lock."""
        with self._errors("written"), contextlib.suppress(FileNotFoundError):
            (self.path / old).rename(self.path / new)
            sync_folder(self.path)

    def destroy(self, name: str) -> None:
        """Overwrite and remove a file, so that its content is not on the disk any more. Needs the lock.

        Copies that the file system, the disk or backups keep are out of reach.
        """
        temporary = self._temporary_path()
        with self._errors("destroyed"):
            (self.path / name).rename(temporary)
            self._shred(temporary)
            sync_folder(self.path)

    def _temporary_path(self) -> Path:
        return self.path / (_TEMPORARY + secrets.token_hex(8))

    def _shred(self, path: Path) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            os.write(descriptor, bytes(os.fstat(descriptor).st_size))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        path.unlink()

    def _checked_stamp(self, name: str, status: os.stat_result) -> Stamp:
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
    def _errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as fault:
            raise _error(fault, f"folder {self.path} cannot be {action}: {fault.strerror}") from None


def _error(fault: OSError, message: str) -> SetupError | KeysUnreachable:
    """Return KeysUnreachable when the process lacks files or memory, else SetupError for the operator."""
    return KeysUnreachable(message) if is_out_of_resources(fault) else SetupError(message)
