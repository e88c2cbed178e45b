"""Kinds of IP addresses: loopback, link-local, and members of networks."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def parse_address(text: str) -> Address | None:
    """Read an address, None for another text. An IPv4 address written as IPv6 is read as IPv4."""
    try:
        address = ip_address(text.strip().strip("[]").partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def parse_networks(text: str) -> tuple[Network, ...]:
    """Read addresses and networks separated by commas. Raises ValueError, which names the wrong one."""
    found = []
    for part in (one.strip() for one in text.split(",")):
        if not part:
            continue
        try:
            found.append(ip_network(part, strict=False))
        except ValueError:
            raise ValueError(part) from None
    return tuple(found)


def is_loopback(host: str) -> bool:
    """Return whether a host, given by its name or address, is this machine."""
    address = parse_address(host)
    return host.lower().rstrip(".") == "localhost" if address is None else address.is_loopback


def is_link_local(host: str) -> bool:
    """Return whether an address is link-local (169.254.0.0/16, fe80::/10) or a cloud's metadata service."""
    address = parse_address(host)
    return address is not None and (address.is_link_local or str(address) == "fd00:ec2::254")


def is_in(address: Address | None, networks: Sequence[Network]) -> bool:
    """Return whether an address is in one of the networks."""
    return address is not None and any(
        address.version == network.version and address in network for network in networks
    )
