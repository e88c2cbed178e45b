"""Errors for requests that are meant for other AWS services.

`AWS_ENDPOINT_URL` directs all services of a program to one endpoint: STS, S3 and KMS too. The error has the
form of the other service's protocol, so that its client shows the message. The signature names the service,
the form of the request tells the protocol.
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

#: The end of a credential scope; in SigV4A it has no Region.
_SCOPE = re.compile(rb"/[0-9]{8}/(?:[a-z0-9-]{1,64}/)?([a-z0-9-]{1,64})/aws4_request\b")
#: The parameter of every request in the query protocol, also of unsigned STS requests.
_ACTION = re.compile(rb"(?:^|&)Action=[A-Za-z]{1,64}(?:&|$)")
_MAX_SEARCHED_BYTES = 16 * 1024

_JSON, _CBOR, _XML = "application/json", "application/cbor", "text/xml"


def misdirected(headers: Sequence[Pair], query: bytes, body: bytes) -> Misdirected | None:
    """Return the error for a request that is meant for another service; None for any other request.

    `headers` have names in lower case; of `body` the beginning is enough.
    """
    by_name = dict(headers)
    scope = _SCOPE.search(by_name.get(b"authorization", b"")[:_MAX_SEARCHED_BYTES]) or _SCOPE.search(
        unquote_to_bytes(query[:_MAX_SEARCHED_BYTES])
    )
    service = "" if scope is None else scope[1].decode()
    has_action = _ACTION.search(query[:_MAX_SEARCHED_BYTES]) or _ACTION.search(body[:_MAX_SEARCHED_BYTES])
    if service == SIGNING_NAME or not (service or has_action):
        return None
    message = (
        f"This is Sonant, which serves voice-id only, and not {service or 'this service'}. "
        "AWS_ENDPOINT_URL sends the calls of all services here: set AWS_ENDPOINT_URL_VOICE_ID instead."
    )
    if by_name.get(b"smithy-protocol") == b"rpc-v2-cbor":
        return Misdirected(message, _CBOR, _cbor({"__type": Misdirected.code, "message": message}))
    parts = f"<Code>{Misdirected.code}</Code><Message>{escape(message)}</Message>"
    if service.startswith("s3"):
        return Misdirected(message, _XML, _xml(f"<Error>{parts}</Error>"))
    if service == "ec2":
        return Misdirected(
            message, _XML, _xml(f"<Response><Errors><Error>{parts}</Error></Errors></Response>")
        )
    if has_action or service in ("cloudfront", "route53"):
        error = f"<Error><Type>Sender</Type>{parts}</Error>"
        return Misdirected(message, _XML, _xml(f"<ErrorResponse>{error}</ErrorResponse>"))
    document = {"__type": Misdirected.code, "code": Misdirected.code, "message": message}
    return Misdirected(message, _JSON, orjson.dumps(document))


def _xml(document: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{document}'.encode()


def _cbor(members: dict[str, str]) -> bytes:
    """Encode a map of fewer than 24 texts (RFC 8949)."""
    texts = (text.encode() for pair in members.items() for text in pair)
    return bytes((0xA0 | len(members),)) + b"".join(
        b"\x79" + len(text).to_bytes(2, "big") + text for text in texts
    )
