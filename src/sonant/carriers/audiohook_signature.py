"""Is it Genesys that opens this WebSocket? API key, and HTTP message signature (RFC 9421, HMAC-SHA-256).

Genesys signs the request target, the authority, its own three headers and the API key, with a fresh nonce
(Genesys developer center, "AudioHook security"). An integration without a client secret does not sign.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sonant.sessions.calls import StreamFault

#: What a signature must cover.
REQUIRED = frozenset(
    (
        "@request-target",
        "@authority",
        "audiohook-organization-id",
        "audiohook-session-id",
        "audiohook-correlation-id",
        "x-api-key",
    )
)
#: A signature counts for so long after it was made, and clocks may differ by so much.
MAX_AGE_S, SKEW_S = 10, 5
_NONCE_CHARACTERS = 22
_MAX_HEADER = 4096

_INPUT = re.compile(r'([a-z*][a-z0-9_.*-]*)=(\(((?:"[^"\\]*" ?)*)\)((?:;[a-z]+=(?:\d{1,15}|"[^"\\]*"))*))')
_PARAMETER = re.compile(r';([a-z]+)=(?:(\d+)|"([^"]*)")')


@dataclass(frozen=True, slots=True, kw_only=True)
class HookRequest:
    """The request that opens a WebSocket."""

    target: str
    """Path and query as sent."""
    headers: Mapping[str, str]
    """Names in lower case."""


def check_request(request: HookRequest, *, key: str, secret: str, now: datetime) -> None:
    """Raises StreamFault unless the request has the API key and, if there is a client secret (base64), a
    signature made with it a moment ago."""
    headers = request.headers
    if not hmac.compare_digest(headers.get("x-api-key", "").encode(), key.encode()):
        raise StreamFault("the API key is missing or not the one that was set")
    if not secret:
        return
    label, covered, parameters, signed = _parse_input(headers.get("signature-input", ""))
    _check_parameters(parameters, key, now)
    if missing := REQUIRED - set(covered):
        raise StreamFault(f"the signature does not cover {', '.join(sorted(missing))}")
    lines = [f'"{name}": {_component(request, name)}' for name in covered]
    base = "\n".join([*lines, f'"@signature-params": {signed}'])
    expected = hmac.digest(_decoded(secret), base.encode(), "sha256")
    if not hmac.compare_digest(expected, _signature(headers.get("signature", ""), label)):
        raise StreamFault("the signature is not the one that the client secret gives")


def _parse_input(header: str) -> tuple[str, list[str], dict[str, str], str]:
    found = _INPUT.fullmatch(header) if len(header) <= _MAX_HEADER else None
    if found is None:
        raise StreamFault("the request is not signed, or not with one signature")
    label, signed, names, parameters = found.groups()
    covered = [name.strip('"') for name in names.split()]
    if len(set(covered)) != len(covered):
        raise StreamFault("the signature covers something twice")
    pairs = {name: number or text for name, number, text in _PARAMETER.findall(parameters)}
    return label, covered, pairs, signed


def _check_parameters(parameters: Mapping[str, str], key: str, now: datetime) -> None:
    if parameters.get("keyid") != key or parameters.get("alg", "hmac-sha256") != "hmac-sha256":
        raise StreamFault("the signature names another key or algorithm")
    if len(parameters.get("nonce", "")) < _NONCE_CHARACTERS:
        raise StreamFault("the signature has no nonce, or a short one")
    created, expires = parameters.get("created", ""), parameters.get("expires", "")
    moment = now.timestamp()
    if not created.isdigit() or not -MAX_AGE_S - SKEW_S <= int(created) - moment <= SKEW_S:
        raise StreamFault("the signature is too old, or made in the future")
    if expires.isdigit() and int(expires) + SKEW_S < moment:
        raise StreamFault("the signature has expired")


def _component(request: HookRequest, name: str) -> str:
    if name == "@request-target":
        return request.target
    value = request.headers.get("host" if name == "@authority" else name)
    if value is None or (name.startswith("@") and name != "@authority"):
        raise StreamFault("the signature covers something that the request does not have")
    return value.strip()


def _signature(header: str, label: str) -> bytes:
    begin = f"{label}=:"
    if not header.startswith(begin) or not header.endswith(":") or len(header) > _MAX_HEADER:
        raise StreamFault("the signature header does not fit its input")
    return _decoded(header[len(begin) : -1])


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise StreamFault("a signature or secret is not base64") from None
