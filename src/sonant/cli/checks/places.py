"""Checks of places: space, modes and owners of files, and a file written and read in every folder."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sonant.cli.checks import opened
from sonant.errors import SetupError
from sonant.settings import Settings
from sonant.storage.files import try_folder

#: Less free space than this needs a hand: a day of audit trail and a job's result fit, and no more.
LEAST_FREE_BYTES = 1 << 30
#: Least share of free entries of a file system: without one no file can be made, whatever the space.
_LEAST_FREE_INODES = 0.01
#: Files and folders of the data folder whose content is secret or personal. Others may be shared.
_SECRET_NAMES = (
    "sonant.db*",
    "credentials",
    "credentials.administrator",
    "keys",
    "accounts",
    "audit",
    "audit-keys",
    "deletions",
    "events",
)
_GROUP_OR_OTHERS, _OTHERS = stat.S_IRWXG | stat.S_IRWXO, stat.S_IRWXO
#: Most files that one fault names.
_MOST_NAMED = 5


def check_data_folder(settings: Settings, least_bytes: int = LEAST_FREE_BYTES) -> str:
    """Say how much space is free. Raises SetupError for less than `least_bytes` in any place."""
    faults, data = [], settings.data if settings.data.exists() else Path()
    for folder in (data, *places(settings)):
        free = shutil.disk_usage(folder).free
        if free < least_bytes:
            faults.append(f"{folder.absolute()} has {_gib(free)} free, less than {_gib(least_bytes)}")
        system = os.statvfs(folder)
        if system.f_files and system.f_favail < _LEAST_FREE_INODES * system.f_files:
            faults.append(f"the file system of {folder.absolute()} has {system.f_favail:,} free entries")
    if faults:
        raise SetupError(
            f"{'; '.join(dict.fromkeys(faults))}: give it more space, or move old backups "
            "and rotated event files elsewhere"
        )
    return f"{settings.data.absolute()}, {_gib(shutil.disk_usage(data).free)} free"


def check_modes(settings: Settings) -> str:
    """Check that nobody else can read what is secret. Raises SetupError that names what is open."""
    if not settings.data.exists():
        return "there is no data folder yet"
    data, open_to, foreign = settings.data.absolute(), [], []
    owner = data.stat().st_uid
    # The group of a mounted folder may be the container's own; what lies in it is the owner's alone.
    if data.stat().st_mode & _OTHERS:
        open_to.append(data)
    for path in _secret_files(data):
        status = path.lstat()
        if status.st_mode & _GROUP_OR_OTHERS and not stat.S_ISLNK(status.st_mode):
            open_to.append(path)
        if status.st_uid != owner:
            foreign.append(path)
    if open_to:
        raise SetupError(
            f"other users of this machine can read or enter {_listed(open_to)}: run chmod -R go= "
            f"{shlex.quote(str(data))}; if somebody else has an account here, replace what they could read "
            "(`sonant access create`, `sonant key rotate-service`)"
        )
    if foreign:
        raise SetupError(
            f"{_listed(foreign)} belongs to another user than the data folder, who made it by running a "
            f"command: run chown -R {owner} {shlex.quote(str(data))} as root"
        )
    return "the owner's alone"


def check_writing(settings: Settings) -> str:
    """Write a small file in every place, read it back and delete it. Raises SetupError for a failure."""
    folders = places(settings)
    for folder in folders:
        try:
            try_folder(folder)
        except OSError as fault:
            raise SetupError(
                f"{folder} cannot be written: {fault.strerror or fault}; {_remedy(fault)}"
            ) from None
    closed = [path for path in _buckets(settings) if not os.access(path, os.R_OK | os.W_OK | os.X_OK)]
    if closed:
        raise SetupError(f"the bucket {closed[0]} cannot be read and written: give it to the service's user")
    return f"a file written and read in {len(folders)} folders"


def check_buckets(settings: Settings) -> str:
    """Count the local buckets, or say where the remote ones are. Raises SonantError."""
    if settings.objects != "local":
        where = settings.s3.endpoint or "AWS"
        rights = "the roles of jobs" if settings.assumes_roles else "the service"
        return f"{settings.objects} at {where}, with the rights of {rights}"
    with opened(settings) as store:
        buckets = store.objects.buckets()
    return f"{len(buckets)} in {settings.data / 'buckets'}" + ("" if buckets else " (make a folder there)")


def places(settings: Settings) -> list[Path]:
    """List the folders that exist and that the service writes in, each once."""
    data = settings.data.absolute()
    wanted = [data, Path(tempfile.gettempdir())]
    if settings.keys == "local":
        wanted.append(data / "keys")
    if settings.objects == "local":
        wanted.append(data / "buckets")
    if settings.audit.enabled:
        wanted += [data / "audit", data / "audit-keys"]
    if settings.deletions.ledger:
        wanted.append(settings.ledger_folder.absolute())
    if "file" in settings.events.sinks:
        wanted.append(data / "events")
    return [path for path in dict.fromkeys(wanted) if path.is_dir()]


def _secret_files(data: Path) -> Iterator[Path]:
    for pattern in _SECRET_NAMES:
        for path in sorted(data.glob(pattern)):
            yield path
            if path.is_dir() and not path.is_symlink():
                yield from sorted(path.rglob("*"))


def _buckets(settings: Settings) -> list[Path]:
    folder = settings.data / "buckets"
    if settings.objects != "local" or not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if path.is_dir()]


def _remedy(fault: OSError) -> str:
    if fault.errno in (errno.ENOSPC, errno.EDQUOT):
        return "give it more space, or move old backups and rotated event files elsewhere"
    if fault.errno == errno.EROFS:
        return "mount it for writing; a file system that changed to read-only has had a fault: see dmesg"
    if fault.errno in (errno.EACCES, errno.EPERM):
        return "give it to the user that runs the service (chown)"
    return "see the system's log (dmesg) about its disk"


def _listed(paths: list[Path]) -> str:
    more = f" and {len(paths) - _MOST_NAMED} more" if len(paths) > _MOST_NAMED else ""
    return ", ".join(str(path) for path in paths[:_MOST_NAMED]) + more


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 30):.1f} GiB"
