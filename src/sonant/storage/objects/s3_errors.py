"""Translates error responses of S3 to the errors of an object store.

The client has already retried requests whose errors may pass.
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
from sonant.storage.objects.store import no_such_bucket, no_such_object

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
_MESSAGES: dict[type[SonantError], str] = {
    ObjectDenied: "access was denied",
    InvalidObjectName: "S3 does not accept this name",
    StorageFull: "the storage is full",
    KeyDenied: "the KMS key may not be used",
    KeyUnusable: "the KMS key is disabled, pending deletion, of the wrong kind or out of S3's reach",
    KeyNotFound: "the KMS key does not exist",
}
#: Ceph has no codes for keys: these messages (RGW's rgw_crypt.cc) come with codes of other errors.
_CEPH_KEY_MISSING = "Failed to retrieve the actual key, kms-keyid"
_CEPH_KEY_INVALID = "invalid key for the given kms-keyid"


@contextmanager
def s3_errors(uri: str) -> Iterator[None]:
    """Raise the errors of an object store for what botocore raises inside. `uri` is that for messages."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as fault:
        raise error_of(fault.response, uri) from None
    except ParamValidationError:
        raise InvalidObjectName(f"{uri}: S3 does not accept this name") from None
    except NoCredentialsError:
        raise ObjectDenied(f"{uri}: the service has no credentials for S3") from None
    except (BotoCoreError, ResponseParserError) as fault:
        raise ObjectError(f"{uri}: S3 cannot be used ({type(fault).__name__})") from None


def error_of(response: dict[str, Any], uri: str) -> SonantError:
    """Return the error for an error response. Responses to HEAD have no code: their status decides."""
    code = error_code(response)
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    kind = _ERRORS.get(code)
    if (key_error := _ceph_key_error(response, code, status)) is not None:
        kind, code = key_error, ""  # the code is about an access key or an object
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
            return ObjectError(f"{uri}: S3 answered {code or status}")
    if kind is BucketNotFound:
        return no_such_bucket(uri)
    if kind is ObjectNotFound:
        return no_such_object(uri)
    suffix = f" ({code})" if code and not code.isdigit() else ""
    return kind(f"{uri}: {_MESSAGES[kind]}{suffix}")


def error_code(response: dict[str, Any]) -> str:
    """Return the code of an error response, cut and cleaned for a message; empty when there is none."""
    code = str(response.get("Error", {}).get("Code", ""))[:60]
    return "".join(letter for letter in code if letter.isascii() and (letter.isalnum() or letter in "._-"))


def _ceph_key_error(response: dict[str, Any], code: str, status: int) -> type[SonantError] | None:
    """Return the error when a key is at fault, else None; from 500 on the key service itself is at fault."""
    message = str(response.get("Error", {}).get("Message", ""))
    if status >= 500:
        return None
    if message.startswith(_CEPH_KEY_MISSING):
        if code == "AccessDenied":
            return KeyDenied
        return KeyNotFound if code == "InvalidAccessKeyId" or status == 404 else KeyUnusable
    return KeyUnusable if _CEPH_KEY_INVALID in message else None
