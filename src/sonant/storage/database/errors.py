"""Errors of the database, as those of Sonant: to be tried again later, or for the operator.

Errors that may pass: locks of other transactions, a full disk, a device that failed, no memory or file
descriptors left in the process, an unreachable server.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from sonant.errors import DatabaseUnavailable, SetupError, SonantError

#: SQLite's primary result codes of errors that may pass.
_TEMPORARY = frozenset(
    (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_PROTOCOL,  # too many processes opened the log at the same moment
    )
)
#: Codes of errors of the file itself, which only an operator can repair.
_FILE_ERRORS = frozenset(
    (
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
    )
)

#: What to do about a damaged file.
RESTORE = "restore a backup into another data folder (`sonant restore` with another --data)"
#: Of these, the codes of damage that cannot be repaired in place.
_DAMAGE = frozenset((sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT))


def sqlite_error(fault: BaseException, file: Path | None) -> SonantError | None:
    """Return DatabaseUnavailable or SetupError for an error of SQLite, None for any other.

    `file` is the database's; None for one in memory.
    """
    if isinstance(fault, MemoryError):  # the driver raises it for SQLITE_NOMEM
        return DatabaseUnavailable("the database cannot be used: out of memory")
    if isinstance(fault, PoolTimeout):
        return DatabaseUnavailable(error_text(fault) or "")
    code = _sqlite_code(fault)
    if code in _TEMPORARY or (code == sqlite3.SQLITE_CANTOPEN and file is not None and _openable(file)):
        return DatabaseUnavailable(error_text(fault) or "")
    if code not in _FILE_ERRORS:
        return None
    advice = f"; {RESTORE}" if code in _DAMAGE else ""
    return SetupError((error_text(fault) or "") + advice)


def postgres_error(fault: BaseException) -> SonantError | None:
    """Return DatabaseUnavailable for an error of the server, the network or others' locks, else None."""
    disconnected = isinstance(fault, DBAPIError) and fault.connection_invalidated
    if disconnected or isinstance(fault, OperationalError | InterfaceError | PoolTimeout):
        return DatabaseUnavailable(error_text(fault) or "")
    return None


def error_text(fault: BaseException) -> str | None:
    """Return one sentence for an error of the database, without SQL or values; None for any other."""
    if not isinstance(fault, SQLAlchemyError | sqlite3.Error):
        return None
    reason = str(_cause(fault)) if isinstance(fault, DBAPIError | sqlite3.Error) else type(fault).__name__
    return f"the database cannot be used: {reason.partition(chr(10))[0]}"


def _cause(fault: BaseException) -> BaseException | None:
    """Return the driver's exception."""
    return fault.orig if isinstance(fault, DBAPIError) else fault


def _sqlite_code(fault: BaseException) -> int:
    code: int = getattr(_cause(fault), "sqlite_errorcode", None) or 0
    return code & 0xFF  # the higher bits are details


def _openable(file: Path) -> bool:
    """Return whether the rights on the file allow its use: then only descriptors or memory can be lacking.

    Checks rights only: closing a database's files would drop the locks that SQLite holds on them.
    """
    if not file.is_file() or not os.access(file.parent, os.R_OK | os.W_OK | os.X_OK):
        return False
    names = (file.name + ending for ending in ("", "-wal", "-shm"))
    paths = (file.with_name(name) for name in names)
    return all(os.access(path, os.R_OK | os.W_OK) for path in paths if path.exists())
