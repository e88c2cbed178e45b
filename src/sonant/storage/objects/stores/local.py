"""The back end `objects = "local"`: objects are files `<root>/<bucket>/<key>`, which users can put and find.

Files are stored as they are, or sealed when written under a key. `local_names` converts keys to paths. No
symbolic link below the root is followed. On a file system that folds letter case or normalises Unicode, keys
that differ only in that are one object.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from sonant.errors import (
    BucketNotFound,
    InvalidObjectName,
    ObjectNameConflict,
    ObjectNotFound,
    ObjectTooLarge,
    SealBroken,
    SetupError,
)
from sonant.iam import Policy
from sonant.settings import Settings
from sonant.storage.accounts import LocalAccounts
from sonant.storage.crypto.sealing import (
    HEADER_MAX_BYTES,
    MAGIC,
    is_sealed,
    open_sealed,
    plaintext_size,
    seal,
)
from sonant.storage.keys.store import KeyStore
from sonant.storage.objects.local_names import path_of
from sonant.storage.objects.local_tree import (
    Walk,
    list_objects,
    object_errors,
    open_bucket,
    open_file,
    stale_files,
)
from sonant.storage.objects.local_writing import put, remove, remove_empty
from sonant.storage.objects.store import ObjectInfo, ObjectUri, RoleObjects
from sonant.storage.role_policies import PolicyCheckedObjects

_BLOCK_BYTES = 1024 * 1024
_STALE_S = 24 * 3600.0


class LocalBackEnd:
    """An `ObjectBackEnd` in the data folder."""

    def __init__(
        self, settings: Settings, accounts: LocalAccounts, keys: Callable[[str, str | None], KeyStore]
    ) -> None:
        self._account_id, self._accounts, self._keys = settings.account, accounts, keys

    @staticmethod
    def check(settings: Settings) -> None:
        """Accept all settings."""

    @staticmethod
    def location(settings: Settings) -> Mapping[str, object]:
        """Return nothing: the objects are in the data folder."""
        return {}

    def objects(self) -> LocalObjectStore:
        """Return the first account's buckets."""
        return LocalObjectStore(self._accounts.buckets(self._account_id), self._keys(self._account_id, None))

    def objects_as(
        self, role_arn: str, policies: Sequence[Policy], *, domain_arn: str, account_id: str
    ) -> RoleObjects:
        """Return the buckets of the role's account, as far as the policies allow."""
        owner, region = role_arn.split(":")[4], domain_arn.split(":")[3] if domain_arn else None
        open_store = partial(LocalObjectStore, self._accounts.buckets(owner))
        return PolicyCheckedObjects(open_store, self._keys(owner, region), role_arn, policies)

    def clean_up(self) -> None:
        """Make the folder of the buckets, and remove temporary files of interrupted writes."""
        objects = self.objects()
        objects.make()
        objects.remove_stale_files()


