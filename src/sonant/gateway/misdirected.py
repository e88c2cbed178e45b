"""Calls meant for other AWS services: `AWS_ENDPOINT_URL` sends a program's STS, S3 and KMS here as well.

They are told so in the error form of their own protocol, so that their client shows the words. Which service
a call is for, its signature says; in which protocol, its form.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes
from xml.sax.saxutils import escape

import orjson

from sonant.errors import Misdirected
from sonant.gateway.canonical import Pair
from sonant.gateway.models import SIGNING_NAME

#: The end of a credential scope; SigV4A has none of a Region in it.
_SCOPE = re.compile(rb"/[0-9]{8}/(?:[a-z0-9-]{1,64}/)?([a-z0-9-]{1,64})/aws4_request\b")
#: What calls in the query protocol have, the unsigned ones of STS too.
_ACTION = re.compile(rb"(?:^|&)Action=[A-Za-z]{1,64}(?:&|$)")
_LOOKED_AT_BYTES = 16 * 1024

_JSON, _CBOR, _XML = "application/json", "application/cbor", "text/xml"


def misdirected(headers: Sequence[Pair], query: bytes, body: bytes) -> Misdirected | None:
    """The answer to a call that another service was to get; None for any other call.

    `headers` have names in lower case; of the body its beginning will do.
    """
    given = dict(headers)
    scope = _SCOPE.search(given.get(b"authorization", b"")[:_LOOKED_AT_BYTES]) or _SCOPE.search(
        unquote_to_bytes(query[:_LOOKED_AT_BYTES])
    )
    service = "" if scope is None else scope[1].decode()
    acts = _ACTION.search(query[:_LOOKED_AT_BYTES]) or _ACTION.search(body[:_LOOKED_AT_BYTES])
    if service == SIGNING_NAME or not (service or acts):
        return None
    message = (
        f"This is Sonant, which serves voice-id only, and not {service or 'this service'}. "
        "AWS_ENDPOINT_URL sends the calls of all services here: set AWS_ENDPOINT_URL_VOICE_ID instead."
    )
    if given.get(b"smithy-protocol") == b"rpc-v2-cbor":
        return Misdirected(message, _CBOR, _cbor({"__type": Misdirected.code, "message": message}))
    parts = f"<Code>{Misdirected.code}</Code><Message>{escape(message)}</Message>"
    if service.startswith("s3"):
        return Misdirected(message, _XML, _xml(f"<Error>{parts}</Error>"))
    if service == "ec2":
        return Misdirected(
            message, _XML, _xml(f"<Response><Errors><Error>{parts}</Error></Errors></Response>")
        )
    if acts or service in ("cloudfront", "route53"):
        error = f"<Error><Type>Sender</Type>{parts}</Error>"
        return Misdirected(message, _XML, _xml(f"<ErrorResponse>{error}</ErrorResponse>"))
    told = {"__type": Misdirected.code, "code": Misdirected.code, "message": message}
    return Misdirected(message, _JSON, orjson.dumps(told))


def _xml(document: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{document}'.encode()


def _cbor(members: dict[str, str]) -> bytes:
    """A map of less than 24 texts (RFC 8949)."""
    texts = (text.encode() for pair in members.items() for text in pair)
    return bytes((0xA0 | len(members),)) + b"".join(
        b"\x79" + len(text).to_bytes(2, "big") + text for text in texts
    )
