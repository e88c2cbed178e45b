"""Find, make and lock the files of a data folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sonant.audit import chain as audit_chain
from sonant.audit.names import chain_folders
from sonant.errors import SetupError
from sonant.settings import Settings

#: Most processes that may serve one data folder.
MOST_PROCESSES = 256

SERVICE_KEY_FILE = "service.key"


def make_folder(data: Path) -> None:
    """Make the data folder, for its owner alone. Raises SetupError."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as fault:
        raise SetupError(f"data folder {data} cannot be made: {fault.strerror}") from None


def not_a_data_folder(settings: Settings) -> str:
    """Build the message for a folder without an installation."""
    return (
        f"{settings.data} is not a Sonant data folder; start `sonant serve --data {settings.data}` once, "
        "or name another with --data or SONANT_DATA"
    )


def credentials_file(settings: Settings) -> Path:
    """Return the path of the application's access key, in the form of AWS credentials files."""
    return settings.data / "credentials"


def administrator_file(settings: Settings) -> Path:
    """Return the path of the administrator's access key, in the same form.

    It is a file of its own, so that the other one can be given to an application.
    """
    return settings.data / "credentials.administrator"


def traces(settings: Settings) -> list[Path]:
    """List the files, besides SQLite's, that show that a data folder is in use."""
    named = [settings.data / "keys" / SERVICE_KEY_FILE, credentials_file(settings)]
    audited = [file for folder in audit_folders(settings) for file in audit_chain.files(folder)[:1]]
    return [path for path in named if path.exists()] + audited


def size_bytes(path: Path) -> int:
    """Return the size of a file; 0 when it does not exist."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0


def write_private(path: Path, text: str) -> None:
    """Write a file for its owner alone, completely or not at all."""
    temporary = path.with_name(path.name + ".new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


# --- the audit trail


def audit_folders(settings: Settings) -> list[Path]:
    """List the folders of all audit chains."""
    return chain_folders(settings.data / "audit")


def lost_trail(settings: Settings) -> str:
    """Build the warning for an installation in use without an audit trail."""
    return (
        f"{settings.data / 'audit'} is missing, though this installation is in use: put it back from a "
        "backup and restart, or note down when and why it was moved away; until then a new trail is written"
    )


@contextmanager
def own_audit_folder(settings: Settings) -> Iterator[Path]:
    """Lock an audit folder for this process. Raises SetupError when there is none left.

    A chain has one writer. Processes that share a data folder get a chain each: the first one that is not
    locked, so that a restarted process continues an earlier chain.
    """
    folder = settings.data / "audit"
    if settings.embedded:  # the service's own lock keeps other processes away
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


# --- locks


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
