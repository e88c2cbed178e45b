"""Authorization headers are parsed the same with the cache of earlier headers and without it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonant.errors import WireError
from sonant.gateway.parsed_authorization import parse_authorization, parse_whole_header

SIGNATURE = b"Signature=" + b"5f" * 32
USUAL = (
    b"AWS4-HMAC-SHA256 Credential=AKIA/20261122/us-east-1/voiceid/aws4_request, "
    b"SignedHeaders=host;x-amz-date, "
)

PIECES = st.sampled_from(
    [
        b"AWS4-HMAC-SHA256",
        b"Credential=AKIA/20261122/us-east-1/voiceid/aws4_request",
        b"SignedHeaders=host;x-amz-date",
        SIGNATURE,
        b"Signature=",
        b"XSignature=0",
        b"Credential",
        b"=",
        b",",
        b", ",
        b" ",
        b"0",
        b"",
    ]
)


HEADERS = {b"x-amz-date": b"20261122T093000Z"}


def outcome(authorization):
    headers = {b"authorization": authorization, **HEADERS}
    return result(lambda: parse_authorization(headers, []))


def outcome_without_cache(authorization):
    return result(lambda: parse_whole_header(authorization, HEADERS))


def result(parse):
    try:
        return parse()
    except WireError as error:
        return type(error), error.message


@given(st.lists(PIECES, max_size=9).map(b"".join).map(lambda rest: b"AWS4-" + rest))
def test_any_header_is_parsed_the_same_with_and_without_cache(authorization):
    assert outcome(authorization) == outcome_without_cache(authorization)


@pytest.mark.parametrize(
    "authorization",
    [
        USUAL + SIGNATURE,
        (USUAL + SIGNATURE).replace(b", ", b","),
        (USUAL + SIGNATURE).replace(b", ", b"  ,  "),
        b"AWS4-HMAC-SHA256 " + SIGNATURE + b", Credential=A, SignedHeaders=host",
        USUAL + b"Credential=again, " + SIGNATURE,
        USUAL + b"X" + SIGNATURE,
        USUAL + SIGNATURE + b", ",
        USUAL + b"Signature=",
        USUAL + b"Signature=ab=cd",
        USUAL + SIGNATURE + b", " + SIGNATURE,
        USUAL + b"Long=" + b"x" * 5000 + b", " + SIGNATURE,
    ],
)
def test_odd_headers_are_parsed_the_same_with_and_without_cache(authorization):
    for _ in range(2):
        assert outcome(authorization) == outcome_without_cache(authorization)


def test_a_new_signature_changes_nothing_else_of_the_result():
    first, second = (outcome(USUAL + b"Signature=" + letter * 64) for letter in (b"a", b"b"))
    assert first._replace(signature=b"b" * 64) == second
    assert second.signed_headers == b"host;x-amz-date"
