"""Open and make the service's own key, which must be the one that the database was made with."""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection

from sonant.assembly.installation.domain_keys import RESTORE_KEYS, lost_keys
from sonant.assembly.installation.folders import SERVICE_KEY_FILE, not_a_data_folder, traces
from sonant.assembly.installation.service_key_files import PENDING_FILE, ServiceKeyFiles
from sonant.errors import SealBroken, SetupError
from sonant.settings import Settings
from sonant.storage.accounts import LocalAccounts
from sonant.storage.backends import key_back_end
from sonant.storage.crypto.service_secret import ServiceSecret, service_key_id
from sonant.storage.database.engine import Database
from sonant.storage.database.postgres import advisory_lock
from sonant.storage.keys.material import KEY_BYTES
from sonant.storage.keys.wrapping import keys_folder
from sonant.storage.private_folder import PrivateFolder
from sonant.storage.repositories import key_checks
from sonant.storage.times import now as real_now

log = logging.getLogger(__name__)


def open_service_key(
    settings: Settings,
    database: Database,
    accounts: LocalAccounts,
    clock: Callable[[], datetime],
    *,
    create: bool,
) -> ServiceSecret:
    """Return the service's own key after a check against the database. Raises SetupError.

    With `create`, make one for an empty database.
    """
    folder = keys_folder(settings)
    with database.read() as connection:
        in_use = key_checks.in_use(connection)
    if not in_use:
        if not create and not traces(settings):
            raise SetupError(not_a_data_folder(settings))
        if not create or traces(settings):
            raise SetupError(
                f"the database is empty, but {traces(settings)[0]} shows that this installation is in use: "
                "restore a backup (`sonant restore`), or name the database that belongs to this data folder; "
                "a new installation needs a new data folder (--data or SONANT_DATA)"
            )
        _make(folder, database, clock)
    with database.read() as connection:
        secret = _matching_secret(folder, connection, clock)
        recorded = key_checks.is_recorded(connection)
        finished = _former_key_is_done(connection, secret)
    if create:
        if not recorded:
            _record_check_value(settings, database, accounts, secret, clock)
        rename_pending_key(folder)
    if finished is not None:
        try:
            ServiceKeyFiles(folder).finish(clock(), tokens_accepted=finished)
        except SetupError as fault:  # a folder that is mounted read-only
            log.warning("rows of the former service key are still accepted: %s", fault)
    return secret


def check_service_key(connection: Connection, settings: Settings) -> ServiceSecret:
    """Read a data folder's own key. Raises SetupError unless the database was made with it."""
    return _matching_secret(keys_folder(settings), connection, real_now)


def _former_key_is_done(connection: Connection, secret: ServiceSecret) -> bool | None:
    """Find out whether another host has finished the rotation that these files say is not finished.

    Returns then whether tokens of the former key are accepted; None when there is nothing to note.
    """
    unfinished = secret.keys.unfinished
    sealed = None if unfinished is None else key_checks.find_rotation(connection)
    if unfinished is None or sealed is None:
        return None
    try:
        record = secret.open_rotation(sealed)
    except SealBroken:  # of a later or an earlier key
        return None
    if record["former"] != service_key_id(unfinished.key) or not record["finished"]:
        return None
    return bool(record["tokens_accepted"])


def service_key_digest(settings: Settings) -> str:
    """Compute a digest of a data folder, equal on all hosts with copies of it; empty without a key."""
    path = settings.data / "keys" / SERVICE_KEY_FILE
    try:
        return hashlib.sha256(b"data folder of " + path.read_bytes()).hexdigest()
    except OSError:
        return ""


def rename_pending_key(folder: PrivateFolder) -> None:
    """Give a pending key its final name, unless there is a key: a pending one beside it is not used."""
    if folder.stamp(PENDING_FILE) is not None:
        with folder.locked():
            if folder.stamp(SERVICE_KEY_FILE) is None:
                folder.rename(PENDING_FILE, SERVICE_KEY_FILE)


def _matching_secret(
    folder: PrivateFolder, connection: Connection, clock: Callable[[], datetime]
) -> ServiceSecret:
    """Read the key. Raises SetupError when it is missing, damaged, or not the database's."""
    path, files = folder.path / SERVICE_KEY_FILE, ServiceKeyFiles(folder)
    found = files.read()
    if found is None:
        raise SetupError(f"{path} is missing, and this database cannot be used without it: {RESTORE_KEYS}")
    secret = ServiceSecret(found, files, clock)
    if not key_checks.matches(connection, secret) and key_checks.prepared_matches(connection, secret):
        secret.accept_prepared()  # a rotation was interrupted, or made on another host
    if not key_checks.matches(connection, secret):
        raise SetupError(
            f"{path} is not the one that this database was made with: {RESTORE_KEYS}; all processes of a "
            "database need the same `keys` in their data folders"
        )
    return secret


def _make(folder: PrivateFolder, database: Database, clock: Callable[[], datetime]) -> None:
    """Make the service's key for an empty database.

    Its file has a pending name until the database has its check value: so `service.key` always means that
    there is a database that needs it, wherever a start is interrupted.
    """
    with database.write() as connection:
        advisory_lock(connection, "first start")
        if not key_checks.in_use(connection):
            key = secrets.token_bytes(KEY_BYTES)
            with folder.locked():
                folder.replace(PENDING_FILE, key)  # one of an interrupted start is not used by any database
            key_checks.record(connection, ServiceSecret(key), clock())
    rename_pending_key(folder)


def _record_check_value(
    settings: Settings,
    database: Database,
    accounts: LocalAccounts,
    secret: ServiceSecret,
    clock: Callable[[], datetime],
) -> None:
    """Give a database of an earlier release its check value, once the key has opened what is sealed in it.

    Keys that are missing then were destroyed by that release, which kept no record of it.
    """
    with database.write() as connection:
        advisory_lock(connection, "first start")
        if key_checks.is_recorded(connection):
            return
        owns_keys = key_back_end(settings).material is not None
        lost = lost_keys(accounts, connection) if owns_keys else {}
        for account_id, loss in lost:
            keys = accounts.keys(account_id)
            if not loss.in_token and keys.list():  # without any, the folder was lost
                log.warning("key %s does not exist: taken as destroyed by an earlier release", loss.key_id)
                keys.accept_loss(loss.key_id)
        key_checks.record(connection, secret, clock())
