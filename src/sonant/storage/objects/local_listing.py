"""What lies in a bucket's folders: its objects in the order of their keys, and leavings of broken writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from operator import attrgetter
from typing import NamedTuple

from sonant.errors import ObjectDenied
from sonant.storage.objects.local_names import TEMPORARY, piece_of, segment_of
from sonant.storage.objects.local_tree import Walk, faults
from sonant.storage.objects.store import KEY_MAX_BYTES

Path = tuple[bytes, ...]


class _Entry(NamedTuple):
    key: str
    """Of a file its key, of a folder what its objects' keys begin with."""
    path: Path
    is_folder: bool


def listing(walk: Walk, prefix: str) -> Iterator[tuple[str, Path]]:
    """Key and path of every object whose key begins with `prefix`, in the order of UTF-8 bytes.

    Names that are no key's, links and special files are passed over. Moves the walk.
    """
    # Code points sort as their UTF-8 bytes do. A folder's key ends with `/`: it sorts as its objects do.
    waiting = [_Entry("", (), True)]
    while waiting:
        entry = waiting.pop()
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
        waiting += sorted(wanted, key=attrgetter("key"), reverse=True)


def stale_files(walk: Walk, before: float) -> Iterator[Path]:
    """Paths of temporary files last written before the time `before` (seconds since 1970). Moves the walk."""
    waiting: list[Path] = [()]
    while waiting:
        folder = waiting.pop()
        for name, is_folder in _names(walk, folder):
            path = (*folder, name)
            if is_folder:
                waiting.append(path)
            elif name.startswith(TEMPORARY):
                try:
                    status = os.stat(name, dir_fd=walk.to(folder), follow_symlinks=False)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                if status.st_mtime < before:
                    yield path


def _segments(walk: Walk, folder: Path, piece: bytes = b"", names: Path = ()) -> Iterator[_Entry]:
    """The segments that the names in a folder stand for; long ones are collected from the folders below."""
    for name, is_folder in _names(walk, folder):
        found = piece_of(name)
        if found is None:
            continue
        segment_bytes, goes_on = piece + found[0], found[1]
        path, segment_names = (*folder, name), (*names, name)
        if not goes_on:
            segment = segment_of(segment_bytes, segment_names)
            if segment is not None:
                yield _Entry(segment, path, is_folder)
        elif is_folder and len(segment_bytes) < KEY_MAX_BYTES:
            yield from _segments(walk, path, segment_bytes, segment_names)


def _names(walk: Walk, folder: Path) -> list[tuple[bytes, bool]]:
    """Files and folders in a folder, each with whether it is a folder; none if it is gone or now a link."""
    with faults(walk.where):
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
