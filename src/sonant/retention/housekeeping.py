"""What time does to the data: key changes are carried through, speakers expire, domains are erased.

Runs beside the runner, in a thread of the same process. What a step does is a function of the wall clock that
it is given; when it is done, of the monotonic one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from sonant.errors import (
    CheckUnfinished,
    DatabaseUnavailable,
    KeyError_,
    KeyNotFound,
    SealBroken,
    SonantError,
)
from sonant.retention.sessions import SessionKeeper
from sonant.storage.crypto.vault import Vault, encryption_context, open_vault
from sonant.storage.database.engine import Database
from sonant.storage.keys.store import KeysOf
from sonant.storage.repositories import calibrations, counters, domains, speakers
from sonant.storage.times import ClockWatch

log = logging.getLogger(__name__)

#: When a key change that failed is tried again (AWS docs: at once, after 5 minutes, after 15 minutes).
KEY_CHANGE_PAUSES = (timedelta(minutes=5), timedelta(minutes=15))
#: Calendar years without enrollment or successful authentication after which a speaker expires.
EXPIRY_YEARS = 3
#: How often key changes are looked for, and how often everything else.
TICK_S = 1.0
SWEEP_S = 24 * 3600.0
#: How often the write-ahead log is emptied, which may have failed when something was destroyed.
SCRUB_S = 60.0
#: How long the database's file is looked at for damage, once a sweep.
CHECK_S = 20.0
#: How often streams that have fallen silent are written down, and old sessions erased.
SILENT_S = 5.0
SESSIONS_S = 15 * 60.0
#: How long after a jump of the clock nothing is destroyed, and no stream ended: those that are listened to
#: say so within a second, by the same clock.
SETTLED_S = 3600.0
HEARD_AGAIN_S = 60.0
#: When a step that failed is tried again, and one for which there was no database.
RETRY_S = 60.0
AWAY_S = 10.0
#: Comparisons of repeated enrollments that are kept of each domain and voice model, for calibration.
KEPT_REPETITIONS = 10_000
#: Speakers expired in one transaction.
BATCH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Housekeeper:
    """Each method does what is due by now and returns how much it was."""

    database: Database
    keys_of: KeysOf
    clock: Callable[[], datetime]
    sessions: SessionKeeper | None = None
    """None: there are no live calls."""
    monotonic_s: Callable[[], float] = time.monotonic
    """Tells when a step is due: the wall clock may jump."""

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        due_at_s: dict[str, float] = {}
        watch = ClockWatch(self.clock, self.monotonic_s)
        while True:
            self.turn(due_at_s, watch.steady_s())
            if stop.wait(TICK_S):
                return

    def turn(self, due_at_s: dict[str, float], steady_s: float = float("inf")) -> None:
        """Do what is due, and note when each step is due again, by the monotonic clock.

        A step that fails is logged and tried again later; the others do not wait for it. `steady_s` is how
        long the wall clock has not jumped: what cannot be undone is not done on the word of one that has.
        """
        steps: tuple[tuple[str, float, float, Callable[[], object]], ...] = (
            ("key changes", TICK_S, 0.0, self.change_keys),
            ("erasing domains", SWEEP_S, SETTLED_S, self.erase_domains),
            ("expiring speakers", SWEEP_S, SETTLED_S, self.expire_speakers),
            ("forgetting comparisons", SWEEP_S, 0.0, self.forget_repetitions),
            ("emptying the log", SCRUB_S, 0.0, self.database.truncate_wal),
            ("checking the database", SWEEP_S, 0.0, self.check_database),
            *self._session_steps(),
        )
        for name, every_s, settled_s, step in steps:
            if self.monotonic_s() < due_at_s.get(name, float("-inf")):
                continue
            if steady_s < settled_s:
                log.warning("%s waits: the clock has jumped; trying again in %.0f s", name, RETRY_S)
                due_at_s[name] = self.monotonic_s() + RETRY_S
                continue
            try:
                step()
            except DatabaseUnavailable as fault:
                log.warning("%s: %s; trying again in %.0f s", name, fault, AWAY_S)
                every_s = AWAY_S
            except Exception:
                log.exception("%s failed; trying again in %.0f s", name, RETRY_S)
                every_s = RETRY_S
            due_at_s[name] = self.monotonic_s() + every_s

    def _session_steps(self) -> tuple[tuple[str, float, float, Callable[[], object]], ...]:
        if self.sessions is None:
            return ()
        return (
            ("ending silent streams", SILENT_S, HEARD_AGAIN_S, self.sessions.end_silent),
            ("erasing sessions", SESSIONS_S, SETTLED_S, self.sessions.erase_old),
            ("forgetting speakers without a session", SESSIONS_S, SETTLED_S, self.sessions.forget_pending),
        )

    def change_keys(self) -> int:
        """Wrap data keys anew for domains whose KMS key was changed."""
        done = 0
        with self.database.read() as connection:
            due = domains.key_changes_due(connection, self.clock())
        for domain in due:
            try:
                keys, context = self.keys_of(domain.account_id, domain.region), encryption_context(domain.arn)
                keys.grant(domain.kms_key_arn, context)
                wrapped = keys.re_wrap(domain.data_key_wrapped, context, domain.kms_key_arn)
            except SonantError as fault:
                with self.database.write() as connection:
                    self._postpone(connection, domain, fault)
                continue
            with self.database.write() as connection:
                changed = domains.finish_key_change(connection, domain, wrapped, self.clock())
            if changed and (old := keys.key_of(domain.data_key_wrapped)) != keys.key_of(wrapped):
                self._retire(domain, old)
            done += changed
        return done

    def _retire(self, domain: domains.Domain, key_arn: str) -> None:
        """Give a key back that the domain no longer needs; a key that is gone has taken its grants along."""
        try:
            self.keys_of(domain.account_id, domain.region).retire(key_arn, encryption_context(domain.arn))
        except KeyNotFound:
            return
        except SonantError as fault:
            log.warning("domain %s: the grant on %s is left: %s", domain.domain_id, key_arn, fault)

    def _postpone(self, connection: Connection, domain: domains.Domain, fault: SonantError) -> None:
        # Callers read the message: other faults may name files of this machine.
        known = isinstance(fault, KeyError_)
        message = str(fault) if known else "the key cannot be read; the service's log tells why"
        if domain.update_attempts < len(KEY_CHANGE_PAUSES):
            due = self.clock() + KEY_CHANGE_PAUSES[domain.update_attempts]
            domains.postpone_key_change(connection, domain, message, due)
        else:
            log.warning("domain %s: its key could not be changed: %s", domain.domain_id, fault)
            domains.fail_key_change(connection, domain, message, self.clock())

    def erase_domains(self) -> int:
        """Erase what was suspended 30 days ago or longer."""
        now = self.clock()
        with self.database.write() as connection:
            lost = domains.list_to_be_erased(connection, now)
            erased = domains.erase_suspended(connection, now)
        if erased:
            self.database.truncate_wal()
        for domain in lost:
            self._retire(domain, domain.kms_key_arn)
        return erased

    def forget_repetitions(self) -> int:
        """Keep as many comparisons of repeated enrollments as calibration reads."""
        with self.database.write() as connection:
            return calibrations.delete_old_repeated_enrollments(connection, KEPT_REPETITIONS)

    def check_database(self) -> bool:
        """Look for damage to the database's file; whether there is any. Metrics and the log tell of it.

        A file too large to be looked at in the time that this may take is left to `sonant doctor`. PostgreSQL
        looks after its own files: nothing is asked.
        """
        if not self.database.is_file:
            return False
        try:
            damage = self.database.find_damage(CHECK_S)
        except CheckUnfinished as fault:
            log.info("%s: run `sonant doctor` for that", fault)
            return False
        if damage is not None:
            log.error("%s", damage)
        with self.database.write() as connection:
            counters.put(connection, counters.DAMAGED, float(damage is not None))
        return damage is not None

    def expire_speakers(self) -> int:
        """Expire speakers unused for three years: the voiceprint goes, the entry stays.

        A domain whose key cannot be used, and a speaker whose row is damaged, are left for the next sweep.
        """
        expired = 0
        before = years_before(self.clock(), EXPIRY_YEARS)
        with self.database.read() as connection:
            due = domains.with_speakers_unused_since(connection, before)
        for domain in due:
            try:
                keys = self.keys_of(domain.account_id, domain.region)
                vault = open_vault(keys, domain.domain_id, domain.arn, domain.data_key_wrapped)
            except SonantError as fault:
                log.warning("domain %s: speakers could not be expired: %s", domain.domain_id, fault)
                continue
            done, damaged = self._expire_in(domain, vault, before)
            expired += done
            if damaged:
                log.warning(
                    "domain %s: %d speakers could not be expired: what is stored of them is damaged",
                    domain.domain_id,
                    damaged,
                )
        if expired:
            self.database.truncate_wal()
        return expired

    def _expire_in(self, domain: domains.Domain, vault: Vault, before: datetime) -> tuple[int, int]:
        """(expired, damaged) speakers of one domain; the damaged are counted and stay as they are."""
        expired = damaged = 0
        after = ""
        while True:
            with self.database.write() as connection:
                domains.lock(connection, domain.domain_id)
                batch = speakers.list_unused_since(connection, domain.domain_id, before, after, BATCH)
                broken = sum(not self._expire(connection, vault, speaker) for speaker in batch)
                counters.add(connection, {(counters.NOT_EXPIRED, ""): broken})
            expired += len(batch) - broken
            damaged += broken
            if len(batch) < BATCH:
                return expired, damaged
            after = batch[-1].speaker_id

    def _expire(self, connection: Connection, vault: Vault, speaker: speakers.Speaker) -> bool:
        try:
            speakers.delete_voice(connection, vault, speaker, "EXPIRED", self.clock())
        except SealBroken:
            return False
        return True


def years_before(moment: datetime, years: int) -> datetime:
    """The same date `years` earlier; 29 February becomes the 28th where there is none."""
    try:
        return moment.replace(year=moment.year - years)
    except ValueError:
        return moment.replace(year=moment.year - years, day=28)
