"""Signed calls about one domain, for commands: its id, found when there is only one, and pages of lists."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import click

from sonant.cli.service_client import client, service_errors
from sonant.errors import SetupError
from sonant.settings import Settings

domain_option = click.option(
    "--domain", "domain_id", metavar="ID", help="The domain [default: the only one]."
)


class DomainClient:
    """Clients of the service for one domain."""

    def __init__(self, settings: Settings, domain_id: str | None = None) -> None:
        self.settings = settings
        self._domain_id = domain_id

    @cached_property
    def own(self) -> Any:
        """A client of Sonant's own operations."""
        return client(self.settings, "sonant")

    @cached_property
    def voice_id(self) -> Any:
        """A client of the Voice ID API."""
        return client(self.settings)

    @cached_property
    def domain_id(self) -> str:
        """The named domain, else the only one. Raises SetupError when there are several or none."""
        if self._domain_id is not None:
            return self._domain_id
        with service_errors():
            active = [
                str(domain["DomainId"])
                for domain in self.pages("list_domains", "DomainSummaries")
                if domain["DomainStatus"] == "ACTIVE"
            ]
        if len(active) != 1:
            raise SetupError(f"there are {len(active)} domains: choose one with --domain")
        return active[0]

    def pages(self, operation: str, member: str, **members: Any) -> Iterator[dict[str, Any]]:
        """Yield the items of all pages of a list of the Voice ID API, or else of Sonant's own."""
        service = self.voice_id if hasattr(self.voice_id, operation) else self.own
        for page in service.get_paginator(operation).paginate(**members):
            yield from page[member]
