"""What S3 answers, as the errors of an object store.

Faults of one request that a retry could mend have been retried by the client before they come here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sonant.errors import (
    BucketNotFound,
    InvalidObjectName,
    KeyDenied,
    KeyNotFound,
    KeyUnusable,
    ObjectDenied,
    ObjectError,
    ObjectNotFound,
    SonantError,
    StorageFull,
)

#: Codes of S3's error responses (S3 API reference); KMS's own come with the prefix `KMS.`.
_ERRORS: dict[str, type[SonantError]] = {
    "NoSuchBucket": BucketNotFound,
    "NoSuchKey": ObjectNotFound,
    "NoSuchVersion": ObjectNotFound,
    "AccessDenied": ObjectDenied,
    "AllAccessDisabled": ObjectDenied,
    "AccountProblem": ObjectDenied,
    "ExpiredToken": ObjectDenied,
    "InvalidAccessKeyId": ObjectDenied,
    "InvalidObjectState": ObjectDenied,
    "InvalidToken": ObjectDenied,
    "SignatureDoesNotMatch": ObjectDenied,
    "InvalidBucketName": InvalidObjectName,
    "InvalidURI": InvalidObjectName,
    "KeyTooLongError": InvalidObjectName,
    "QuotaExceeded": StorageFull,
    "XMinioStorageFull": StorageFull,
    "KMS.AccessDeniedException": KeyDenied,
    "KMS.DisabledException": KeyUnusable,
    "KMS.InvalidKeyUsageException": KeyUnusable,
    "KMS.InvalidStateException": KeyUnusable,
    "KMS.KeyUnavailableException": KeyUnusable,
    "KMS.KMSInvalidStateException": KeyUnusable,
    "KMS.NotFoundException": KeyNotFound,
}
_WORDS: dict[type[SonantError], str] = {
    ObjectDenied: "access was denied",
    InvalidObjectName: "S3 does not accept this name",
    StorageFull: "the storage is full",
    KeyDenied: "the KMS key may not be used",
    KeyUnusable: "the KMS key is disabled, pending deletion, of the wrong kind or out of S3's reach",
    KeyNotFound: "the KMS key does not exist",
}
#: Ceph has no codes for keys: these messages (RGW's rgw_crypt.cc) go with the code of whatever went wrong.
_CEPH_KEY_MISSED = "Failed to retrieve the actual key, kms-keyid"
_CEPH_KEY_UNFIT = "invalid key for the given kms-keyid"


@contextmanager
def faults(where: str) -> Iterator[None]:
    """Translate what botocore raises inside; `where` is the URI for people to read."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as fault:
        raise error_of(fault.response, where) from None
    except ParamValidationError:
        raise InvalidObjectName(f"{where}: S3 does not accept this name") from None
    except NoCredentialsError:
        raise ObjectDenied(f"{where}: the service has no credentials for S3") from None
    except (BotoCoreError, ResponseParserError) as fault:
        raise ObjectError(f"{where}: S3 cannot be used ({type(fault).__name__})") from None


def error_of(response: dict[str, Any], where: str) -> SonantError:
    """The error for an error response. A HEAD has no code of its own, so its status must do."""
    code = code_in(response)
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    kind = _ERRORS.get(code)
    if (of_key := _key_fault_of_ceph(response, code, status)) is not None:
        kind, code = of_key, ""  # the code would tell of an access key or an object
    if kind is None:
        if code.startswith("KMS."):
            kind = KeyUnusable
        elif status in (401, 403):
            kind = ObjectDenied
        elif status == 404:
            kind = ObjectNotFound
        elif status == 507:
            kind = StorageFull
        else:
            return ObjectError(f"{where}: S3 answered {code or status}")
    # What is missing is told as of local buckets: result files do not depend on where objects are.
    if kind is BucketNotFound:
        return no_bucket(where)
    if kind is ObjectNotFound:
        return ObjectNotFound(f"{where}: there is no such object")
    told = f" ({code})" if code and not code.isdigit() else ""
    return kind(f"{where}: {_WORDS[kind]}{told}")


def no_bucket(where: str) -> BucketNotFound:
    """`where` is the URI of the bucket or of an object in it."""
    return BucketNotFound(f"{'/'.join(where.split('/')[:3])}: there is no such bucket")


def code_in(response: dict[str, Any]) -> str:
    """The code of an error response, as much of it as may stand in a message; empty when it has none."""
    code = str(response.get("Error", {}).get("Code", ""))[:60]
    return "".join(letter for letter in code if letter.isascii() and (letter.isalnum() or letter in "._-"))


def _key_fault_of_ceph(response: dict[str, Any], code: str, status: int) -> type[SonantError] | None:
    """None when it is no fault of a key, or (from 500 on) one of the key service alone."""
    message = str(response.get("Error", {}).get("Message", ""))
    if status >= 500:
        return None
    if message.startswith(_CEPH_KEY_MISSED):
        if code == "AccessDenied":
            return KeyDenied
        return KeyNotFound if code == "InvalidAccessKeyId" or status == 404 else KeyUnusable
    return KeyUnusable if _CEPH_KEY_UNFIT in message else None
