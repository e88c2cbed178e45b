"""Reading a claim from what is kept of earlier headers gives what reading the whole header gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonant.errors import WireError
from sonant.gateway import parsed_authorization

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


def outcome(authorization):
    headers = {b"authorization": authorization, b"x-amz-date": b"20261122T093000Z"}
    try:
        return parsed_authorization.read_claim(headers, [])
    except WireError as error:
        return type(error), error.message


def outcome_of_the_whole(authorization):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parsed_authorization, "_usual", lambda _head: None)
        return outcome(authorization)


@given(st.lists(PIECES, max_size=9).map(b"".join).map(lambda rest: b"AWS4-" + rest))
def test_any_header_is_read_the_same_either_way(authorization):
    assert outcome(authorization) == outcome_of_the_whole(authorization)


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
def test_so_are_the_odd_ones(authorization):
    for _ in range(2):
        assert outcome(authorization) == outcome_of_the_whole(authorization)


def test_a_header_that_differs_in_its_signature_only_keeps_the_rest():
    first, second = (outcome(USUAL + b"Signature=" + letter * 64) for letter in (b"a", b"b"))
    assert first._replace(signature=b"b" * 64) == second
    assert second.signed_headers == b"host;x-amz-date"
