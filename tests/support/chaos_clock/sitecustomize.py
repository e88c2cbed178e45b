"""Found by every Python whose PYTHONPATH names this folder: moves Sonant's clock by what a file says.

The clock is moved where all parts take it from, before any of them has taken it. Writers on SQLite wait for
each other no longer than CHAOS_LOCK_WAIT_S, so that nobody need hold a lock for half a minute to exceed it.
"""

import os
from datetime import datetime, timedelta
from pathlib import Path

if "CHAOS_CLOCK" in os.environ:
    from sonant.storage import times

    _FILE, _real = Path(os.environ["CHAOS_CLOCK"]), times.now

    def _moved() -> datetime:
        try:
            seconds = float(_FILE.read_text() or 0)
        except (OSError, ValueError):
            seconds = 0.0
        return _real() + timedelta(seconds=seconds)

    times.now = _moved

if "CHAOS_LOCK_WAIT_S" in os.environ:
    from sonant.storage.database import sqlite

    sqlite.LOCK_TIMEOUT_S = float(os.environ["CHAOS_LOCK_WAIT_S"])
