"""Error responses of S3 and STS that the servers of other tests do not send."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.stub import Stubber

from sonant.errors import BucketNotFound, KeyDenied, KeyNotFound, KeyUnusable, ObjectDenied, ObjectError
from sonant.storage.aws_clients import ClientConfig, make_client
from sonant.storage.objects.s3_errors import error_of
from sonant.storage.objects.s3_store import S3ObjectStore
from sonant.storage.objects.store import ObjectUri
from sonant.storage.objects.stores.s3 import assume_role

#: What Ceph says of a key that it could not have, or could not use.
MISSED = "Failed to retrieve the actual key, kms-keyid: arn:secret"
UNFIT = "KMS provided an invalid key for the given kms-keyid."


def answer(status: int, code: str = "", message: str = "") -> dict[str, Any]:
    return {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        (answer(403, "InvalidAccessKeyId"), ObjectDenied, "access was denied (InvalidAccessKeyId)"),
        (answer(403, "InvalidAccessKeyId", MISSED), KeyNotFound, "the KMS key does not exist"),
        (answer(404, "NoSuchKey", MISSED), KeyNotFound, "the KMS key does not exist"),
        (answer(403, "AccessDenied", MISSED), KeyDenied, "the KMS key may not be used"),
        (answer(400, "InvalidArgument", MISSED), KeyUnusable, "out of S3's reach"),
        (answer(409, "BucketNotEmpty", MISSED), KeyUnusable, "out of S3's reach"),
        (answer(500, "UnknownError", MISSED), ObjectError, "S3 answered UnknownError"),
        (answer(503, "SlowDown", MISSED), ObjectError, "S3 answered SlowDown"),
        (answer(400, "InvalidArgument", UNFIT), KeyUnusable, "of the wrong kind"),
        (answer(403, "InvalidAccessKeyId", UNFIT), KeyUnusable, "of the wrong kind"),
        (answer(500, "UnknownError", UNFIT), ObjectError, "S3 answered UnknownError"),
        (answer(400, "KMS.NotFoundException"), KeyNotFound, "(KMS.NotFoundException)"),
        (answer(403, "KMS.AccessDeniedException"), KeyDenied, "may not be used"),
        (answer(400, "KMS.SomethingNewException"), KeyUnusable, "(KMS.SomethingNewException)"),
        (answer(404, "NoSuchBucket"), BucketNotFound, "s3://calls: there is no such bucket"),
        (answer(403), ObjectDenied, "access was denied"),
        (answer(500, "Internal<Error>\n"), ObjectError, "S3 answered InternalError"),
        ({}, ObjectError, "S3 answered"),
    ],
)
def test_error_response_becomes_a_storage_error(given, error, told):
    fault = error_of(given, "s3://calls/one.wav")
    assert type(fault) is error
    assert told in str(fault)
    assert "secret" not in str(fault)


def refusing(service: str, operation: str, code: str, status: int) -> Stubber:
    """AWS's own client; the answers are put in by hand."""
    place = ClientConfig(
        region="us-east-1", endpoint="http://127.0.0.1:9", access_key_id="test", secret_access_key="test",
        attempts=1, connect_timeout_s=1, read_timeout_s=1,
    )  # fmt: skip
    stub = Stubber(make_client(service, place))
    if operation == "abort_multipart_upload":
        stub.add_response("create_multipart_upload", {"UploadId": "one"})
    stub.add_client_error(operation, service_error_code=code, http_status_code=status)
    stub.activate()
    return stub


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [
        ("AccessDenied", 403, "(ObjectDenied): the credentials lack s3:AbortMultipartUpload"),
        ("SignatureDoesNotMatch", 403, "(ObjectDenied)"),
        ("ExpiredToken", 400, "(ObjectDenied)"),
        ("InternalError", 500, "(ObjectError)"),
    ],
)
def test_only_a_denied_abort_names_the_missing_right(
    code: str, status: int, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    stub = refusing("s3", "abort_multipart_upload", code, status)
    S3ObjectStore(lambda: stub.client, attempts=1).check_writable(ObjectUri("results", "out.json"), None)
    (record,) = caplog.records
    assert record.getMessage() == f"an upload to bucket results could not be aborted {told}"


@pytest.mark.parametrize(
    ("code", "status", "error", "told"),
    [
        ("Access\x1b[2J\nDenied<\u202e", 403, ObjectDenied, "STS answered Access2JDenied"),
        ("\n", 403, ObjectDenied, "STS answered 403"),
        ("x" * 1000, 503, ObjectError, "STS answered " + "x" * 60),
    ],
)
def test_error_code_of_sts_is_cleaned_for_the_message(
    code: str, status: int, error: type[Exception], told: str
) -> None:
    role = "arn:aws:iam::123456789012:role/calls"
    stub = refusing("sts", "assume_role", code, status)
    fetch = assume_role(
        lambda: stub.client, role, source_arn="", source_account="123456789012", session_s=3600
    )
    with pytest.raises(error) as refused:
        fetch()
    assert str(refused.value) == f"the role {role} cannot be assumed: {told}"
