"""Open the stores of an installation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import make_url

from sonant.assembly.installation.domain_keys import check_keys
from sonant.assembly.installation.folders import make_folder, not_a_data_folder, size_bytes, traces
from sonant.assembly.installation.service_key import open_service_key
from sonant.errors import SetupError
from sonant.settings import Settings
from sonant.storage.accounts import LocalAccounts
from sonant.storage.backends import Backends, check_back_ends, local_accounts
from sonant.storage.crypto.vault import ServiceSecret
from sonant.storage.database.engine import Database
from sonant.storage.database.postgres import Limits
from sonant.storage.keys.store import KeyStore
from sonant.storage.objects.store import ObjectStore
from sonant.storage.repositories import key_checks
from sonant.storage.times import now as real_now
from sonant.thread_plan import plan_threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Everything of an installation that lasts."""

    settings: Settings
    database: Database
    accounts: LocalAccounts
    """The part of `backends` in the data folder."""
    backends: Backends
    keys: KeyStore
    """Keys of the first account."""
    objects: ObjectStore
    """Objects of the first account."""
    secret: ServiceSecret
    clock: Callable[[], datetime]


def open_store(
    settings: Settings,
    *,
    create: bool = False,
    keys_may_lack: bool = False,
    clock: Callable[[], datetime] = real_now,
) -> Store:
    """Open the data folder. With `create`, make it and bring the schema up to date.

    Nothing irreplaceable is made beside what needs it: keys are made with an empty database only, and a
    database with an empty data folder only. `keys_may_lack` opens an installation that has lost keys of
    domains.

    Raises SetupError when there is no installation and none may be made, when it cannot be used, or when its
    keys do not open it.
    """
    check_back_ends(settings)
    _refuse_lost_database(settings, create=create)
    if create:
        make_folder(settings.data)
    accounts = local_accounts(settings, clock)
    backends = Backends(settings, accounts)
    database = open_database(settings, must_exist=not create)
    try:
        if not settings.embedded:
            database.check_schema()  # other processes may be using it: `sonant migrate` changes it
        elif create:
            database.migrate()
        store = Store(
            settings=settings,
            database=database,
            accounts=accounts,
            backends=backends,
            keys=backends.keys(settings.account),
            objects=backends.objects(),
            secret=open_service_key(settings, database, accounts, clock, create=create),
            clock=clock,
        )
        # Only processes that run for long ask a token: that takes too long for every command.
        if not keys_may_lack and (create or not accounts.in_token):
            check_keys(store)
    except BaseException:
        database.close()
        raise
    return store


def open_database(settings: Settings, *, must_exist: bool = False) -> Database:
    """Open the database with its schema as it is. Raises SetupError."""
    own = settings.postgres
    return Database(
        settings.database_url,
        must_exist=must_exist,
        limits=Limits(
            connections=own.connections or plan_threads(settings).total,
            connect_timeout_s=own.connect_timeout_s,
            statement_timeout_s=own.statement_timeout_s,
            lock_timeout_s=own.lock_timeout_s,
            idle_timeout_s=own.idle_timeout_s,
        ),
    )


def migrate(settings: Settings) -> None:
    """Bring the schema to this release's. Raises SetupError."""
    _refuse_lost_database(settings, create=True)
    if settings.embedded:
        make_folder(settings.data)
    database = open_database(settings)
    try:
        database.migrate()
        with database.read() as connection:
            unknown = key_checks.in_use(connection) and not key_checks.is_recorded(connection)
        # A host without the data folder may migrate; the first host that has it records the check value.
        if unknown and (settings.data / "keys").is_dir():
            open_service_key(settings, database, local_accounts(settings, real_now), real_now, create=True)
    finally:
        database.close()


def _refuse_lost_database(settings: Settings, *, create: bool) -> None:
    """Raise SetupError when SQLite's file is missing and may not be made: the folder is in use, or `create`
    is not set.
    """
    path = make_url(settings.database_url).database
    if not settings.embedded or not path or path == ":memory:" or size_bytes(Path(path)):
        return
    log_file = Path(f"{path}-wal")  # SQLite deletes one that it finds beside an empty database
    found = [*traces(settings), *([log_file] if size_bytes(log_file) else [])]
    if found:
        raise SetupError(
            f"the database {path} is missing, but {found[0]} shows that this data folder is in use: put the "
            "database back, or restore a backup into another folder (`sonant restore` with another --data); "
            "a new installation needs a new data folder"
        )
    if not create:
        raise SetupError(not_a_data_folder(settings))
