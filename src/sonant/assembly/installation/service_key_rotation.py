"""Renew the service's own key, beside running services.

    prepare     write the next key's file; nothing is made with it
    switch      the database takes its check value, then the files name it as the present key
    renew       rows get new MACs, secrets of access keys are sealed anew, chains of the audit trail are
                recorded anew, the deletion ledger notes the new key
    finish      nothing that could be made anew is under the former key any more, or accepted from it

Each step may be interrupted and repeated: the next call goes on with what the files say. What hangs on the
key is a purpose of `ServiceSecret`; `RENEWED` says for each how it outlives a rotation, and a test compares
both.
"""

from __future__ import annotations

import fcntl
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection

from sonant.assembly.installation.service_key_files import ServiceKeyFiles
from sonant.assembly.installation.store import Store
from sonant.errors import IntegrityFault, SealBroken, SetupError
from sonant.retention.ledger import DeletionLedger, LedgerKey
from sonant.settings import Settings
from sonant.storage.crypto.service_secret import ServiceSecret, service_key_id
from sonant.storage.database.postgres import advisory_lock, oldest_transaction, present_transaction
from sonant.storage.database.row_macs import RowMacs
from sonant.storage.keys.material import KEY_BYTES
from sonant.storage.keys.wrapping import folder_of, keys_folder
from sonant.storage.repositories import access, audit_chains, key_checks
from sonant.storage.row_binding import bind_again, record_declaration

log = logging.getLogger(__name__)

#: How each use of the service key outlives a rotation, by its name in `ServiceSecret`.
RENEWED: Mapping[str, str] = {
    "rows": "rows get MACs under the new key",
    "binding": "the record of the bound rows is sealed under the new key",
    "rotation": "each rotation writes its own record",
    "check": "the database gets the new key's check value",
    "access": "secrets of access keys are sealed under the new key",
    "audit": "chains begin a section under the new key; the former key proves lines of earlier ones; the "
    "chains' rows get new codes",
    "ledger": "lines and hashes of the former key stay, fixed by a line under the new one",
    "receipts": "receipts of the former key hold where the ledger records what they say",
    "pages": "page tokens of the former key are accepted until they expire, unless it has leaked",
    "cookies": "cookies of the former key are accepted until they expire, unless it has leaked",
    "tokens": "hashes of the former key are looked up for seven days",
}

#: Time limit for the transactions that began before the switch, on PostgreSQL.
WAIT_S = 600.0
#: Passes over the rows at most; each finds fewer that were written meanwhile.
_MOST_PASSES = 20
_POLL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """A service key that was renewed, or prepared."""

    key_id: str
    """The name of the new key."""
    rows: int
    """Rows that have got new MACs."""
    access_keys: int
    """Access keys whose secrets were sealed anew."""


def prepare(settings: Settings) -> Rotation:
    """Write the next key, for the data folders of other hosts, and use it for nothing. Raises SetupError."""
    files = _files(settings)
    with rotation_lock(settings, exclusive=True):
        files.prepare(secrets.token_bytes(KEY_BYTES))
        found = files.read()
    if found is None or found.prepared is None:
        raise SetupError(f"{files.folder.path} has no service key")
    return Rotation(key_id=service_key_id(found.prepared), rows=0, access_keys=0)


def rotate(store: Store, *, leaked: bool, between: Callable[[str], object] = lambda _step: None) -> Rotation:
    """Renew the service key, or go on with a rotation that was interrupted. Raises SetupError.

    With `leaked`, nothing is accepted from the former key any more: users of the console sign in again, and
    listings begin again. `between` is called with the name of each step before it, for progress.
    """
    files = _files(store.settings)
    with rotation_lock(store.settings, exclusive=True):
        found = files.read()
        if found is None:
            raise SetupError(f"{files.folder.path} has no service key")
        if found.unfinished is None:
            between("prepare")
            files.prepare(secrets.token_bytes(KEY_BYTES))
            between("switch")
            _switch(store, files)
        between("renew")
        done = _renew(store, leaked=leaked, between=between)
        files.finish(store.clock(), tokens_accepted=not leaked)
    return done


def adopt_later_keys(connection: Connection, settings: Settings, later: Path, now: datetime) -> None:
    """Give an installation that is restored from a backup the service keys that came after the backup.

    `later` is the folder `keys` of the installation since. The restored one is left as a rotation that was
    interrupted after its switch; `rotate` finishes it. Raises SetupError for keys of another installation.
    """
    files, known = _files(settings), ServiceKeyFiles(folder_of(later, settings.key_wrapping)).read()
    own = files.read()
    if own is None or known is None:
        raise SetupError(f"{later} has no service key")
    if known.present == own.present:
        return
    if own.present not in {one.key for one in known.former}:
        raise SetupError(
            f"the keys in {later} did not follow that of the backup: of another installation, or older"
        )
    new = ServiceSecret(known.present)
    key_checks.replace_check(connection, new, now)
    record = _record(new, own.present, finished=False, leaked=False)
    key_checks.record_rotation(connection, record, now)
    files.adopt(known, own.present)


