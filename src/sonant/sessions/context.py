"""The parts of the service that live calls are processed with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection

from sonant.errors import KeyError_, SonantError
from sonant.events.outbox import Outbox
from sonant.jobs.calibration_cache import CalibrationOf
from sonant.retention.rules import session_stored_for
from sonant.sessions.risks import FraudIndexes
from sonant.settings import Settings
from sonant.storage.crypto.vault import Vault
from sonant.storage.database.engine import Database
from sonant.storage.keys.store import KeysOf
from sonant.storage.opening import vault_of
from sonant.storage.repositories import domains
from sonant.storage.repositories.domains import Domain
from sonant.voice.calibration.file import calibration_of

#: A stream whose process has sent no heartbeat for so long counts as ended.
LEASE = timedelta(seconds=10)


class DomainUnavailable(SonantError):
    """The domain was suspended or erased, or its key can no longer be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamContext:
    """What live calls need of the service, and the name under which this process owns streams."""

    owner: str
    settings: Settings
    database: Database
    keys_of: KeysOf
    clock: Callable[[], datetime]
    fraud_indexes: FraudIndexes
    outbox: Outbox = field(default_factory=Outbox)
    calibration_of: CalibrationOf = calibration_of
    """Returns the calibration that comes with a voice model."""

    @property
    def session_retention(self) -> timedelta:
        """How long a session is kept after its last stream."""
        return session_stored_for(self.settings)

    def domain(self, connection: Connection, domain_id: str) -> tuple[Domain, Vault]:
        """Find a domain that is still active, and open its vault. Raises DomainUnavailable."""
        domain = domains.find_by_id(connection, domain_id)
        if domain is None or not domain.active:
            raise DomainUnavailable("the domain is suspended")
        return domain, self.vault(domain)

    def vault(self, domain: Domain) -> Vault:
        """Open a domain's vault. Raises DomainUnavailable."""
        try:
            return vault_of(self.keys_of, domain)
        except KeyError_ as fault:
            raise DomainUnavailable("the domain's key cannot be used") from fault
