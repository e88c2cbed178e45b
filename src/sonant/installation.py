"""The data folder: opening it, its first start, its locks."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sonant.errors import SealBroken, SetupError
from sonant.events.audit_findings import FOLDER
from sonant.policy import ALLOW_ALL
from sonant.settings import Settings
from sonant.store import access
from sonant.store.accounts import LocalAccounts
from sonant.store.backends import Backends, check_back_ends, own_material
from sonant.store.database.engine import Database
from sonant.store.database.postgres import Limits, take_turn
from sonant.store.key_file import KEY_BYTES
from sonant.store.keys import KeyStore
from sonant.store.local_keys import LocalKeyStore
from sonant.store.objects import ObjectStore
from sonant.store.private_folder import PrivateFolder
from sonant.store.times import now as real_now
from sonant.store.vault import ServiceSecret
from sonant.thread_plan import plan_threads

#: The key that a fresh installation has.
DEFAULT_ALIAS = "alias/sonant"
_SECRET_FILE = "service.key"  # noqa: S105 - a file name


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


def local_accounts(settings: Settings, clock: Callable[[], datetime] = real_now) -> LocalAccounts:
    return LocalAccounts(
        settings.data,
        region=settings.region,
        first=settings.account,
        clock=clock,
        material=own_material(settings),
    )


def open_backends(settings: Settings) -> Backends:
    return Backends(settings, local_accounts(settings))


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
    settings: Settings, *, create: bool = False, clock: Callable[[], datetime] = real_now
) -> Store:
    """Open the data folder. With `create`, make it and bring the schema up to date.

    Raises SetupError when there is none and it may not be made, or it cannot be used.
    """
    data = settings.data
    check_back_ends(settings)
    if not create and not (data / "keys" / _SECRET_FILE).exists():
        raise SetupError(
            f"{data} is not a Sonant data folder; start `sonant serve --data {data}` once, "
            "or name another with --data or SONANT_DATA"
        )
    make_folder(data)
    folder = PrivateFolder(data / "keys")
    accounts = local_accounts(settings, clock)
    backends = Backends(settings, accounts)
    database = open_database(settings, must_exist=not create)
    if not settings.embedded:
        database.check_schema()  # others may be at work on it: `sonant migrate` is an act of its own
    elif create:
        database.migrate()
    secret = ServiceSecret(_service_key(folder))
    if not settings.embedded:
        _check_secret(database, secret, data)
    return Store(
        settings=settings,
        database=database,
        accounts=accounts,
        backends=backends,
        keys=backends.keys(settings.account),
        objects=backends.objects(),
        secret=secret,
        clock=clock,
    )


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
    if settings.embedded:
        make_folder(settings.data)
    database = open_database(settings)
    try:
        database.migrate()
    finally:
        database.close()


def make_folder(data: Path) -> None:
    """Make the data folder, for its owner alone. Raises SetupError."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as fault:
        raise SetupError(f"data folder {data} cannot be made: {fault.strerror}") from None


def _service_key(folder: PrivateFolder) -> bytes:
    """The service's own key; made on first use."""
    with folder.locked():
        if folder.stamp(_SECRET_FILE) is None:
            folder.replace(_SECRET_FILE, secrets.token_bytes(KEY_BYTES))
        found = folder.read(_SECRET_FILE, KEY_BYTES)
    key = b"" if found is None else found[1]
    if len(key) != KEY_BYTES:
        raise SetupError(f"{folder.path / _SECRET_FILE} is damaged: restore it from a backup")
    return key


def service_key_digest(settings: Settings) -> str:
    """Equal on hosts that share a data folder, or have copies of it; empty without one."""
    path = settings.data / "keys" / _SECRET_FILE
    try:
        return hashlib.sha256(b"data folder of " + path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _check_secret(database: Database, secret: ServiceSecret, data: Path) -> None:
    """Raises SetupError when the database was made with another data folder: no caller could be verified."""
    with database.read() as connection:
        for known in access.list_access_keys(connection)[:1]:
            try:
                access.find_secret(connection, secret, known.access_key_id)
            except SealBroken:
                raise SetupError(
                    f"{data / 'keys' / _SECRET_FILE} is not the one that this database was made with: all "
                    "processes of a database need the same `keys` in their data folders"
                ) from None


def first_start(store: Store) -> str | None:
    """Make what a fresh installation has: key, user, role, access key, credentials file.

    Returns the first access key's id the one time it is made.
    """
    settings, now = store.settings, store.clock()
    with store.database.write() as connection:
        take_turn(connection, "first start")
        if isinstance(store.keys, LocalKeyStore) and not any(
            DEFAULT_ALIAS in key.aliases for key in store.keys.list()
        ):
            store.keys.create("made at first start", alias=DEFAULT_ALIAS)
        if access.list_principals(connection):
            return None
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