@contextmanager
def rotation_lock(settings: Settings, *, exclusive: bool) -> Iterator[None]:
    """Keep rotations of the service key away, and with `exclusive` backups too. Raises SetupError.

    A backup holds rows and keys that belong together.
    """
    path = settings.data / "key-rotation.lock"
    try:
        file = path.open("a")
    except OSError as fault:
        raise SetupError(f"{path} cannot be used: {fault.strerror}") from None
    with file:
        try:
            fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupError(
                "the service key is being rotated, or a backup made: try again when it is done"
            ) from None
        yield


def _files(settings: Settings) -> ServiceKeyFiles:
    return ServiceKeyFiles(keys_folder(settings))


def _switch(store: Store, files: ServiceKeyFiles) -> None:
    """Make the prepared key that of the database, and then that of the files."""
    found = files.read()
    if found is None or found.prepared is None:
        raise SetupError(f"{files.folder.path} has lost the next service key: try again")
    new, now = ServiceSecret(found.prepared), store.clock()
    with _ledger_of(store) as ledger:
        if ledger is not None:
            ledger.announce_key(LedgerKey(new.ledger_key), now)
    with store.database.write() as connection:
        advisory_lock(connection, "first start")
        key_checks.replace_check(connection, new, now)
        record = _record(new, found.present, finished=False, leaked=False)
        key_checks.record_rotation(connection, record, now)
    files.promote()


def _record(new: ServiceSecret, former: bytes, *, finished: bool, leaked: bool) -> bytes:
    return new.seal_rotation(
        {"former": service_key_id(former), "finished": finished, "tokens_accepted": not leaked}
    )


def _renew(store: Store, *, leaked: bool, between: Callable[[str], object]) -> Rotation:
    secret = store.secret
    keys = secret.keys
    if keys.unfinished is None:
        raise SetupError("the files of the service key were changed meanwhile: see docs/keys.md")
    old, former, now = keys.unfinished.key, ServiceSecret(keys.unfinished.key), store.clock()
    with store.database.write() as connection:
        record_declaration(connection, secret, now)
        audit_chains.renew_codes(connection, former.audit_root, secret.audit_root)
    between("access keys")
    sealed = _seal_access_keys(store)
    between("rows")
    rows = _bind_rows(store, RowMacs(former.row_mac_key), RowMacs(secret.row_mac_key))
    between("ledger")
    with _ledger_of(store) as ledger:
        if ledger is not None:
            ledger.begin_key(now)
    between("finish")
    with store.database.write() as connection:
        record = _record(secret, old, finished=True, leaked=leaked)
        key_checks.record_rotation(connection, record, now)
    return Rotation(key_id=secret.key_id, rows=rows, access_keys=sealed)


def _seal_access_keys(store: Store) -> int:
    """Seal the secrets of access keys under the present key; how many."""
    with store.database.read() as connection:
        ids = access.list_key_ids(connection)
    sealed = 0
    for access_key_id in ids:
        try:
            with store.database.write() as connection:
                sealed += access.seal_again(connection, store.secret, access_key_id)
        except (IntegrityFault, SealBroken) as fault:  # one that was changed must not stop the others
            log.error("the secret of access key %s stays as it is: %s", access_key_id, fault)
    return sealed


def _bind_rows(store: Store, old: RowMacs, new: RowMacs) -> int:
    """Give all rows new MACs, also those that transactions write which began before the switch."""
    bound = bind_again(store.database, old, new)
    _wait_for_earlier(store)
    for _ in range(_MOST_PASSES):
        more = bind_again(store.database, old, new)
        bound += more
        if not more:
            return bound
    raise SetupError(
        "another process writes rows under the former service key: copy `keys` to the data folders of all "
        "hosts, then run this command again"
    )


def _wait_for_earlier(store: Store) -> None:
    """Wait until no transaction is open that began before now. SQLite has one writer, which waits anyway."""
    if store.settings.embedded:
        return
    with store.database.write() as connection:
        own = present_transaction(connection)
    until_s = time.monotonic() + WAIT_S
    while True:
        with store.database.read() as connection:
            if oldest_transaction(connection) > own:
                return
        if time.monotonic() > until_s:
            raise SetupError(
                "a transaction on the database does not end: end it, then run this command again"
            )
        time.sleep(_POLL_S)


@contextmanager
def _ledger_of(store: Store) -> Iterator[DeletionLedger | None]:
    """Give the deletion ledger; None with the ledger switched off. Raises SetupError."""
    try:
        yield store.ledger
    except OSError as fault:
        raise SetupError(
            f"the ledger in {store.settings.ledger_folder} cannot be written: {fault.strerror}"
        ) from None
