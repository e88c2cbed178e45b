"""The client behind trusted proxies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sonant.errors import SetupError
from sonant.gateway.forwarded import behind_proxies, forwarded_client, trusted_networks

TRUSTED = trusted_networks("10.0.0.0/8, 2001:db8::/32,127.0.0.1")


def of(peer: str, forwarded: str | None, proto: str | None = None) -> tuple[str, bool | None] | None:
    headers = []
    if forwarded is not None:
        headers.append((b"x-forwarded-for", forwarded.encode()))
    if proto is not None:
        headers.append((b"x-forwarded-proto", proto.encode()))
    found = forwarded_client(peer, headers, TRUSTED)
    return None if found is None else (found.address, found.secure)


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        # one proxy, which appended the client's address
        ("10.0.0.1", "192.0.2.7", "192.0.2.7"),
        # two proxies
        ("10.0.0.1", "192.0.2.7, 10.0.0.2", "192.0.2.7"),
        # the client wrote an address of its own, and the proxy appended the real one
        ("10.0.0.1", "198.51.100.1, 192.0.2.7", "192.0.2.7"),
        # the client wrote one that looks like a proxy
        ("10.0.0.1", "10.9.9.9, 192.0.2.7", "192.0.2.7"),
        # only proxies: the first of them is the client, such as a health check
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        # no list, and lists that end in no address
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "192.0.2.7, _hidden, 10.0.0.2", "10.0.0.2"),
        # with ports, IPv6, and IPv4 written as IPv6
        ("10.0.0.1", "192.0.2.7:4711", "192.0.2.7"),
        ("2001:db8::1", "[2001:4860::8]:443", "2001:4860::8"),
        ("::ffff:10.0.0.1", "192.0.2.7", "192.0.2.7"),
        ("127.0.0.1", "192.0.2.7", "192.0.2.7"),
    ],
)
def test_address_is_the_last_that_no_trusted_proxy_has(
    peer: str, forwarded: str | None, address: str
) -> None:
    assert of(peer, forwarded) == (address, None)


@pytest.mark.parametrize("peer", ["192.0.2.1", "11.0.0.1", "", "unix", "127.0.0.2"])
def test_stranger_is_not_believed(peer: str) -> None:
    assert of(peer, "198.51.100.1", "https") is None


@pytest.mark.parametrize(
    ("proto", "secure"),
    [
        ("https", True),
        ("HTTPS", True),
        ("wss", True),
        ("http", False),
        ("https, http", False),
        ("http, https", True),
        ("", None),
    ],
)
def test_proto_is_that_of_the_nearest_proxy(proto: str, secure: bool | None) -> None:
    assert of("10.0.0.1", "192.0.2.7", proto) == ("192.0.2.7", secure)


def test_repeated_headers_are_one_list() -> None:
    headers = [(b"x-forwarded-for", b"198.51.100.1"), (b"x-forwarded-for", b"192.0.2.7")]
    found = forwarded_client("10.0.0.1", headers, TRUSTED)
    assert found is not None
    assert found.address == "192.0.2.7"


def test_long_list_is_read_from_its_end() -> None:
    assert of("10.0.0.1", "10.0.0.2," * 5000 + "192.0.2.7") == ("192.0.2.7", None)


@pytest.mark.parametrize(("kind", "scheme"), [("http", "https"), ("websocket", "wss")])
def test_request_of_a_proxy_has_the_clients_address_and_scheme(kind: str, scheme: str) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["client"][0], scope["scheme"]))

    async def nothing(*_: Any) -> Any:
        return None

    async def served(scope: Any) -> None:
        await behind_proxies(app, TRUSTED)(scope, nothing, nothing)

    headers = [(b"x-forwarded-for", b"192.0.2.7"), (b"x-forwarded-proto", b"https")]
    plain = {"http": "http", "websocket": "ws"}[kind]
    for peer in ("10.0.0.1", "192.0.2.1"):
        scope = {"type": kind, "client": (peer, 1), "scheme": plain, "headers": headers}
        asyncio.run(served(scope))
        assert scope["client"][0] == peer, "the server's own scope stays as it is"
    assert seen == [("192.0.2.7", scheme), ("192.0.2.1", plain)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10.0.0.0/8, proxy", "'proxy'"),
        ("0.0.0.0/0", "all addresses"),
        ("::/0", "all addresses"),
        ("*", "'\\*'"),
    ],
)
def test_setting_that_trusts_everybody_or_names_no_network_is_refused(text: str, message: str) -> None:
    with pytest.raises(SetupError, match=message):
        trusted_networks(text)
