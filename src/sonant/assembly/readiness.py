"""Tries whether requests can be answered: database, keys of domains, disk, audit trail."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from sqlalchemy import select, text

from sonant.assembly.installation import Store, check_keys
from sonant.audit.trail import Trail
from sonant.errors import SetupError
from sonant.storage.files import try_folder

#: How often keys, disk and the lock for writing are tried; the database is read at each check.
TRY_S = 5.0
#: Less free space than this is a full disk: SQLite's log and the audit trail need some megabytes at once.
LEAST_FREE_BYTES = 16 << 20


class Readiness:
    """Tries what requests need. To be called by one thread at a time."""

    def __init__(
        self,
        store: Store,
        trail: Trail | None,
        monotonic_s: Callable[[], float],
        *,
        least_free_bytes: int = LEAST_FREE_BYTES,
    ) -> None:
        """`trail` is the audit trail of this process; None where there is none."""
        self._store, self._trail, self._monotonic_s = store, trail, monotonic_s
        self._least_free_bytes = least_free_bytes
        self._tried_s = float("-inf")

    def __call__(self) -> None:
        """Raise a SonantError when the database, the keys, the disk or the audit trail cannot be used.

        Waits while another process holds SQLite's lock for writing: `Health` gives it up after seconds.
        """
        store, settings = self._store, self._store.settings
        if store.backends.owns_keys:
            store.accounts.keys(settings.account).check()
        with store.database.read() as connection:
            if settings.embedded:
                connection.execute(select(1))
            elif connection.execute(text("SELECT pg_is_in_recovery()")).scalar():
                raise SetupError("the database server takes no writes: it is a standby; name the primary")
        if self._trail is not None and self._trail.failing and settings.audit.required:
            raise SetupError("the audit trail cannot be written, so no change is accepted; the log says why")
        if self._monotonic_s() - self._tried_s >= TRY_S:
            self._try_keys_and_disk()
            if settings.embedded:
                with store.database.write():
                    pass  # whoever holds the lock for writing keeps every change waiting
            self._tried_s = self._monotonic_s()

    def _try_keys_and_disk(self) -> None:
        store, data = self._store, self._store.settings.data
        if store.backends.owns_keys and not store.accounts.in_token:
            check_keys(store)
        try:
            free = shutil.disk_usage(data).free
            try_folder(data)
        except OSError as fault:
            raise SetupError(f"data folder {data} cannot be written: {fault.strerror or fault}") from None
        if free < self._least_free_bytes:
            raise SetupError(f"data folder {data} has {free / (1 << 20):.0f} MiB free: give it more space")
