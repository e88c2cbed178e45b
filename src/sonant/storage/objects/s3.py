"""Objects in any S3: AWS's own, or a server that speaks its protocol.

A recording is read in one request and never beyond the caller's limit; a long object is read as a stream,
which goes on where it broke when the connection does. What is written appears whole or not at all.
"""

from __future__ import annotations

import builtins
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from sonant.errors import InvalidObjectName, ObjectError, ObjectNotFound, ObjectTooLarge, SonantError
from sonant.storage.objects.s3_faults import code_in, faults, no_bucket
from sonant.storage.objects.store import ObjectInfo, ObjectUri

log = logging.getLogger(__name__)

#: Size of the pieces in which a long object is written; S3 takes 10,000 of them, so 80 GiB.
PART_BYTES = 8 * 1024 * 1024
_PIECE_BYTES = 1024 * 1024
_PAUSE_FIRST_S, _PAUSE_MOST_S = 0.2, 5.0


class S3ObjectStore:
    """An `ObjectStore`; see there for the errors. Safe for several threads."""

    def __init__(self, make_client: Callable[[], Any], *, attempts: int) -> None:
        """The client is made when first needed. `attempts`: tries to read on a broken stream in a row."""
        self._make_client, self._attempts = make_client, max(1, attempts)
        self._client: Any = None

    def size(self, uri: ObjectUri) -> int:
        try:
            with faults(uri.shown):
                return int(self._s3().head_object(**_named(uri))["ContentLength"])
        except ObjectNotFound:
            # The answer to a HEAD has no body that would tell which of the two is missing.
            self._require_bucket(uri.bucket)
            raise

    def read(self, uri: ObjectUri, max_bytes: int) -> bytes:
        with self.open(uri) as stream:
            if stream.size > max_bytes:
                raise ObjectTooLarge(f"{uri.shown}: {stream.size} bytes, at most {max_bytes} are read")
            return stream.read()

    def open(self, uri: ObjectUri) -> S3Reader:
        named = _named(uri)

        def get(start: int, etag: str | None) -> Any:
            more = {} if etag is None else {"Range": f"bytes={start}-", "IfMatch": etag}
            return self._s3().get_object(**named, **more)

        return S3Reader(uri.shown, get, self._attempts)

    def write(self, uri: ObjectUri, chunks: Iterable[bytes] | bytes, kms_key: str | None = None) -> None:
        """As in `ObjectStore`; with a key, the server seals (SSE-KMS)."""
        named, sealing = _named(uri), _sealing(kms_key)
        parts = _parts((chunks,) if isinstance(chunks, bytes) else chunks)
        first, second = next(parts, b""), next(parts, None)
        if second is None:
            with faults(uri.shown):
                self._s3().put_object(**named, Body=first, **sealing)
            return
        with self._upload(uri, sealing) as upload_id:
            done = []
            for number, part in enumerate(_chain(first, second, parts), start=1):
                with faults(uri.shown):
                    answer = self._s3().upload_part(**named, UploadId=upload_id, PartNumber=number, Body=part)
                done.append({"ETag": answer["ETag"], "PartNumber": number})
            with faults(uri.shown):
                self._s3().complete_multipart_upload(
                    **named, UploadId=upload_id, MultipartUpload={"Parts": done}
                )

    def check_writable(self, uri: ObjectUri, kms_key: str | None) -> None:
        """Raise what `write` would. An upload is begun and given up: that asks for the very rights on bucket
        and key that writing needs, and leaves no object."""
        with contextlib.suppress(_GivenUp), self._upload(uri, _sealing(kms_key)):
            raise _GivenUp

    def list(self, bucket: str, prefix: str = "") -> Iterator[ObjectInfo]:
        """As in `ObjectStore`. `sealed` is false for all: S3 lists do not tell how objects are sealed."""
        ObjectUri(bucket, "")
        return self._listed(bucket, prefix, self._page(bucket, prefix, None))

    def delete(self, uri: ObjectUri) -> None:
        with faults(uri.shown):
            self._s3().delete_object(**_named(uri))

    def buckets(self) -> builtins.list[str]:
        with faults("the list of buckets"):
            return sorted(str(bucket["Name"]) for bucket in self._s3().list_buckets()["Buckets"])

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _s3(self) -> Any:
        if self._client is None:
            self._client = self._make_client()
        return self._client

    def _require_bucket(self, bucket: str) -> None:
        try:
            with faults(f"s3://{bucket}"):
                self._s3().head_bucket(Bucket=bucket)
        except ObjectNotFound:
            raise no_bucket(f"s3://{bucket}") from None
        except ObjectError:  # may not be asked: then the object is what is missing
            return

    @contextlib.contextmanager
    def _upload(self, uri: ObjectUri, sealing: dict[str, str]) -> Iterator[str]:
        """A multipart upload, given up when the block raises."""
        named = _named(uri)
        with faults(uri.shown):
            upload_id = str(self._s3().create_multipart_upload(**named, **sealing)["UploadId"])
        try:
            yield upload_id
        except BaseException:
            self._abort(uri, upload_id)
            raise

    def _abort(self, uri: ObjectUri, upload_id: str) -> None:
        """Raises nothing: the reason for giving up matters more."""
        from botocore.exceptions import ClientError

        advice = ""
        try:
            with faults(uri.shown):
                try:
                    self._s3().abort_multipart_upload(**_named(uri), UploadId=upload_id)
                except ClientError as refused:
                    if code_in(refused.response) == "AccessDenied":
                        advice = ": whoever writes there lacks s3:AbortMultipartUpload"
                    raise
        except SonantError as fault:
            name = type(fault).__name__
            log.warning("an upload to bucket %s stays unfinished (%s)%s", uri.bucket, name, advice)

    def _page(self, bucket: str, prefix: str, token: str | None) -> dict[str, Any]:
        more = {} if token is None else {"ContinuationToken": token}
        with faults(f"s3://{bucket}"):
            page: dict[str, Any] = self._s3().list_objects_v2(Bucket=bucket, Prefix=prefix, **more)
        return page

    def _listed(self, bucket: str, prefix: str, page: dict[str, Any]) -> Iterator[ObjectInfo]:
        while True:
            for item in page.get("Contents", ()):
                try:
                    uri = ObjectUri(bucket, item["Key"])
                except InvalidObjectName:
                    continue
                yield ObjectInfo(uri=uri, size=item["Size"], modified_at=item["LastModified"], sealed=False)
            if not page.get("IsTruncated"):
                return
            page = self._page(bucket, prefix, page["NextContinuationToken"])


