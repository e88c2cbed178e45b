"""Clients of AWS services and of servers with the same protocols.

botocore is imported when the first client is made: a service that needs none does not load it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from sonant.errors import SetupError
from sonant.settings import S3, Kms

#: Requests that one client may have open at once.
_CONNECTIONS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Address, credentials and time limits of a client."""

    region: str
    endpoint: str = ""
    """URL; empty for AWS's own."""
    ca_bundle: str = ""
    """File of trusted certificates; empty for those of the system."""
    access_key_id: str = ""
    """Empty for the credentials of the environment, the profile or the machine's role."""
    secret_access_key: str = field(default="", repr=False)
    path_style: bool = False
    attempts: int = 5
    """Attempts of one request, with growing random pauses. A client whose requests keep failing runs out of
    retries until some succeed (botocore's `standard` mode and its retry quota)."""
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleCredentials:
    """Temporary credentials of a role."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires_at: datetime


def check_credentials(group: str, settings: S3 | Kms) -> None:
    """Raise SetupError for an access key without its secret, or the reverse, in a group of settings."""
    if bool(settings.access_key_id) != bool(settings.secret_access_key):
        raise SetupError(f"set both {group}.access_key_id and {group}.secret_access_key, or neither")


def make_client(
    service: str, client: ClientConfig, *, credentials: Callable[[], RoleCredentials] | None = None
) -> Any:
    """Make a client, safe for several threads. It connects when it is used.

    `credentials` fetches credentials of a role. It is called at the first request and again 15 minutes before
    they expire; requests raise its exceptions.
    Raises SetupError for an endpoint that is no URL or a certificate file that does not exist.
    """
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    session = botocore.session.Session()
    session.register_component("data_loader", _loader())
    if credentials is not None:
        session.register_component("credential_provider", _resolver(credentials))
    keys: dict[str, Any] = {}
    if credentials is None and client.access_key_id:
        keys = {
            "aws_access_key_id": client.access_key_id,
            "aws_secret_access_key": client.secret_access_key,
        }
    config = Config(
        connect_timeout=client.connect_timeout_s,
        read_timeout=client.read_timeout_s,
        max_pool_connections=_CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": max(1, client.attempts)},
        s3={"addressing_style": "path" if client.path_style else "auto"},
        # Servers other than AWS's return and check these checksums in their own ways, or not at all.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        user_agent_extra="sonant",
    )
    try:
        return session.create_client(
            service,
            region_name=client.region,
            endpoint_url=client.endpoint or None,
            verify=client.ca_bundle or None,
            config=config,
            **keys,
        )
    except (BotoCoreError, ValueError, OSError) as fault:
        raise SetupError(f"the client for {service} cannot be made: {fault}") from None


@cache
def _loader() -> Any:
    """Make the loader of service models, which reads each once a process: most of what a client costs."""
    from botocore.loaders import create_loader

    return create_loader()


def _resolver(credentials: Callable[[], RoleCredentials]) -> Any:
    from botocore.credentials import CredentialProvider, CredentialResolver, DeferredRefreshableCredentials

    def metadata() -> Mapping[str, str]:
        found = credentials()
        return {
            "access_key": found.access_key_id,
            "secret_key": found.secret_access_key,
            "token": found.session_token,
            "expiry_time": found.expires_at.isoformat(),
        }

    class RoleProvider(CredentialProvider):  # type: ignore[misc]
        METHOD = "sonant-role"

        def load(self) -> Any:
            return DeferredRefreshableCredentials(metadata, self.METHOD)

    return CredentialResolver([RoleProvider()])
