"""Writes objects of a bucket as a whole or not at all, and removes them."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterable, Sequence

from sonant.errors import ObjectDenied, ObjectError, ObjectNameConflict
from sonant.storage.crypto.sealing import is_sealed
from sonant.storage.objects.local_names import TEMPORARY
from sonant.storage.objects.local_tree import Walk, not_a_file, object_errors
from sonant.storage.objects.store import key_part_is_object

_BLOCK_BYTES = 256 * 1024
_ATTEMPTS = 8
#: Folders open at once on the way up: a key may be a thousand folders deep, descriptors are few.
_MAX_OPEN_FOLDERS = 32


def put(walk: Walk, path: Sequence[bytes], chunks: Iterable[bytes], *, sealed: bool) -> None:
    """Write `chunks` to a temporary file, and rename it to the object when it is safely on the disk.

    After any failure the object is as it was before and no file is left. Exceptions of the iterator pass
    through.
    """
    *folders, name = path
    with object_errors(walk.uri):
        folder, temporary, descriptor = _open_temporary(walk, folders, name)
    try:
        try:
            _write_chunks(descriptor, chunks, walk.uri, sealed=sealed)
            with object_errors(walk.uri):
                os.fsync(descriptor)
        finally:
            with object_errors(walk.uri):
                os.close(descriptor)
        with object_errors(walk.uri):
            _make_room(folder, name, walk.uri)
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        with contextlib.suppress(OSError, ObjectError):
            remove_empty(walk, folders)
        raise
    with object_errors(walk.uri):
        os.fsync(folder)


def remove(walk: Walk, path: Sequence[bytes]) -> None:
    """Remove an object and the folders that it leaves empty. Nothing happens when there is none."""
    *folders, name = path
    with object_errors(walk.uri):
        try:
            folder = walk.to(folders)
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                return
            if not stat.S_ISREG(mode):
                raise not_a_file(mode, walk.uri)
            os.unlink(name, dir_fd=folder)
            os.fsync(folder)
        except (FileNotFoundError, NotADirectoryError):
            return
        remove_empty(walk, folders)


def remove_empty(walk: Walk, folders: Sequence[bytes]) -> None:
    """Remove folders from the innermost outwards, up to the first that is not empty. Raises OSError."""
    for end in range(len(folders), 0, -_MAX_OPEN_FOLDERS):
        start = max(0, end - _MAX_OPEN_FOLDERS)
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


def _open_temporary(walk: Walk, folders: Sequence[bytes], name: bytes) -> tuple[int, bytes, int]:
    """Make the folders and a temporary file; return the innermost folder, the file's name and descriptor."""
    temporary = TEMPORARY + secrets.token_hex(8).encode()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    for _ in range(_ATTEMPTS):
        try:
            folder = walk.to(folders, make=True)
            _make_room(folder, name, walk.uri)
            return folder, temporary, os.open(temporary, flags, 0o600, dir_fd=folder)
        except NotADirectoryError:
            raise key_part_is_object(walk.uri) from None
        except FileNotFoundError:
            walk.close()  # a concurrent `remove` removed the empty folder: start again at the bucket
    raise ObjectError(f"{walk.uri}: another process removes its folder again and again")


def _make_room(folder: int, name: bytes, uri: str) -> None:
    """Raise the reason for which an object of this name cannot be written; remove an empty folder."""
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        try:
            os.rmdir(name, dir_fd=folder)  # object stores have no empty folders
        except OSError:
            raise ObjectNameConflict(
                f"{uri}: there are objects below this key, and a local bucket cannot hold both; delete "
                "them or choose another key"
            ) from None
    elif not stat.S_ISREG(mode):
        raise not_a_file(mode, uri)


def _write_chunks(descriptor: int, chunks: Iterable[bytes], uri: str, *, sealed: bool) -> None:
    buffer, started = bytearray(), False

    def flush(block: bytes | bytearray) -> None:
        nonlocal started
        if not started and not sealed and is_sealed(block):
            # Readers would take it for a sealed object.
            raise ObjectDenied(f"{uri}: plain content must not start like a sealed object")
        started = True
        with object_errors(uri), memoryview(block) as view:
            written = 0
            while written < len(view):
                written += os.write(descriptor, view[written:])

    for chunk in chunks:
        if not buffer and len(chunk) >= _BLOCK_BYTES:
            flush(chunk)
            continue
        buffer += chunk
        if len(buffer) >= _BLOCK_BYTES:
            flush(buffer)
            buffer.clear()
    flush(buffer)