class S3Reader:
    """An `ObjectReader`. When the connection breaks, the rest is asked for, of the same version."""

    __slots__ = ("_at", "_attempts", "_body", "_etag", "_get", "_where", "size")

    def __init__(self, where: str, get: Callable[[int, str | None], Any], attempts: int) -> None:
        self._where, self._get, self._attempts = where, get, attempts
        with faults(where):
            answer = get(0, None)
        self._at = 0
        self._body, self._etag = answer["Body"], answer.get("ETag", "*")
        if "ContentLength" not in answer:
            self.close()
            raise ObjectError(f"{where}: the server does not say how long the object is")
        self.size = int(answer["ContentLength"])

    def read(self, n: int = -1, /) -> bytes:
        """As in `ObjectReader`. Raises ObjectError when the object changes while it is read."""
        wanted = self.size - self._at if n < 0 else min(n, self.size - self._at)
        found = bytearray()
        while len(found) < wanted:
            found += self._some(min(wanted - len(found), _PIECE_BYTES))
        return bytes(found)

    def close(self) -> None:
        self._body.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _some(self, n: int) -> bytes:
        """Between 1 and `n` bytes."""
        from botocore.exceptions import BotoCoreError
        from urllib3.exceptions import HTTPError

        for attempt in range(self._attempts):
            if attempt:
                pause_s = min(_PAUSE_MOST_S, _PAUSE_FIRST_S * 2 ** (attempt - 1))
                time.sleep(random.uniform(0.5, 1.0) * pause_s)  # noqa: S311 - so that many do not come at once
                self._resume()
            try:
                data: bytes = self._body.read(n)
            except (BotoCoreError, HTTPError, OSError):
                continue
            if data:
                self._at += len(data)
                return data
        raise ObjectError(f"{self._where}: the connection broke {self._attempts} times in a row")

    def _resume(self) -> None:
        self._body.close()
        try:
            with faults(self._where):
                answer = self._get(self._at, self._etag)
        except ObjectError as fault:
            raise type(fault)(f"{fault}, after {self._at} of {self.size} bytes") from None
        self._body = answer["Body"]
        begins = f"bytes {self._at}-"
        if not str(answer.get("ContentRange", "")).startswith(begins):
            raise ObjectError(f"{self._where}: the server cannot go on in the middle of an object")


class _GivenUp(Exception):
    """An upload that was only begun to see whether it may be."""


def _named(uri: ObjectUri) -> dict[str, str]:
    if not uri.key:
        raise InvalidObjectName(f"{uri.shown}: names a bucket, an object is needed")
    return {"Bucket": uri.bucket, "Key": uri.key}


def _sealing(kms_key: str | None) -> dict[str, str]:
    return {} if kms_key is None else {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key}


def _parts(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of PART_BYTES, the last one shorter."""
    waiting = bytearray()
    for chunk in chunks:
        waiting += chunk
        while len(waiting) >= PART_BYTES:
            yield bytes(waiting[:PART_BYTES])
            del waiting[:PART_BYTES]
    if waiting:
        yield bytes(waiting)


def _chain(first: bytes, second: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield second
    yield from rest
