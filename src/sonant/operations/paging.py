"""Page through listings: page tokens are sealed, bound to the call that gave them, valid for 24 hours."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from sonant.errors import SealBroken, Validation
from sonant.operations.service import Request, Service
from sonant.storage.repositories.callers import TOKEN_LIFETIME
from sonant.storage.times import to_us

T = TypeVar("T")

DEFAULT_PAGE = 100


def paged(
    service: Service,
    request: Request,
    scope: Sequence[str],
    fetch: Callable[[tuple[int, str] | None, int], list[T]],
    position: Callable[[T], tuple[datetime, str]],
    default: int = DEFAULT_PAGE,
) -> tuple[list[T], str | None]:
    """Read one page of a listing, and make the token of the next one if there is more.

    `scope` names operation, account, domain and filters; a token opens only under the same. `fetch` gets a
    position (microseconds, id) or None and a limit. Raises Validation for a token that is invalid, expired
    or of another call.
    """
    limit: int = request.get("MaxResults", default)
    bound = "\x00".join(scope)
    token = request.get("NextToken") or None
    after = None if token is None else _read(service, bound, token)
    items = fetch(after, limit + 1)
    if len(items) <= limit:
        return items, None
    created_at, identifier = position(items[limit - 1])
    text = json.dumps([to_us(created_at), identifier, to_us(service.clock())])
    sealed = service.secret.seal_page(bound, text.encode())
    return items[:limit], base64.urlsafe_b64encode(sealed).decode()


def _read(service: Service, bound: str, token: str) -> tuple[int, str]:
    try:
        sealed = base64.b64decode(token, altchars=b"-_", validate=True)
        created_at, identifier, issued_at = json.loads(service.secret.open_page(bound, sealed))
    except (SealBroken, binascii.Error, ValueError):
        raise Validation(
            "NextToken is not one that this call gave; call again with the same arguments or without it"
        ) from None
    if issued_at <= to_us(service.clock() - TOKEN_LIFETIME):
        raise Validation("NextToken has expired; start the listing again without it")
    return created_at, identifier