class LocalObjectStore:
    """An `ObjectStore` in a folder."""

    def __init__(self, root: Path, keys: KeyStore) -> None:
        """The folder is made by `make`, or with its first bucket."""
        self._root = root.absolute()
        self._keys = keys

    def make(self) -> None:
        """Make the folder if there is none. Raises SetupError."""
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as fault:
            raise SetupError(f"object folder {self._root} cannot be made: {fault.strerror}") from None

    def size(self, uri: ObjectUri) -> int:
        file, status = self._file(uri)
        with file, object_errors(uri.shown):
            return _plain_size(file.fileno(), status)[0]

    def read(self, uri: ObjectUri, max_bytes: int) -> bytes:
        file, status = self._file(uri)
        with file, object_errors(uri.shown):
            size, sealed = _plain_size(file.fileno(), status)
            if size > max_bytes:
                raise ObjectTooLarge(f"{uri.shown}: {size} bytes, at most {max_bytes} are read")
            if sealed:
                return b"".join(open_sealed(file, self._unwrap(uri)))
            # One byte more than its size shows whether the file is being written to.
            data = file.read(size + 1) or b""
            while len(data) != size and len(data) <= max_bytes and (more := file.read(_BLOCK_BYTES)):
                data += more
        if len(data) > max_bytes:
            raise ObjectTooLarge(f"{uri.shown}: it grew beyond {max_bytes} bytes while it was read")
        return data

    def open(self, uri: ObjectUri) -> LocalReader:
        file, status = self._file(uri)
        try:
            with object_errors(uri.shown):
                size, sealed = _plain_size(file.fileno(), status)
                chunks = open_sealed(file, self._unwrap(uri)) if sealed else None
        except BaseException:
            file.close()
            raise
        return LocalReader(uri.shown, file, size, chunks)

    def write(self, uri: ObjectUri, chunks: Iterable[bytes] | bytes, kms_key: str | None = None) -> None:
        path = _path(uri)
        parts: Iterable[bytes] = (chunks,) if isinstance(chunks, bytes) else chunks
        if kms_key is not None:
            parts = seal(parts, self._keys.generate_data_key(kms_key, object_context(uri)))
        with Walk(self._root, uri.bucket, uri.shown) as walk:
            put(walk, path, parts, sealed=kms_key is not None)

    def list(self, bucket: str, prefix: str = "") -> Iterator[ObjectInfo]:
        """As in `ObjectStore`. The size of a damaged sealed object is that of its file."""
        ObjectUri(bucket, "")
        # Opened here, so that the call and not the first `next` reports a missing bucket.
        return self._described(Walk(self._root, bucket, f"s3://{bucket}"), bucket, prefix)

    def delete(self, uri: ObjectUri) -> None:
        """As in `ObjectStore`. Removes folders that become empty, too: S3 has none."""
        path = _path(uri)
        with Walk(self._root, uri.bucket, uri.shown) as walk:
            remove(walk, path)

    def buckets(self) -> builtins.list[str]:
        if not self._root.exists():
            return []
        if not self._root.is_dir():
            raise SetupError(f"{self._root} is not a folder: move it away, buckets are made there")
        with object_errors("object folder"), os.scandir(self._root) as entries:
            return sorted(entry.name for entry in entries if _is_bucket(entry))

    def create_bucket(self, name: str) -> None:
        """Make a bucket. Nothing happens when it exists.

        Raises InvalidObjectName, ObjectDenied, ObjectNameConflict.
        """
        ObjectUri(name, "")
        self.make()
        with object_errors(f"s3://{name}"):
            with contextlib.suppress(FileExistsError):
                (self._root / name).mkdir(mode=0o700)
            root = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(root)
            finally:
                os.close(root)
        try:
            os.close(open_bucket(self._root, name))
        except BucketNotFound:
            raise ObjectNameConflict(f"s3://{name}: there is a file of the bucket's name") from None

    def remove_stale_files(self, older_than_s: float = _STALE_S) -> int:
        """Remove temporary files of interrupted writes that are a day old or more; return how many."""
        removed = 0
        for bucket in self.buckets():
            uri = f"s3://{bucket}"
            with Walk(self._root, bucket, uri) as walk, object_errors(uri):
                for path in stale_files(walk, time.time() - older_than_s):
                    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                        os.unlink(path[-1], dir_fd=walk.to(path[:-1]))
                        removed += 1
                        remove_empty(walk, path[:-1])
        return removed

    def _file(self, uri: ObjectUri) -> tuple[io.FileIO, os.stat_result]:
        *folders, name = _path(uri)
        with object_errors(uri.shown), Walk(self._root, uri.bucket, uri.shown) as walk:
            descriptor, status = open_file(walk.to(folders), name, uri.shown)
        return io.FileIO(descriptor), status

    def _unwrap(self, uri: ObjectUri) -> Callable[[bytes], bytes]:
        return partial(self._keys.decrypt, context=object_context(uri))

    def _described(self, walk: Walk, bucket: str, prefix: str) -> Iterator[ObjectInfo]:
        with walk:
            for key, path in list_objects(walk, prefix):
                try:
                    uri = ObjectUri(bucket, key)
                    with object_errors(uri.shown):
                        descriptor, status = open_file(walk.to(path[:-1]), path[-1], uri.shown)
                except (InvalidObjectName, ObjectNotFound):  # removed since its folder was read
                    continue
                try:
                    with object_errors(uri.shown):
                        size, sealed = _plain_size(descriptor, status)
                except SealBroken:
                    size, sealed = status.st_size, True
                finally:
                    os.close(descriptor)
                modified_at = datetime.fromtimestamp(status.st_mtime, UTC)
                yield ObjectInfo(uri=uri, size=size, modified_at=modified_at, sealed=sealed)


class LocalReader:
    """An `ObjectReader`; sealed objects are decrypted as they are read."""

    __slots__ = ("_chunks", "_file", "_ready", "_uri", "size")

    def __init__(self, uri: str, file: io.FileIO, size: int, chunks: Iterator[bytes] | None) -> None:
        self.size = size
        self._uri = uri
        self._file = file
        self._chunks = chunks
        self._ready = bytearray()

    def read(self, n: int = -1, /) -> bytes:
        with object_errors(self._uri):
            if self._chunks is None:
                return self._file.read(n) or b""
            while n < 0 or len(self._ready) < n:
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._ready += chunk
        end = len(self._ready) if n < 0 else n
        data = bytes(self._ready[:end])
        del self._ready[:end]
        return data

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _path(uri: ObjectUri) -> tuple[bytes, ...]:
    if not uri.key:
        raise InvalidObjectName(f"{uri.shown}: names a bucket, an object is needed")
    return path_of(uri.key)


def object_context(uri: ObjectUri) -> dict[str, str]:
    """Return the encryption context of a sealed object, which opens only under its own name."""
    return {"sonant:object": str(uri)}


def _plain_size(descriptor: int, status: os.stat_result) -> tuple[int, bool]:
    """Return the bytes of plaintext, and whether the file is sealed. Raises SealBroken, OSError."""
    if not is_sealed(os.pread(descriptor, len(MAGIC), 0)):
        return status.st_size, False
    return plaintext_size(os.pread(descriptor, HEADER_MAX_BYTES, 0), status.st_size), True


def _is_bucket(entry: os.DirEntry[str]) -> bool:
    try:
        ObjectUri(entry.name, "")
        return entry.is_dir(follow_symlinks=False)
    except InvalidObjectName:
        return False


BACK_END = LocalBackEnd
