"""Real operations on a real store, with a clock that is moved by hand; no HTTP, no worker processes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlite_template import put_tables
from strict_operations import judged

from sonant.assembly import installation, workers
from sonant.iam import ALLOW_ALL
from sonant.operations import OPERATIONS
from sonant.operations.service import Caller, Service
from sonant.settings import Quotas, Settings
from sonant.storage.repositories import access

START = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
ACCOUNT, OTHER_ACCOUNT = "0" * 12, "1" * 12
REGION = "us-east-1"


@dataclass(slots=True)
class MovedClock:
    """Stands still unless moved."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass(slots=True)
class Operations:
    """One data folder, and calls on it as an account's user."""

    settings: Settings
    clock: MovedClock
    store: installation.Store = field(init=False)
    service: Service = field(init=False)

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        """As a service does when it starts; again for a restart."""
        self.store = installation.open_store(self.settings, create=True, clock=self.clock)
        installation.first_start(self.store)
        self.service = Service(
            settings=self.settings,
            database=self.store.database,
            keys_of=self.store.accounts.keys,
            secret=self.store.secret,
            listener=workers.LocalListener(self.store),
            clock=self.clock,
            ledger=self.store.ledger,
        )

    def close(self) -> None:
        self.store.database.close()

    def restart(self) -> None:
        self.close()
        self.open()

    def call(
        self, operation: str, *, account: str = ACCOUNT, region: str = REGION, **request: Any
    ) -> dict[str, Any]:
        arn = f"arn:aws:iam::{account}:user/sonant"
        with self.store.database.write() as connection:
            principal = access.find_principal(connection, arn)
            if principal is None:
                access.put_principal(connection, arn, account, [ALLOW_ALL], self.clock())
                principal = access.find_principal(connection, arn)
        assert principal is not None
        caller = Caller(principal=principal, region=region)
        return judged(operation, OPERATIONS[operation](self.service, caller, request))

    def new_domain(self, *, account: str = ACCOUNT, **more: Any) -> str:
        keys = self.store.accounts.keys(account)
        if not any("alias/sonant" in key.aliases for key in keys.list()):
            keys.create(alias="alias/sonant")
        more = {
            "Name": "tests",
            "ServerSideEncryptionConfiguration": {"KmsKeyId": "alias/sonant"},
            **more,
        }
        return str(self.call("CreateDomain", account=account, **more)["Domain"]["DomainId"])


def operations_on(data: Path, database: str = "", **quotas: int) -> Operations:
    if not database:
        put_tables(data / "sonant.db")
    allowed = {"domains_per_account": 100_000, "watchlists_per_domain": 100_000, **quotas}
    # Voices are made of numbers here: samples of GE2E, whose id needs no model file.
    settings = Settings(data=data, database=database, encoder="ge2e", quotas=Quotas(**allowed))
    return Operations(settings, MovedClock())
