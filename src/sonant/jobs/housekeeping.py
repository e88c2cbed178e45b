"""What time does to the data: key changes are carried through, speakers expire, domains are erased.

Runs beside the runner, in a thread of the same process. Every step is a function of the clock it is given.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from sonant.errors import KeyError_, SonantError
from sonant.store import domains, speakers
from sonant.store.database.engine import Database
from sonant.store.keys import KeyStore
from sonant.store.vault import encryption_context, open_vault

log = logging.getLogger(__name__)

#: When a key change that failed is tried again (AWS docs: at once, after 5 minutes, after 15 minutes).
KEY_CHANGE_PAUSES = (timedelta(minutes=5), timedelta(minutes=15))
#: A suspended domain can be restored for this long; then it is erased.
SUSPENSION = timedelta(days=30)
#: Calendar years without enrollment or successful authentication after which a speaker expires.
EXPIRY_YEARS = 3
#: How often key changes are looked for, and how often everything else.
TICK_S = 1.0
SWEEP_S = 24 * 3600.0
#: Speakers expired in one transaction.
BATCH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Housekeeper:
    """Each method does what is due by now and returns how much it was."""

    database: Database
    keys_of: Callable[[str], KeyStore]
    clock: Callable[[], datetime]

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set; a fault is logged and the work is tried again at the next turn."""
        swept_at: datetime | None = None
        while True:
            try:
                self.change_keys()
                now = self.clock()
                if swept_at is None or (now - swept_at).total_seconds() >= SWEEP_S:
                    self.erase_domains()
                    self.expire_speakers()
                    swept_at = now
            except Exception:  # the next turn comes whatever this one met
                log.exception("housekeeping failed; trying again")
            if stop.wait(TICK_S):
                return

    def change_keys(self) -> int:
        """Wrap data keys anew for domains whose KMS key was changed."""
        done = 0
        with self.database.read() as connection:
            due = domains.key_changes_due(connection, self.clock())
        for domain in due:
            try:
                wrapped = self.keys_of(domain.account_id).re_wrap(
                    domain.data_key_wrapped, encryption_context(domain.arn), domain.kms_key_arn
                )
            except KeyError_ as fault:
                with self.database.write() as connection:
                    self._postpone(connection, domain, fault)
                continue
            with self.database.write() as connection:
                done += domains.finish_key_change(connection, domain, wrapped, self.clock())
        return done

    def _postpone(self, connection: Connection, domain: domains.Domain, fault: KeyError_) -> None:
        if domain.update_attempts < len(KEY_CHANGE_PAUSES):
            due = self.clock() + KEY_CHANGE_PAUSES[domain.update_attempts]
            domains.postpone_key_change(connection, domain, str(fault), due)
        else:
            log.warning("domain %s: its key could not be changed: %s", domain.domain_id, fault)
            domains.fail_key_change(connection, domain, str(fault), self.clock())

    def erase_domains(self) -> int:
        """Erase what was suspended more than 30 days ago."""
        with self.database.write() as connection:
            return domains.erase_suspended(connection, self.clock() - SUSPENSION)

    def expire_speakers(self) -> int:
        """Expire speakers unused for three years: the voiceprint goes, the entry stays.

        A domain whose key cannot be used is left for the next sweep.
        """
        expired = 0
        before = years_before(self.clock(), EXPIRY_YEARS)
        with self.database.read() as connection:
            due = domains.with_speakers_unused_since(connection, before)
        for domain in due:
            try:
                keys = self.keys_of(domain.account_id)
                vault = open_vault(keys, domain.domain_id, domain.arn, domain.data_key_wrapped)
                while True:
                    with self.database.write() as connection:
                        batch = speakers.unused_since(connection, domain.domain_id, before, BATCH)
                        for speaker in batch:
                            speakers.forget_voice(connection, vault, speaker, "EXPIRED", self.clock())
                    expired += len(batch)
                    if len(batch) < BATCH:
                        break
            except SonantError as fault:
                log.warning("domain %s: speakers could not be expired: %s", domain.domain_id, fault)
        return expired


def years_before(moment: datetime, years: int) -> datetime:
    """The same date `years` earlier; 29 February becomes the 28th where there is none."""
    try:
        return moment.replace(year=moment.year - years)
    except ValueError:
        return moment.replace(year=moment.year - years, day=28)
