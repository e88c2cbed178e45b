"""The data folder: opening it, its first start, its locks."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sonant.errors import SetupError
from sonant.policy import ALLOW_ALL
from sonant.settings import Settings
from sonant.store import access
from sonant.store.accounts import LocalAccounts
from sonant.store.backends import Backends, check_back_ends
from sonant.store.database.engine import Database
from sonant.store.key_file import KEY_BYTES
from sonant.store.keys import KeyStore
from sonant.store.local_keys import LocalKeyStore
from sonant.store.objects import ObjectStore
from sonant.store.private_folder import PrivateFolder
from sonant.store.times import now as real_now
from sonant.store.vault import ServiceSecret

#: The key that a fresh installation has.
DEFAULT_ALIAS = "alias/sonant"
_SECRET_FILE = "service.key"  # noqa: S105 - a file name

#: What the role of a fresh installation may do: what a job does in its name, and no operation of the API.
#: Whoever may assume the role gains no more than that.
ROLE_POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": "arn:aws:s3:::*"},
            {"Effect": "Allow", "Action": ["kms:Decrypt", "kms:GenerateDataKey"], "Resource": "*"},
        ],
    }
)


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
    return LocalAccounts(settings.data, region=settings.region, first=settings.account, clock=clock)


def open_backends(settings: Settings) -> Backends:
    return Backends(settings, local_accounts(settings))


def user_arn(settings: Settings) -> str:
    return f"arn:aws:iam::{settings.account}:user/sonant"


def role_arn(settings: Settings) -> str:
    """The role that a fresh installation has, with rights on all local buckets and keys."""
    return f"arn:aws:iam::{settings.account}:role/sonant"


def credentials_file(settings: Settings) -> Path:
    return settings.data / "credentials"


def audit_folder(settings: Settings) -> Path:
    return settings.data / "audit"


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
    database = Database(settings.database_url, connections=settings.wire.threads + 2, must_exist=not create)
    if create:
        database.migrate()
    return Store(
        settings=settings,
        database=database,
        accounts=accounts,
        backends=backends,
        keys=backends.keys(settings.account),
        objects=backends.objects(),
        secret=ServiceSecret(_service_key(folder)),
        clock=clock,
    )


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


def first_start(store: Store) -> str | None:
    """Make what a fresh installation has: key, user, role, access key, credentials file.

    Returns the first access key's id the one time it is made.
    """
    settings, now = store.settings, store.clock()
    if isinstance(store.keys, LocalKeyStore) and not any(
        DEFAULT_ALIAS in key.aliases for key in store.keys.list()
    ):
        store.keys.create("made at first start", alias=DEFAULT_ALIAS)
    with store.database.write() as connection:
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
