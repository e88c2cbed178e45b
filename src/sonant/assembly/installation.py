"""The data folder: opening it, its first start, its locks."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, make_url

from sonant.audit import chain as audit_chain
from sonant.audit.findings import FOLDER
from sonant.errors import SealBroken, SetupError
from sonant.iam import ALLOW_ALL
from sonant.settings import Settings
from sonant.storage.accounts import LocalAccounts
from sonant.storage.backends import Backends, check_back_ends, key_back_end, local_accounts
from sonant.storage.crypto.vault import ServiceSecret, encryption_context
from sonant.storage.database.engine import Database
from sonant.storage.database.postgres import Limits, advisory_lock
from sonant.storage.keys.local import KeyLoss, LocalKeyStore
from sonant.storage.keys.material import KEY_BYTES
from sonant.storage.keys.store import KeyStore
from sonant.storage.objects.store import ObjectStore
from sonant.storage.private_folder import PrivateFolder
from sonant.storage.repositories import access, domains, key_checks
from sonant.storage.times import now as real_now
from sonant.thread_plan import plan_threads

log = logging.getLogger(__name__)

#: The key that a fresh installation has.
DEFAULT_ALIAS = "alias/sonant"
_SECRET_FILE = "service.key"  # noqa: S105 - a file name
#: What it is called until the database knows it.
_SECRET_PENDING = "service.key.pending"  # noqa: S105 - a file name
_PUT_BACK = "put the `keys` folder back from a backup (`sonant restore` with another --data gives it)"


def role_policy(buckets: Sequence[str] = ()) -> str:
    """What a job does in the name of its role, and no operation of the API: whoever may assume the role gains
    no more than that. In these buckets, in all of the account if none is named."""
    objects = [f"arn:aws:s3:::{bucket}/*" for bucket in buckets] or "arn:aws:s3:::*"
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": objects},
                {"Effect": "Allow", "Action": ["kms:Decrypt", "kms:GenerateDataKey"], "Resource": "*"},
            ],
        }
    )


#: What the role of a fresh installation may do.
ROLE_POLICY = role_policy()

#: Processes that may answer calls on one data folder.
MOST_PROCESSES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Everything that lasts."""

    settings: Settings
    database: Database
    accounts: LocalAccounts
    """Of `backends`, what lies in the data folder."""
    backends: Backends
    keys: KeyStore
    """Of the first account, as are `objects`."""
    objects: ObjectStore
    secret: ServiceSecret
    clock: Callable[[], datetime]


def open_backends(settings: Settings) -> Backends:
    return Backends(settings, local_accounts(settings, real_now))


def user_arn(settings: Settings) -> str:
    return f"arn:aws:iam::{settings.account}:user/sonant"


def role_arn(settings: Settings) -> str:
    """The role that a fresh installation has, with rights on all local buckets and keys."""
    return f"arn:aws:iam::{settings.account}:role/sonant"


def credentials_file(settings: Settings) -> Path:
    return settings.data / "credentials"


def audit_folders(settings: Settings) -> list[Path]:
    """The folders of all chains: `audit` itself, one in it for each process beside the first, and what jobs
    have found."""
    folder = settings.data / "audit"
    others = sorted(folder.glob("process-*"), key=lambda path: (len(path.name), path.name))
    return [path for path in (folder, *others, folder / FOLDER) if path.is_dir()]


def lost_trail(settings: Settings) -> str:
    """What to tell of an audit trail that is not there, though there must have been calls."""
    return (
        f"{settings.data / 'audit'} is missing, though this installation is in use: put it back from a "
        "backup and restart, or note down when and why it was moved away; until then a new trail is written"
    )


