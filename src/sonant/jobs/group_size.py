"""How many outcomes one transaction commits: as many as keep others waiting for no more than a moment."""

from __future__ import annotations

#: How much longer a transaction may hold the domain, on PostgreSQL, or the database, on SQLite, than one of a
#: single outcome would. Calls that write wait for it, 50 ms at most unless the disk is slow: half of that
#: leaves room for a group that takes longer than those before it.
HOLD_S = 0.025
#: Bounds of the groups. However slow the machine, each outcome must not be a transaction of its own.
LEAST, MOST = 16, 256
#: How much of the greatest cost of an outcome is remembered by the next group.
_DECAY = 0.9


class GroupSize:
    """Finds the size of groups from how long the groups before took."""

    def __init__(self) -> None:
        self._cost_s = HOLD_S / (4 * LEAST)  # of one outcome; until the first is measured
        self.size = 4 * LEAST
        """Outcomes of the next group, at most."""

    def measured(self, count: int, spent_s: float) -> None:
        """Take note of a group of `count` outcomes that were decided and written in `spent_s`.

        A group smaller than the least one shows what a statement costs, not what an outcome does.
        """
        if count < LEAST:
            return
        self._cost_s = max(spent_s / count, self._cost_s * _DECAY)
        self.size = max(LEAST, min(MOST, int(HOLD_S / self._cost_s)))
