"""Clients of AWS services, or of servers that speak their protocols.

botocore is imported when the first client is made: a service that needs none does not pay for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from sonant.errors import SetupError

#: Requests that one client may have open at once.
_CONNECTIONS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Where a service is and how it is spoken to."""

    region: str
    endpoint: str = ""
    """URL; empty means AWS's own."""
    ca_bundle: str = ""
    """File of certificates that the endpoint's must lead to; empty means those of the system."""
    access_key_id: str = ""
    """Empty means what the environment, the profile or the machine's role gives."""
    secret_access_key: str = field(default="", repr=False)
    path_style: bool = False
    attempts: int = 5
    """Tries of one request. Pauses between them grow and are random, and a client whose requests keep
    failing runs out of retries until some succeed (botocore's `standard` mode and its retry quota)."""
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Temporary:
    """Credentials that end."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires_at: datetime


def make_client(service: str, place: ClientConfig, *, fresh: Callable[[], Temporary] | None = None) -> Any:
    """A client, safe for several threads; it connects when it is used.

    `fresh` gives temporary credentials; it is called at the first request and again 15 minutes before they
    end, and what it raises comes out of the request.
    Raises SetupError for an endpoint that is no URL or a certificate file that is not there.
    """
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    session = botocore.session.Session()
    session.register_component("data_loader", _loader())
    if fresh is not None:
        session.register_component("credential_provider", _resolver(fresh))
    keys: dict[str, Any] = {}
    if fresh is None and place.access_key_id:
        keys = {
            "aws_access_key_id": place.access_key_id,
            "aws_secret_access_key": place.secret_access_key,
        }
    config = Config(
        connect_timeout=place.connect_timeout_s,
        read_timeout=place.read_timeout_s,
        max_pool_connections=_CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": max(1, place.attempts)},
        s3={"addressing_style": "path" if place.path_style else "auto"},
        # Servers other than AWS's give and check these sums in their own ways, or not at all.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        user_agent_extra="sonant",
    )
    try:
        return session.create_client(
            service,
            region_name=place.region,
            endpoint_url=place.endpoint or None,
            verify=place.ca_bundle or None,
            config=config,
            **keys,
        )
    except (BotoCoreError, ValueError, OSError) as fault:
        raise SetupError(f"no client for {service} can be made: {fault}") from None


@cache
def _loader() -> Any:
    """Reads the services' models, each once a process: that is most of what a client costs."""
    from botocore.loaders import create_loader

    return create_loader()


def _resolver(fresh: Callable[[], Temporary]) -> Any:
    from botocore.credentials import CredentialProvider, CredentialResolver, DeferredRefreshableCredentials

    def metadata() -> Mapping[str, str]:
        found = fresh()
        return {
            "access_key": found.access_key_id,
            "secret_key": found.secret_access_key,
            "token": found.session_token,
            "expiry_time": found.expires_at.isoformat(),
        }

    class Given(CredentialProvider):  # type: ignore[misc]
        METHOD = "sonant-role"

        def load(self) -> Any:
            return DeferredRefreshableCredentials(metadata, self.METHOD)

    return CredentialResolver([Given()])
