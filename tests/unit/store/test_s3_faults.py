"""Answers of S3 servers that the servers of the other tests do not give."""

from __future__ import annotations

import pytest

from sonant.errors import BucketNotFound, KeyDenied, KeyNotFound, KeyUnusable, ObjectDenied, ObjectError
from sonant.store.s3_faults import error_of


def answer(status: int, code: str = "", message: str = "") -> dict:
    return {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        (answer(403, "InvalidAccessKeyId"), ObjectDenied, "access was denied (InvalidAccessKeyId)"),
        (
            answer(403, "InvalidAccessKeyId", "Failed to retrieve the actual key, kms-keyid: arn:secret"),
            KeyNotFound,
            "the KMS key does not exist",
        ),
        (answer(400, "KMS.NotFoundException"), KeyNotFound, "(KMS.NotFoundException)"),
        (answer(403, "KMS.AccessDeniedException"), KeyDenied, "may not be used"),
        (answer(400, "KMS.SomethingNewException"), KeyUnusable, "(KMS.SomethingNewException)"),
        (answer(404, "NoSuchBucket"), BucketNotFound, "s3://calls: there is no such bucket"),
        (answer(403), ObjectDenied, "access was denied"),
        (answer(500, "Internal<Error>\n"), ObjectError, "S3 answered InternalError"),
        ({}, ObjectError, "S3 answered"),
    ],
)
def test_an_answer_becomes_an_error_of_ours(given, error, told):
    fault = error_of(given, "s3://calls/one.wav")
    assert type(fault) is error
    assert told in str(fault)
    assert "secret" not in str(fault)
