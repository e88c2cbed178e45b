"""Interfaces of object stores: whole objects under `s3://bucket/key`, read as streams and written at once."""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self

from sonant.errors import BucketNotFound, InvalidObjectName, ObjectNameConflict, ObjectNotFound
from sonant.iam import Policy
from sonant.settings import Settings
from sonant.storage.accounts import LocalAccounts
from sonant.storage.keys.store import KeyStore

KEY_MAX_BYTES = 1024

_SCHEME = "s3://"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, slots=True, order=True)
class ObjectUri:
    """The name of an object, or of a bucket when the key is empty. Every value is a name that S3 accepts.

    >>> ObjectUri.parse("s3://calls/2024/").child("job", "calls.json.out")
    ObjectUri(bucket='calls', key='2024/job/calls.json.out')

    Sorts by bucket, then by key in the order of its UTF-8 bytes. The constructor raises InvalidObjectName.
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
        """Parse `s3://bucket/key`. Nothing in the text is read as an escape."""
        if not text.startswith(_SCHEME):
            raise InvalidObjectName(f"{text[:100]!a} does not begin with {_SCHEME}")
        bucket, _, key = text.removeprefix(_SCHEME).partition("/")
        return cls(bucket, key)

    def __str__(self) -> str:
        return f"{_SCHEME}{self.bucket}/{self.key}"

    @property
    def name(self) -> str:
        """The file name: what follows the last `/`."""
        return self.key.rpartition("/")[2]

    @property
    def shown(self) -> str:
        """The URI for messages: characters that do not print are escaped."""
        text = str(self)
        if text.isprintable():
            return text
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

    def child(self, *parts: str) -> ObjectUri:
        """Return the name below this one, each part after exactly one `/`. Raises InvalidObjectName."""
        key = self.key
        for part in parts:
            key += ("" if not key or key.endswith("/") else "/") + part.lstrip("/")
        return ObjectUri(self.bucket, key)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """One object of a listing."""

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
        """Return the next `n` bytes, fewer only at the end, or all that is left when `n` is negative.

        Raises SealBroken when sealed bytes do not open. Bytes read before that must not be used.
        """
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class RoleObjects(Protocol):
    """The object store with the rights of one role.

    Every method may raise ObjectDenied and what the methods of `ObjectStore` raise.
    """

    def size(self, uri: ObjectUri) -> int: ...

    def read(self, uri: ObjectUri, max_bytes: int) -> bytes: ...

    def open(self, uri: ObjectUri) -> ObjectReader: ...

    def write(self, uri: ObjectUri, chunks: Iterable[bytes] | bytes, kms_key: str | None) -> None: ...

    def check_writable(self, uri: ObjectUri, kms_key: str | None) -> None:
        """Raise what `write` would raise, as far as that is known without writing."""
        ...


class ObjectStore(Protocol):
    """Every method may raise BucketNotFound, ObjectDenied, and ObjectError for a fault of the device.

    Methods that take a URI raise InvalidObjectName for an empty key. Objects sealed under a key that is not
    usable raise the errors of `KeyStore`.
    """

    def size(self, uri: ObjectUri) -> int:
        """Return the bytes of plaintext. Raises ObjectNotFound."""
        ...

    def read(self, uri: ObjectUri, max_bytes: int) -> bytes:
        """Return the whole object. Raises ObjectNotFound, and ObjectTooLarge before anything is read."""
        ...

    def open(self, uri: ObjectUri) -> ObjectReader:
        """Open the object as a stream. Raises ObjectNotFound."""
        ...

    def write(self, uri: ObjectUri, chunks: Iterable[bytes] | bytes, kms_key: str | None = None) -> None:
        """Write the whole object, sealed under `kms_key` if that is given, or leave the old one as it was.

        Exceptions of the iterator pass through. Raises StorageFull, ObjectNameConflict.
        """
        ...

    def list(self, bucket: str, prefix: str = "") -> Iterator[ObjectInfo]:
        """List objects whose key begins with `prefix`, in the order of their keys' UTF-8 bytes."""
        ...

    def delete(self, uri: ObjectUri) -> None:
        """Delete the object. Nothing happens when there is none, as with S3."""
        ...

    def buckets(self) -> builtins.list[str]:
        """Return the names of all buckets, sorted."""
        ...


class ObjectBackEnd(Protocol):
    """One kind of object store, with the service's own rights and with those of roles."""

    def objects(self) -> ObjectStore:
        """Return the first account's buckets, with the service's own rights."""
        ...

    def objects_as(
        self, role_arn: str, policies: Sequence[Policy], *, domain_arn: str, account_id: str
    ) -> RoleObjects:
        """Return the buckets with the rights of a role, for a domain of an account.

        `policies` are those of Sonant's role of that name; they are ignored with `settings.assumes_roles`.
        """
        ...

    def clean_up(self) -> None:
        """Remove what interrupted writes left behind. Runs at every start of the service."""
        ...


class ObjectBackEndType(Protocol):
    """What a module of an object store defines as `BACK_END`: how its back end is made and checked."""

    def __call__(
        self, settings: Settings, accounts: LocalAccounts, keys: Callable[[str, str | None], KeyStore]
    ) -> ObjectBackEnd:
        """Make the back end. `keys` gives the key store of an account in a Region."""
        ...

    def check(self, settings: Settings) -> None:
        """Raise SetupError for settings that do not go together."""
        ...

    def location(self, settings: Settings) -> Mapping[str, object]:
        """Return what two hosts must agree on to reach the same objects, without secrets.

        Empty for objects in the data folder.
        """
        ...


def no_such_object(uri: str) -> ObjectNotFound:
    """Make the error for an object that is missing. The result files of jobs hold this sentence."""
    return ObjectNotFound(f"{uri}: there is no such object")


def no_such_bucket(uri: str) -> BucketNotFound:
    """Make the error for a bucket that is missing. `uri` names the bucket or an object in it."""
    return BucketNotFound(f"{'/'.join(uri.split('/')[:3])}: there is no such bucket")


def key_part_is_object(uri: str) -> ObjectNameConflict:
    """Make the error for a key of which a part names an object, which local buckets store as a file."""
    return ObjectNameConflict(
        f"{uri}: a part of this key is itself an object, and a local bucket cannot hold both; delete that "
        "object or choose another key"
    )
