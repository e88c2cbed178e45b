"""What live calls are worked on with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import Connection

from sonant.errors import KeyError_, SonantError
from sonant.events.outbox import Outbox
from sonant.jobs.calibration_cache import CalibrationOf
from sonant.jobs.fraud import Risk
from sonant.settings import Settings
from sonant.storage.crypto.vault import Vault, open_vault
from sonant.storage.database.engine import Database
from sonant.storage.keys.store import KeysOf
from sonant.storage.repositories import domains
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.session_hearings import SessionSample
from sonant.voice.calibration.file import calibration_of
from sonant.voice.calibration.model import Calibration

#: A stream whose process has not said for so long that it listens counts as ended.
LEASE = timedelta(seconds=10)


class DomainGone(SonantError):
    """The domain was suspended or erased, or its key can no longer be used."""


class Risks(Protocol):
    """What a voice is suspected of; called by several threads."""

    def __call__(
        self,
        connection: Connection,
        domain: Domain,
        vault: Vault,
        *,
        watchlist_id: str | None,
        hearing: SessionSample,
        scale: Calibration,
        began: datetime | None = None,
    ) -> tuple[Risk, ...]:
        """`began` is the call's beginning. Raises ResourceNotFound WATCHLIST, JobFault."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamContext:
    """The parts of the service that live calls need, and the name under which this process owns streams."""

    owner: str
    settings: Settings
    database: Database
    keys_of: KeysOf
    clock: Callable[[], datetime]
    risks: Risks
    outbox: Outbox = field(default_factory=Outbox)
    calibration_of: CalibrationOf = calibration_of

    @property
    def keep(self) -> timedelta:
        """How long a session is kept after its last stream."""
        return timedelta(hours=self.settings.live.keep_h)

    def domain(self, connection: Connection, domain_id: str) -> tuple[Domain, Vault]:
        """The domain, still active, and its vault. Raises DomainGone."""
        domain = domains.find_by_id(connection, domain_id)
        if domain is None or not domain.active:
            raise DomainGone("the domain is suspended")
        return domain, self.vault(domain)

    def vault(self, domain: Domain) -> Vault:
        """Raises DomainGone."""
        try:
            keys = self.keys_of(domain.account_id, domain.region)
            return open_vault(keys, domain.domain_id, domain.arn, domain.data_key_wrapped)
        except KeyError_ as fault:
            raise DomainGone("the domain's key cannot be used") from fault
