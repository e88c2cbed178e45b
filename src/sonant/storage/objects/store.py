"""What an object store is: whole objects under `s3://bucket/key`, read as streams and written at once."""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self

from sonant.errors import InvalidObjectName

KEY_MAX_BYTES = 1024

_SCHEME = "s3://"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, slots=True, order=True)
class ObjectUri:
    """The name of an object; with an empty key, of a bucket. A value that exists is a name S3 accepts.

    >>> ObjectUri.parse("s3://calls/2024/").child("job", "calls.json.out")
    ObjectUri(bucket='calls', key='2024/job/calls.json.out')

    Sorts by bucket, then by key in the order of its UTF-8 bytes. Making one raises InvalidObjectName.
    """

    bucket: str
    """3 to 63 of a-z, 0-9, `.` and `-`, with a letter or digit at both ends."""
    key: str
    """0 to 1,024 bytes of UTF-8, any characters."""

    def __post_init__(self) -> None:
        if not _BUCKET.fullmatch(self.bucket):
            raise InvalidObjectName(
                f"{self.bucket[:70]!a} is not a bucket name: 3 to 63 of a-z 0-9 . - with a letter or "
                "digit at both ends are"
            )
        try:
            size = len(self.key.encode())
        except UnicodeEncodeError:
            raise InvalidObjectName(f"a key in bucket {self.bucket} is not valid Unicode") from None
        if size > KEY_MAX_BYTES:
            raise InvalidObjectName(
                f"a key in bucket {self.bucket} has {size} bytes, at most {KEY_MAX_BYTES} are allowed"
            )

    @classmethod
    def parse(cls, text: str) -> ObjectUri:
        """Read `s3://bucket/key`, as it stands: nothing in it is an escape."""
        if not text.startswith(_SCHEME):
            raise InvalidObjectName(f"{text[:100]!a} does not begin with {_SCHEME}")
        bucket, _, key = text.removeprefix(_SCHEME).partition("/")
        return cls(bucket, key)

    def __str__(self) -> str:
        return f"{_SCHEME}{self.bucket}/{self.key}"

    @property
    def name(self) -> str:
        """What follows the last `/`: the file name."""
        return self.key.rpartition("/")[2]

    @property
    def shown(self) -> str:
        """The URI for people to read: characters that do not print are escaped."""
        text = str(self)
        if text.isprintable():
            return text
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

    def child(self, *parts: str) -> ObjectUri:
        """The name below this one, each part after exactly one `/`. Raises InvalidObjectName."""
        key = self.key
        for part in parts:
            key += ("" if not key or key.endswith("/") else "/") + part.lstrip("/")
        return ObjectUri(self.bucket, key)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """One line of a listing."""

    uri: ObjectUri
    size: int
    """Bytes of plaintext."""
    modified_at: datetime
    sealed: bool
    """Stored under a key."""


class ObjectReader(Protocol):
    """An open object; use it in a `with` block."""

    @property
    def size(self) -> int:
        """Bytes of plaintext, as stated by the store when the object was opened."""
        ...

    def read(self, n: int = -1, /) -> bytes:
        """The next `n` bytes, fewer only at the end; all that is left when `n` is negative.

        Raises SealBroken when sealed bytes do not open; what was read until then is then not to be used.
        """
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class RoleObjects(Protocol):
    """The object store as one role may use it. Every method may raise ObjectDenied and what those of
    `ObjectStore` raise."""

    def size(self, uri: ObjectUri) -> int: ...

    def read(self, uri: ObjectUri, max_bytes: int) -> bytes: ...

    def open(self, uri: ObjectUri) -> ObjectReader: ...

    def write(self, uri: ObjectUri, chunks: Iterable[bytes] | bytes, kms_key: str | None) -> None: ...

    def check_writable(self, uri: ObjectUri, kms_key: str | None) -> None:
        """Raise what `write` would, as far as can be known without writing."""
        ...


class ObjectStore(Protocol):
    """Every method may raise BucketNotFound, ObjectDenied, and ObjectError for a fault of the device.

    Methods that take a URI raise InvalidObjectName for an empty key. Objects sealed under a key that is not
    usable raise the errors of `KeyStore`.
    """

    def size(self, uri: ObjectUri) -> int:
        """Bytes of plaintext. Raises ObjectNotFound."""
        ...

    def read(self, uri: ObjectUri, max_bytes: int) -> bytes:
        """The whole object. Raises ObjectNotFound, and ObjectTooLarge before anything is read."""
        ...

    def open(self, uri: ObjectUri) -> ObjectReader:
        """Read as a stream. Raises ObjectNotFound."""
        ...

    def write(self, uri: ObjectUri, chunks: Iterable[bytes] | bytes, kms_key: str | None = None) -> None:
        """Put the whole object, or leave what was there; sealed under `kms_key` when given.

        An exception of the iterator passes through. Raises StorageFull, ObjectNameConflict.
        """
        ...

    def list(self, bucket: str, prefix: str = "") -> Iterator[ObjectInfo]:
        """Objects whose key begins with `prefix`, in the order of their keys' UTF-8 bytes."""
        ...

    def delete(self, uri: ObjectUri) -> None:
        """Remove the object; nothing happens when there is none, as with S3."""
        ...

    def buckets(self) -> builtins.list[str]:
        """All bucket names, sorted."""
        ...
