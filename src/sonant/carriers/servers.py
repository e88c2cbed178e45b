"""Carriers that bring a server of their own, where a port and an adapter are not enough."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

from sonant.carriers.limits import ConnectionLimiter
from sonant.carriers.tcp import TcpCaller
from sonant.gateway.connections import ConnectionTable


class CarrierServer(Protocol):
    """Takes a carrier's calls while the app runs. Its ports are bound when it is made."""

    async def start(self) -> None:
        """Accept calls."""
        ...

    async def stop(self) -> None:
        """End the calls and close the ports."""
        ...

    def close(self) -> None:
        """Close the ports if the server was never started."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerContext:
    """What a server gets from the service."""

    account_id: str
    caller_of: Callable[[str], TcpCaller]
    """Gets the IP address of the other side."""
    limiter: ConnectionLimiter
    threads: Executor
    connections: ConnectionTable


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCarrier:
    """A carrier with a server of its own."""

    make_server: Callable[[ServerContext], CarrierServer]
    """Binds the ports. Raises SetupError."""
