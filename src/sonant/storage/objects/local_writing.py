"""Putting an object in its place at once, or not at all; taking it away."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterable, Sequence

from sonant.errors import ObjectDenied, ObjectError, ObjectNameConflict
from sonant.storage.crypto.sealing import is_sealed
from sonant.storage.objects.local_names import TEMPORARY
from sonant.storage.objects.local_tree import Walk, faults, not_a_file

_BLOCK_BYTES = 256 * 1024
_TRIES = 8
_HELD = 32
"""Folders kept open on the way back up; a key may be a thousand folders deep, descriptors are few."""


def put(walk: Walk, path: Sequence[bytes], chunks: Iterable[bytes], *, sealed: bool) -> None:
    """Write `chunks` beside the object's place, and move the whole there when it is safely on the disk.

    Whatever fails, the object is as it was before and nothing is left over. An exception of the iterator
    passes through.
    """
    *folders, name = path
    with faults(walk.where):
        folder, temporary, descriptor = _begin(walk, folders, name)
    try:
        try:
            _pour(descriptor, chunks, walk.where, sealed=sealed)
            with faults(walk.where):
                os.fsync(descriptor)
        finally:
            with faults(walk.where):
                os.close(descriptor)
        with faults(walk.where):
            _check_place(folder, name, walk.where)
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        with contextlib.suppress(OSError, ObjectError):
            remove_empty(walk, folders)
        raise
    with faults(walk.where):
        os.fsync(folder)


def remove(walk: Walk, path: Sequence[bytes]) -> None:
    """Remove an object and the folders that are empty without it; nothing happens when there is none."""
    *folders, name = path
    with faults(walk.where):
        try:
            folder = walk.to(folders)
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                return
            if not stat.S_ISREG(mode):
                raise not_a_file(mode, walk.where)
            os.unlink(name, dir_fd=folder)
            os.fsync(folder)
        except (FileNotFoundError, NotADirectoryError):
            return
        remove_empty(walk, folders)


def remove_empty(walk: Walk, folders: Sequence[bytes]) -> None:
    """Remove folders from the innermost outwards, up to the first that holds something. Raises OSError."""
    for end in range(len(folders), 0, -_HELD):
        start = max(0, end - _HELD)
        with contextlib.ExitStack() as stack:
            parents: list[int] = []
            with contextlib.suppress(FileNotFoundError):
                for depth in range(start, end):
                    parents.append(os.dup(walk.to(folders[:depth])))
                    stack.callback(os.close, parents[-1])
            for depth in reversed(range(len(parents))):
                try:
                    os.rmdir(folders[start + depth], dir_fd=parents[depth])
                except FileNotFoundError:
                    continue
                except OSError:
                    return


def _begin(walk: Walk, folders: Sequence[bytes], name: bytes) -> tuple[int, bytes, int]:
    """Make the folders and an empty file in the innermost: that folder, the file's name and descriptor."""
    temporary = TEMPORARY + secrets.token_hex(8).encode()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    for _ in range(_TRIES):
        try:
            folder = walk.to(folders, make=True)
            _check_place(folder, name, walk.where)
            return folder, temporary, os.open(temporary, flags, 0o600, dir_fd=folder)
        except NotADirectoryError:
            raise ObjectNameConflict(
                f"{walk.where}: a part of this key is itself an object, and a local bucket cannot hold both; "
                "delete that object or choose another key"
            ) from None
        except FileNotFoundError:
            walk.close()  # a `remove` took the empty folder away under our feet: once more from the bucket
    raise ObjectError(f"{walk.where}: its folder is removed again and again by somebody else")


def _check_place(folder: int, name: bytes, where: str) -> None:
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        try:
            os.rmdir(name, dir_fd=folder)  # an empty folder is nothing to an object store
        except OSError:
            raise ObjectNameConflict(
                f"{where}: there are objects below this key, and a local bucket cannot hold both; delete "
                "them or choose another key"
            ) from None
    elif not stat.S_ISREG(mode):
        raise not_a_file(mode, where)


def _pour(descriptor: int, chunks: Iterable[bytes], where: str, *, sealed: bool) -> None:
    waiting, begun = bytearray(), False

    def flush(block: bytes | bytearray) -> None:
        nonlocal begun
        if not begun and not sealed and is_sealed(block):
            # It would be taken for sealed when read.
            raise ObjectDenied(f"{where}: plain content may not begin as a sealed object does")
        begun = True
        with faults(where), memoryview(block) as view:
            written = 0
            while written < len(view):
                written += os.write(descriptor, view[written:])

    for chunk in chunks:
        if not waiting and len(chunk) >= _BLOCK_BYTES:
            flush(chunk)
            continue
        waiting += chunk
        if len(waiting) >= _BLOCK_BYTES:
            flush(waiting)
            waiting.clear()
    flush(waiting)