@contextmanager
def own_audit_folder(settings: Settings) -> Iterator[Path]:
    """The first chain that no other process writes to; ours while the context lasts. Raises SetupError.

    A chain has one writer. Processes that share a data folder have a chain each, and find it again.
    """
    folder = settings.data / "audit"
    if settings.embedded:  # the service's own lock keeps others away
        yield folder
        return
    for number in range(1, MOST_PROCESSES + 1):
        chain = folder if number == 1 else folder / f"process-{number}"
        chain.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (chain / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield chain
            return
    raise SetupError(f"{MOST_PROCESSES} processes write audit trails in {folder} already")


def open_store(
    settings: Settings,
    *,
    create: bool = False,
    keys_may_lack: bool = False,
    clock: Callable[[], datetime] = real_now,
) -> Store:
    """Open the data folder. With `create`, make it and bring the schema up to date.

    Nothing that cannot be replaced is made beside what needs it: keys are made with an empty database only,
    and a database with an empty data folder only. `keys_may_lack` opens an installation that has lost keys of
    domains.

    Raises SetupError when there is none and it may not be made, it cannot be used, or its
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
            database.check_schema()  # others may be at work on it: `sonant migrate` is an act of its own
        elif create:
            database.migrate()
        store = Store(
            settings=settings,
            database=database,
            accounts=accounts,
            backends=backends,
            keys=backends.keys(settings.account),
            objects=backends.objects(),
            secret=_service_secret(settings, database, accounts, clock, create=create),
            clock=clock,
        )
        # Only processes that run for long ask a token: that takes too long for every command.
        if not keys_may_lack and (create or not accounts.in_token):
            check_keys(store)
    except BaseException:
        database.close()
        raise
    return store


def _refuse_lost_database(settings: Settings, *, create: bool) -> None:
    """Raises SetupError when SQLite's file is not there; an empty one may be made in an unused data folder
    only."""
    path = make_url(settings.database_url).database
    if not settings.embedded or not path or path == ":memory:" or _size_bytes(Path(path)):
        return
    log_file = Path(f"{path}-wal")  # SQLite throws one away that it finds beside an empty database
    traces = [*_traces(settings), *([log_file] if _size_bytes(log_file) else [])]
    if traces:
        raise SetupError(
            f"the database {path} is missing, but {traces[0]} shows that this data folder is in use: put the "
            "database back, or restore a backup into another folder (`sonant restore` with another --data); "
            "a new installation needs a new data folder"
        )
    if not create:
        raise SetupError(_no_folder(settings))


def _no_folder(settings: Settings) -> str:
    return (
        f"{settings.data} is not a Sonant data folder; start `sonant serve --data {settings.data}` once, "
        "or name another with --data or SONANT_DATA"
    )


def _traces(settings: Settings) -> list[Path]:
    """What an installation leaves in its data folder beside SQLite's file, and nobody else puts there."""
    named = [settings.data / "keys" / _SECRET_FILE, credentials_file(settings)]
    audited = [file for folder in audit_folders(settings) for file in audit_chain.files(folder)[:1]]
    return [path for path in named if path.exists()] + audited


def _size_bytes(path: Path) -> int:
    """0 for a file that is not there."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0


def open_database(settings: Settings, *, must_exist: bool = False) -> Database:
    """The database, its schema as it is. Raises SetupError."""
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
        # A host without the data folder may migrate; the first that has it makes the check value.
        if unknown and (settings.data / "keys").is_dir():
            _service_secret(settings, database, local_accounts(settings, real_now), real_now, create=True)
    finally:
        database.close()


def make_folder(data: Path) -> None:
    """Make the data folder, for its owner alone. Raises SetupError."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as fault:
        raise SetupError(f"data folder {data} cannot be made: {fault.strerror}") from None


def _service_secret(
    settings: Settings,
    database: Database,
    accounts: LocalAccounts,
    clock: Callable[[], datetime],
    *,
    create: bool,
) -> ServiceSecret:
    """The service's own key, known to be that of the database; made with `create` for an empty one.

    Raises SetupError.
    """
    folder = PrivateFolder(settings.data / "keys")
    with database.read() as connection:
        in_use = key_checks.in_use(connection)
    if not in_use:
        if not create and not _traces(settings):
            raise SetupError(_no_folder(settings))
        if not create or _traces(settings):
            raise SetupError(
                f"the database is empty, but {_traces(settings)[0]} shows that this installation is in use: "
                "restore a backup (`sonant restore`), or name the database that belongs to this data folder; "
                "a new installation needs a new data folder (--data or SONANT_DATA)"
            )
        _make_service_key(folder, database, clock)
    with database.read() as connection:
        secret = _matching_secret(folder, connection)
        recorded = key_checks.is_recorded(connection)
    if create:
        if not recorded:
            _adopt(settings, database, accounts, secret, clock)
        _rename_pending_key(folder)
    return secret


def check_service_key(connection: Connection, data: Path) -> None:
    """Raises SetupError unless a data folder's own key is the one that the database was made with."""
    _matching_secret(PrivateFolder(data / "keys"), connection)


def _matching_secret(folder: PrivateFolder, connection: Connection) -> ServiceSecret:
    """Raises SetupError when the key is missing, damaged, or another one than this database was made with."""
    path = folder.path / _SECRET_FILE
    found = folder.read(_SECRET_FILE, KEY_BYTES) or folder.read(_SECRET_PENDING, KEY_BYTES)
    if found is None:
        raise SetupError(f"{path} is missing, and this database cannot be used without it: {_PUT_BACK}")
    if len(found[1]) != KEY_BYTES:
        raise SetupError(f"{path} is damaged: restore it from a backup ({_PUT_BACK})")
    secret = ServiceSecret(found[1])
    if not key_checks.matches(connection, secret):
        raise SetupError(
            f"{path} is not the one that this database was made with: {_PUT_BACK}; all processes of a "
            "database need the same `keys` in their data folders"
        )
    return secret


def _make_service_key(folder: PrivateFolder, database: Database, clock: Callable[[], datetime]) -> None:
    """Make the service's key for an empty database. Its file has another name until the database knows it:
    wherever a start is cut off, `service.key` says that there is a database to it."""
    with database.write() as connection:
        advisory_lock(connection, "first start")
        if not key_checks.in_use(connection):
            key = secrets.token_bytes(KEY_BYTES)
            with folder.locked():
                folder.replace(_SECRET_PENDING, key)  # one left by a start that was cut off is nobody's
            key_checks.record(connection, ServiceSecret(key), clock())
    _rename_pending_key(folder)


def _rename_pending_key(folder: PrivateFolder) -> None:
    """Give a pending key its final name, unless there is a key: a pending one beside it is not used."""
    if folder.stamp(_SECRET_PENDING) is not None:
        with folder.locked():
            if folder.stamp(_SECRET_FILE) is None:
                folder.rename(_SECRET_PENDING, _SECRET_FILE)


def _adopt(
    settings: Settings,
    database: Database,
    accounts: LocalAccounts,
    secret: ServiceSecret,
    clock: Callable[[], datetime],
) -> None:
    """Give a database of an earlier release its check value, once the key has opened what is sealed in it.

    Keys that are missing then were destroyed by that release, which noted nothing down.
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
                log.warning("key %s is not there: taken as destroyed by an earlier release", loss.key_id)
                keys.accept_loss(loss.key_id)
        key_checks.record(connection, secret, clock())


def service_key_digest(settings: Settings) -> str:
    """Equal on hosts that share a data folder, or have copies of it; empty without one."""
    path = settings.data / "keys" / _SECRET_FILE
    try:
        return hashlib.sha256(b"data folder of " + path.read_bytes()).hexdigest()
    except OSError:
        return ""


def check_keys(store: Store) -> None:
    """Raises SetupError when domains have lost the keys that open them."""
    if not store.backends.owns_keys:
        return  # a key service loses none of them
    with store.database.read() as connection:
        lost = lost_keys(store.accounts, connection)
    for (account_id, loss), count in lost.items():
        where = "" if account_id == store.settings.account else f" --account {account_id}"
        if loss.in_token:
            missing = f"the token does not hold the material of key {loss.key_id}"
            cure, lasting = (
                "restore the token by its vendor's means",
                f"sonant key disable {loss.key_id}{where}",
            )
        else:
            missing = f"key {loss.key_id} is missing from {loss.folder}"
            cure, lasting = _PUT_BACK, f"sonant key accept-loss {loss.key_id}{where}"
        raise SetupError(
            f"{missing}, and {count} domains cannot be opened without it: {cure}; if it is lost for good, "
            f"`{lasting}` lets Sonant start without them"
        )


def lost_keys(accounts: LocalAccounts, connection: Connection) -> Counter[tuple[str, KeyLoss]]:
    """Lost keys by account, and how many domains need each. Raises SetupError."""
    found, foreign, known = Counter[tuple[str, KeyLoss]](), 0, domains.list_all(connection)
    for domain in known:
        try:
            loss = accounts.keys(domain.account_id).loss(
                domain.data_key_wrapped, encryption_context(domain.arn)
            )
        except SealBroken:  # by another kind of key store, or damaged
            foreign += 1
            continue
        if loss is not None:
            found[domain.account_id, loss] += 1
    if known and foreign == len(known):
        raise SetupError(
            "the domains of this database have keys of another kind: set `keys` to what it was, or restore a "
            "backup if it was never changed"
        )
    return found


def first_start(store: Store) -> str | None:
    """Make what a fresh installation has: key, user, role, access key, credentials file.

    Returns the first access key's id the one time it is made. With a user or a domain the first start is
    over: what is not there then was lost or deleted, and is not made again.
    """
    settings, now = store.settings, store.clock()
    with store.database.write() as connection:
        advisory_lock(connection, "first start")
        if access.list_principals(connection) or domains.any_exist(connection):
            return None
        if isinstance(store.keys, LocalKeyStore) and not any(
            DEFAULT_ALIAS in key.aliases for key in store.keys.list()
        ):
            store.keys.create("made at first start", alias=DEFAULT_ALIAS)
        for arn, policy in ((user_arn(settings), ALLOW_ALL), (role_arn(settings), ROLE_POLICY)):
            access.put_principal(connection, arn, settings.account, [policy], now)
        key_id, secret = access.create_access_key(connection, store.secret, user_arn(settings), now)
        # Written before the commit: a key that no file holds would be lost for good.
        write_private(
            credentials_file(settings),
            f"[default]\naws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n"
            f"region = {settings.region}\n",
        )
    return key_id


def write_private(path: Path, text: str) -> None:
    """Write a file for its owner alone, as a whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@contextmanager
def only_one(settings: Settings, name: str) -> Iterator[None]:
    """Hold the data folder's lock `name`. Raises SetupError when another process holds it."""
    path = settings.data / f"{name}.lock"
    try:
        file = path.open("a+")
    except OSError as fault:
        raise SetupError(f"{path} cannot be used: {fault.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise SetupError(
                f"another Sonant {name} (process {holder}) uses the data folder {settings.data}; "
                "stop it or choose another folder with --data"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
