"""The client behind trusted proxies: its address and whether it used TLS, from X-Forwarded-For and -Proto.

Each proxy appends the address that its connection came from, so the list is read from its end, as long as it
names trusted proxies. What stands before the first other address was written by the client. X-Forwarded-Proto
counts with its last value, which the nearest proxy has set.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from sonant.addresses import Address, Network, is_in, parse_address, parse_networks
from sonant.errors import SetupError

_FOR, _PROTO = b"x-forwarded-for", b"x-forwarded-proto"
#: Entries of the list that are read at most; a longer one is not a chain of proxies.
MOST_PROXIES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardedClient:
    """What trusted proxies say about a request."""

    address: str
    secure: bool | None
    """None when they do not say."""


def trusted_networks(text: str) -> tuple[Network, ...]:
    """Read the setting `gateway.trusted_proxies`. Raises SetupError."""
    try:
        found = parse_networks(text)
    except ValueError as fault:
        raise SetupError(
            f"setting gateway.trusted_proxies has {str(fault)[:60]!r}, must be addresses or networks, such "
            "as 10.0.0.7 or 10.0.0.0/8, separated by commas"
        ) from None
    for network in found:
        if network.prefixlen == 0:
            raise SetupError(
                f"setting gateway.trusted_proxies trusts {network}, all addresses: then any client could "
                "write any address; name those of the proxies"
            )
    return found


def forwarded_client(
    peer: str, headers: Iterable[tuple[bytes, bytes]], trusted: Sequence[Network]
) -> ForwardedClient | None:
    """Return what the proxies say about a request of `peer`, None when it is not a trusted proxy."""
    if not is_in(parse_address(peer), trusted):
        return None
    fors, protos = [], []
    for name, value in headers:
        if name == _FOR:
            fors.append(value)
        elif name == _PROTO:
            protos.append(value)
    address = peer
    for entry in reversed(b",".join(fors).decode("latin-1").split(",")[-MOST_PROXIES:]):
        found = _address(entry)
        if found is None:
            break
        address = str(found)
        if not is_in(found, trusted):
            break
    proto = protos[-1].decode("latin-1").rpartition(",")[2].strip().lower() if protos else ""
    return ForwardedClient(address=address, secure=None if not proto else proto in ("https", "wss"))


def _address(entry: str) -> Address | None:
    """Read an entry of X-Forwarded-For, which may have a port."""
    entry = entry.strip()
    if entry.startswith("["):
        entry = entry.partition("]")[0]
    elif entry.count(":") == 1:
        entry = entry.partition(":")[0]
    return parse_address(entry)


def behind_proxies(app: ASGIApp, trusted: Sequence[Network]) -> ASGIApp:
    """Wrap an app so that requests of trusted proxies have the client's address and scheme."""
    if not trusted:
        return app

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            scope = with_client(scope, trusted)
        await app(scope, receive, send)

    return wrapped


def with_client(scope: Scope, trusted: Sequence[Network]) -> Scope:
    """Return the scope of a request with the client's address and scheme, if a trusted proxy passed it on."""
    peer = scope.get("client") or ("", 0)
    found = forwarded_client(peer[0], scope["headers"], trusted)
    if found is None:
        return scope
    scope = {**scope, "client": (found.address, peer[1] if found.address == peer[0] else 0)}
    if found.secure is not None:
        plain, safe = ("http", "https") if scope["type"] == "http" else ("ws", "wss")
        scope["scheme"] = safe if found.secure else plain
    return scope
