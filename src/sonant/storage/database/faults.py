"""What a fault of the database means, decided here for both of them: wait, or call an operator.

Temporary is what the same attempt may not meet again: locks of others, a full disk, a device that failed,
memory or files that the process has run out of, a server that is away.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoneFree

from sonant.errors import DatabaseUnavailable, SetupError, SonantError

#: SQLite's primary result codes of what may be over at the next attempt.
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
#: And of faults of the file itself: nothing but an operator cures them.
_OF_THE_FILE = frozenset(
    (
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
    )
)

#: What mends a damaged file.
RESTORE = "restore a backup into another data folder (`sonant restore` with another --data)"
#: Of these, what no operator can mend in place.
_DAMAGE = frozenset((sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT))


def of_sqlite(fault: BaseException, file: Path | None) -> SonantError | None:
    """DatabaseUnavailable, SetupError, or None for a fault that is neither.

    `file` is the database's; None for one in memory.
    """
    if isinstance(fault, MemoryError):  # so the driver tells of SQLITE_NOMEM
        return DatabaseUnavailable("the database cannot be used: out of memory")
    if isinstance(fault, NoneFree):
        return DatabaseUnavailable(fault_text(fault) or "")
    code = _sqlite_code(fault)
    if code in _TEMPORARY or (code == sqlite3.SQLITE_CANTOPEN and file is not None and _openable(file)):
        return DatabaseUnavailable(fault_text(fault) or "")
    if code not in _OF_THE_FILE:
        return None
    cure = f"; {RESTORE}" if code in _DAMAGE else ""
    return SetupError((fault_text(fault) or "") + cure)


def of_postgres(fault: BaseException) -> SonantError | None:
    """DatabaseUnavailable for what lies at the server, the way to it, or at others' locks; else None."""
    cut = isinstance(fault, DBAPIError) and fault.connection_invalidated
    if cut or isinstance(fault, OperationalError | InterfaceError | NoneFree):
        return DatabaseUnavailable(fault_text(fault) or "")
    return None


def fault_text(fault: BaseException) -> str | None:
    """One sentence for a fault of the database, without SQL or values; None for any other fault."""
    if not isinstance(fault, SQLAlchemyError | sqlite3.Error):
        return None
    reason = str(_cause(fault)) if isinstance(fault, DBAPIError | sqlite3.Error) else type(fault).__name__
    return f"the database cannot be used: {reason.partition(chr(10))[0]}"


def _cause(fault: BaseException) -> BaseException | None:
    """What the driver raised."""
    return fault.orig if isinstance(fault, DBAPIError) else fault


def _sqlite_code(fault: BaseException) -> int:
    code: int = getattr(_cause(fault), "sqlite_errorcode", None) or 0
    return code & 0xFF  # the rest of the code only tells the circumstances


def _openable(file: Path) -> bool:
    """Whether nothing about the file stands in the way: then only open files or memory can be lacking.

    Asks for rights only. To open and close a database's files would drop the locks that SQLite holds on them.
    """
    if not file.is_file() or not os.access(file.parent, os.R_OK | os.W_OK | os.X_OK):
        return False
    names = (file.name + ending for ending in ("", "-wal", "-shm"))
    paths = (file.with_name(name) for name in names)
    return all(os.access(path, os.R_OK | os.W_OK) for path in paths if path.exists())
