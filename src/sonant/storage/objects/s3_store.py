"""Objects in S3: AWS's own, or a server with the same protocol.

A recording is read in one request and never beyond the caller's limit. A long object is read as a stream,
which resumes where the connection broke. A written object appears whole or not at all.
"""

from __future__ import annotations

import builtins
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from sonant.backoff import Backoff
from sonant.errors import InvalidObjectName, ObjectError, ObjectNotFound, ObjectTooLarge, SonantError
from sonant.storage.objects.s3_errors import error_code, s3_errors
from sonant.storage.objects.store import ObjectInfo, ObjectUri, no_such_bucket

log = logging.getLogger(__name__)

#: Size of the parts in which a long object is written; S3 takes 10,000 of them, so 80 GiB.
PART_BYTES = 8 * 1024 * 1024
_PIECE_BYTES = 1024 * 1024
FIRST_PAUSE_S, MAX_PAUSE_S = 0.2, 5.0


class S3ObjectStore:
    """An `ObjectStore` of one client. Safe for several threads."""

    def __init__(self, make_client: Callable[[], Any], *, attempts: int) -> None:
        """The client is made when first needed. `attempts`: reads of a broken stream in a row."""
        self._make_client, self._attempts = make_client, max(1, attempts)
        self._client: Any = None

    def size(self, uri: ObjectUri) -> int:
        try:
            with s3_errors(uri.shown):
                return int(self._s3().head_object(**_params(uri))["ContentLength"])
        except ObjectNotFound:
            # The response to HEAD has no body that says which of the two is missing.
            self._require_bucket(uri.bucket)
            raise

    def read(self, uri: ObjectUri, max_bytes: int) -> bytes:
        with self.open(uri) as stream:
            if stream.size > max_bytes:
                raise ObjectTooLarge(f"{uri.shown}: {stream.size} bytes, at most {max_bytes} are read")
            return stream.read()

    def open(self, uri: ObjectUri) -> S3Reader:
        params = _params(uri)

        def get(start: int, etag: str | None) -> Any:
            more = {} if etag is None else {"Range": f"bytes={start}-", "IfMatch": etag}
            return self._s3().get_object(**params, **more)

        return S3Reader(uri.shown, get, self._attempts)

    def write(self, uri: ObjectUri, chunks: Iterable[bytes] | bytes, kms_key: str | None = None) -> None:
        """As in `ObjectStore`. With a key, the server seals (SSE-KMS)."""
        params, encryption = _params(uri), _encryption(kms_key)
        parts = _parts((chunks,) if isinstance(chunks, bytes) else chunks)
        first, second = next(parts, b""), next(parts, None)
        if second is None:
            with s3_errors(uri.shown):
                self._s3().put_object(**params, Body=first, **encryption)
            return
        with self._upload(uri, encryption) as upload_id:
            done = []
            for number, part in enumerate(_chain(first, second, parts), start=1):
                with s3_errors(uri.shown):
                    answer = self._s3().upload_part(
                        **params, UploadId=upload_id, PartNumber=number, Body=part
                    )
                done.append({"ETag": answer["ETag"], "PartNumber": number})
            with s3_errors(uri.shown):
                self._s3().complete_multipart_upload(
                    **params, UploadId=upload_id, MultipartUpload={"Parts": done}
                )

    def check_writable(self, uri: ObjectUri, kms_key: str | None) -> None:
        """Raise what `write` would raise.

        Starts and aborts an upload: that needs the same rights on bucket and key, and leaves no object.
        """
        with contextlib.suppress(_Aborted), self._upload(uri, _encryption(kms_key)):
            raise _Aborted

    def list(self, bucket: str, prefix: str = "") -> Iterator[ObjectInfo]:
        """As in `ObjectStore`. `sealed` is false for all: S3 lists do not say how objects are sealed."""
        ObjectUri(bucket, "")
        return self._listed(bucket, prefix, self._page(bucket, prefix, None))

    def delete(self, uri: ObjectUri) -> None:
        with s3_errors(uri.shown):
            self._s3().delete_object(**_params(uri))

    def buckets(self) -> builtins.list[str]:
        with s3_errors("the list of buckets"):
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
            with s3_errors(f"s3://{bucket}"):
                self._s3().head_bucket(Bucket=bucket)
        except ObjectNotFound:
            raise no_such_bucket(f"s3://{bucket}") from None
        except ObjectError:  # no right to ask: then the object is what is missing
            return

    @contextlib.contextmanager
    def _upload(self, uri: ObjectUri, encryption: dict[str, str]) -> Iterator[str]:
        """Start a multipart upload, and abort it when the block raises."""
        params = _params(uri)
        with s3_errors(uri.shown):
            upload_id = str(self._s3().create_multipart_upload(**params, **encryption)["UploadId"])
        try:
            yield upload_id
        except BaseException:
            self._abort(uri, upload_id)
            raise

    def _abort(self, uri: ObjectUri, upload_id: str) -> None:
        """Abort an upload. Raises nothing: the error that caused it matters more."""
        from botocore.exceptions import ClientError

        advice = ""
        try:
            with s3_errors(uri.shown):
                try:
                    self._s3().abort_multipart_upload(**_params(uri), UploadId=upload_id)
                except ClientError as refused:
                    if error_code(refused.response) == "AccessDenied":
                        advice = ": the credentials lack s3:AbortMultipartUpload"
                    raise
        except SonantError as fault:
            name = type(fault).__name__
            log.warning("an upload to bucket %s could not be aborted (%s)%s", uri.bucket, name, advice)

    def _page(self, bucket: str, prefix: str, token: str | None) -> dict[str, Any]:
        more = {} if token is None else {"ContinuationToken": token}
        with s3_errors(f"s3://{bucket}"):
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
    """An `ObjectReader`. When the connection breaks, it requests the rest of the same version."""

    __slots__ = ("_at", "_attempts", "_body", "_etag", "_get", "_uri", "size")

    def __init__(self, uri: str, get: Callable[[int, str | None], Any], attempts: int) -> None:
        self._uri, self._get, self._attempts = uri, get, attempts
        with s3_errors(uri):
            answer = get(0, None)
        self._at = 0
        self._body, self._etag = answer["Body"], answer.get("ETag", "*")
        if "ContentLength" not in answer:
            self.close()
            raise ObjectError(f"{uri}: the server does not say how long the object is")
        self.size = int(answer["ContentLength"])

    def read(self, n: int = -1, /) -> bytes:
        """As in `ObjectReader`. Raises ObjectError when the object changes while it is read."""
        wanted = self.size - self._at if n < 0 else min(n, self.size - self._at)
        found = bytearray()
        while len(found) < wanted:
            found += self._read_some(min(wanted - len(found), _PIECE_BYTES))
        return bytes(found)

    def close(self) -> None:
        self._body.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_some(self, n: int) -> bytes:
        """Read between 1 and `n` bytes, over a new connection when one breaks."""
        from botocore.exceptions import BotoCoreError
        from urllib3.exceptions import HTTPError

        pauses = Backoff(FIRST_PAUSE_S, MAX_PAUSE_S)
        for attempt in range(self._attempts):
            if attempt:
                time.sleep(pauses.next_s())
                self._resume()
            try:
                data: bytes = self._body.read(n)
            except (BotoCoreError, HTTPError, OSError):
                continue
            if data:
                self._at += len(data)
                return data
        raise ObjectError(f"{self._uri}: the connection broke {self._attempts} times in a row")

    def _resume(self) -> None:
        self._body.close()
        try:
            with s3_errors(self._uri):
                answer = self._get(self._at, self._etag)
        except ObjectError as fault:
            raise type(fault)(f"{fault}, after {self._at} of {self.size} bytes") from None
        self._body = answer["Body"]
        expected = f"bytes {self._at}-"
        if not str(answer.get("ContentRange", "")).startswith(expected):
            raise ObjectError(f"{self._uri}: the server cannot resume in the middle of an object")


class _Aborted(Exception):
    """Aborts an upload that was started only as a check."""


def _params(uri: ObjectUri) -> dict[str, str]:
    if not uri.key:
        raise InvalidObjectName(f"{uri.shown}: names a bucket, an object is needed")
    return {"Bucket": uri.bucket, "Key": uri.key}


def _encryption(kms_key: str | None) -> dict[str, str]:
    return {} if kms_key is None else {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key}


def _parts(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in pieces of PART_BYTES, the last one shorter."""
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        while len(buffer) >= PART_BYTES:
            yield bytes(buffer[:PART_BYTES])
            del buffer[:PART_BYTES]
    if buffer:
        yield bytes(buffer)


def _chain(first: bytes, second: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield second
    yield from rest
