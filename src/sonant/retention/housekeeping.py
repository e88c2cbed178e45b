"""Do what is due with time: carry out key changes, delete what `rules` lists, look after the database.

Runs in a thread beside the runner. What a step does depends on the wall clock that it is given; when it runs
depends on the monotonic clock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection

from sonant.errors import (
    CheckUnfinished,
    DatabaseUnavailable,
    DomainNotActive,
    IntegrityFault,
    KeyError_,
    KeyNotFound,
    KeysUnreachable,
    SealBroken,
    SetupError,
    SonantError,
)
from sonant.events import outbox
from sonant.retention import rules
from sonant.retention.ledger import DeletionLedger, DestroyedKey, LedgerEntry, LedgerTransaction
from sonant.retention.sessions import SessionKeeper
from sonant.settings import Settings
from sonant.storage.crypto.vault import Vault, encryption_context
from sonant.storage.database.engine import Database
from sonant.storage.keys.store import KeysOf
from sonant.storage.opening import vault_of
from sonant.storage.repositories import (
    access,
    calibrations,
    callers,
    counters,
    domains,
    erasure,
    fraudster_probes,
    jobs,
    score_misses,
    speakers,
    templates,
)
from sonant.storage.template_renewal import TemplateRenewer
from sonant.storage.times import ClockWatch

log = logging.getLogger(__name__)

#: Pauses before a failed key change is retried (AWS docs: at once, after 5 minutes, after 15 minutes).
KEY_CHANGE_PAUSES = (timedelta(minutes=5), timedelta(minutes=15))
#: Seconds between looks at key changes, and between most other steps.
TICK_S = 1.0
SWEEP_S = 24 * 3600.0
#: Seconds between truncations of the write-ahead log, which may have failed when something was deleted.
SCRUB_S = 60.0
#: Seconds between deletions of old events.
EVENTS_S = 600.0
#: The longest check of the database's file for damage, once a sweep.
CHECK_S = 20.0
#: Seconds between looks at silent streams, and between deletions of old sessions.
SILENT_S = 5.0
SESSIONS_S = 15 * 60.0
#: Seconds after a jump of the clock in which nothing is deleted, and in which no stream is ended: processes
#: that listen renew their streams within a second, by the same clock.
SETTLED_S = 3600.0
HEARD_AGAIN_S = 60.0
#: Seconds until a failed step is retried, and one for which there was no database.
RETRY_S = 60.0
AWAY_S = 10.0
#: Seconds between looks at templates to protect, and rows moved each time (about five seconds' work).
TEMPLATES_S = 60.0
MOVED_AT_ONCE = 2000
#: Speakers expired in one transaction.
BATCH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step of the housekeeping."""

    name: str
    """Its name in the log."""
    every_s: float
    run: Callable[[], object]
    settled_s: float = 0.0
    """It waits until the wall clock has not jumped for so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Housekeeper:
    """Each step's method does what is due now and returns how much it did."""

    database: Database
    keys_of: KeysOf
    clock: Callable[[], datetime]
    settings: Settings = field(default_factory=Settings)
    sinks: Sequence[str] = ()
    """Names of the sinks that take events."""
    sessions: SessionKeeper | None = None
    """None: there are no live calls."""
    ledger: DeletionLedger | None = None
    """Where the erasure of domains is recorded; None with the ledger switched off."""
    renewer: TemplateRenewer | None = None
    """Protects the templates of domains of earlier releases, and finishes renewals that were killed."""
    monotonic_s: Callable[[], float] = time.monotonic
    """Decides when a step is due: the wall clock may jump."""

    def run(self, stop: threading.Event) -> None:
        """Run steps until `stop` is set."""
        due_at_s: dict[str, float] = {}
        watch = ClockWatch(self.clock, self.monotonic_s)
        while True:
            self.turn(due_at_s, watch.steady_s())
            if stop.wait(TICK_S):
                return

    def turn(self, due_at_s: dict[str, float], steady_s: float = float("inf")) -> None:
        """Run the steps that are due, and record when each is due again, by the monotonic clock.

        A failed step is logged and retried later; it does not block the others. `steady_s` is how long the
        wall clock has not jumped: what cannot be undone is not done by a clock that may be wrong.
        """
        for step in self.steps():
            if self.monotonic_s() < due_at_s.get(step.name, float("-inf")):
                continue
            every_s = step.every_s
            if steady_s < step.settled_s:
                log.warning("%s waits: the clock has jumped; trying again in %.0f s", step.name, RETRY_S)
                due_at_s[step.name] = self.monotonic_s() + RETRY_S
                continue
            try:
                step.run()
            except DatabaseUnavailable as fault:
                log.warning("%s: %s; trying again in %.0f s", step.name, fault, AWAY_S)
                every_s = AWAY_S
            except IntegrityFault as fault:
                log.error("%s: %s; trying again in %.0f s", step.name, fault, RETRY_S)
                every_s = RETRY_S
            except Exception:
                log.exception("%s failed; trying again in %.0f s", step.name, RETRY_S)
                every_s = RETRY_S
            due_at_s[step.name] = self.monotonic_s() + every_s

    def steps(self) -> tuple[Step, ...]:
        """List the steps in the order in which they run."""
        return (
            Step(name="key changes", every_s=TICK_S, run=self.change_keys),
            Step(name="erasing domains", every_s=SWEEP_S, settled_s=SETTLED_S, run=self.erase_domains),
            Step(name="expiring speakers", every_s=SWEEP_S, settled_s=SETTLED_S, run=self.expire_speakers),
            Step(name="forgetting comparisons", every_s=SWEEP_S, run=self.forget_repetitions),
            Step(name="forgetting deletions", every_s=SWEEP_S, settled_s=SETTLED_S, run=self.forget_erased),
            Step(name="forgetting misses", every_s=SWEEP_S, settled_s=SETTLED_S, run=self.forget_misses),
            Step(name="purging events", every_s=EVENTS_S, settled_s=SETTLED_S, run=self.purge_events),
            Step(name="forgetting tokens", every_s=SWEEP_S, settled_s=SETTLED_S, run=self.forget_tokens),
            Step(name="deleting requests of ended jobs", every_s=EVENTS_S, run=self.delete_ended_requests),
            Step(name="emptying the log", every_s=SCRUB_S, run=self.database.truncate_wal),
            Step(name="checking the database", every_s=SWEEP_S, run=self.check_database),
            Step(name="protecting templates", every_s=TEMPLATES_S, run=self.protect_templates),
            *self._session_steps(),
        )

    def _session_steps(self) -> tuple[Step, ...]:
        keeper = self.sessions
        if keeper is None:
            return ()
        silent_name, pending_name = "ending silent streams", "forgetting speakers without a session"
        return (
            Step(name=silent_name, every_s=SILENT_S, settled_s=HEARD_AGAIN_S, run=keeper.end_silent),
            Step(name="erasing sessions", every_s=SESSIONS_S, settled_s=SETTLED_S, run=keeper.erase_old),
            Step(name=pending_name, every_s=SESSIONS_S, settled_s=SETTLED_S, run=keeper.forget_pending),
        )

    def cutoff(self, rule: rules.Rule) -> datetime | None:
        """Compute the moment by which a rule deletes now; None for never."""
        return rule.cutoff(self.clock(), self.settings)

    def change_keys(self) -> int:
        """Wrap the data keys of domains whose KMS key was changed."""
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
        """Give back the grant on a key that the domain no longer needs; a deleted key has no grants."""
        try:
            self.keys_of(domain.account_id, domain.region).retire(key_arn, encryption_context(domain.arn))
        except KeyNotFound:
            return
        except SonantError as fault:
            log.warning("domain %s: the grant on %s is left: %s", domain.domain_id, key_arn, fault)

    def _postpone(self, connection: Connection, domain: domains.Domain, fault: SonantError) -> None:
        # Callers can read the message: other faults may name files of this host.
        known = isinstance(fault, KeyError_)
        message = str(fault) if known else "the key cannot be read; the service's log tells why"
        if domain.update_attempts < len(KEY_CHANGE_PAUSES):
            due = self.clock() + KEY_CHANGE_PAUSES[domain.update_attempts]
            domains.postpone_key_change(connection, domain, message, due)
        else:
            log.warning("domain %s: its key could not be changed: %s", domain.domain_id, fault)
            domains.fail_key_change(connection, domain, message, self.clock())

    def erase_domains(self) -> int:
        """Erase suspended domains (`rules.SUSPENDED_DOMAIN`)."""
        by = self.cutoff(rules.SUSPENDED_DOMAIN)
        if by is None:
            return 0
        entries = LedgerTransaction(self.ledger)
        with entries, self.database.write() as connection, entries.before_commit():
            due = domains.list_suspended(connection, by)
            for domain in due:
                self._record_erasure(entries, domain)
            erased = domains.erase_suspended(connection, by)
        if erased:
            self.database.truncate_wal()
        for domain in due:
            self._retire(domain, domain.kms_key_arn)
        return erased

    def _record_erasure(self, entries: LedgerTransaction, domain: domains.Domain) -> None:
        if entries.key is None:
            return
        key = DestroyedKey(kind="domain", wrapped=entries.key.destroyed(domain.data_key_wrapped))
        entries.add(
            LedgerEntry(
                what="ERASE_DOMAIN",
                at=self.clock(),
                domain=entries.key.domain(domain.domain_id),
                keys=(key,),
            )
        )

    def forget_repetitions(self) -> int:
        """Delete old similarities of repeated enrollments (`rules.REPETITIONS`)."""
        newest = rules.REPETITIONS.newest
        if newest is None:
            return 0
        with self.database.write() as connection:
            return calibrations.delete_old_repeated_enrollments(connection, newest)

    def forget_erased(self) -> int:
        """Delete what is remembered of speakers who were deleted long ago (`rules.ERASED_SPEAKER`)."""
        by = self.cutoff(rules.ERASED_SPEAKER)
        if by is None:
            return 0
        with self.database.write() as connection:
            return erasure.delete_old_erased(connection, by)

    def forget_misses(self) -> int:
        """Delete old comparisons that did not match, and answers about fraudsters (`rules.SCORE_MISS`)."""
        before = self.cutoff(rules.SCORE_MISS)
        if before is None:
            return 0
        with self.database.write() as connection:
            told = fraudster_probes.delete_before(connection, before)
            return told + score_misses.delete_before(connection, before)

    def purge_events(self) -> tuple[int, int]:
        """Delete old events: how many that all sinks had taken, and how many that one had not."""
        delivered, undelivered = self.cutoff(rules.DELIVERED_EVENT), self.cutoff(rules.UNDELIVERED_EVENT)
        if delivered is None:
            return 0, 0
        with self.database.write() as connection:
            purged, dropped = outbox.purge(connection, self.sinks, delivered, undelivered)
        if dropped:
            days = self.settings.events.give_up_days
            log.error("%d events were dropped: not taken by a sink for %g days", dropped, days)
        return purged, dropped

    def forget_tokens(self) -> int:
        """Delete old client tokens and expired temporary credentials."""
        done = 0
        for rule, delete in (
            (rules.CLIENT_TOKEN, callers.delete_client_tokens),
            (rules.TEMPORARY_CREDENTIAL, access.delete_expired),
        ):
            by = self.cutoff(rule)
            if by is not None:
                with self.database.write() as connection:
                    done += delete(connection, by)
        return done

    def delete_ended_requests(self) -> int:
        """Delete the requests of jobs that have ended whose runner was killed before it did.

        Returns how many jobs.
        """
        done = 0
        while True:
            with self.database.read() as connection:
                job_id = jobs.find_ended_with_entries(connection)
            if job_id is None:
                return done
            position: int | None = 0
            while position is not None:
                with self.database.write() as connection:
                    position = jobs.delete_entries(connection, job_id, position)
            done += 1

    def check_database(self) -> bool:
        """Check the database's file for damage; whether there is any. Metrics and the log report it.

        A file too large for the time limit is left to `sonant doctor`. PostgreSQL checks its own files.
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

    def protect_templates(self) -> int:
        """Move some rows of domains whose templates are unprotected, or whose renewal was not finished.

        Returns how many rows were moved. A domain whose key cannot be used is left for the next time.
        """
        if self.renewer is None:
            return 0
        with self.database.read() as connection:
            due = templates.list_due(connection)
        moved = 0
        for domain_id in due:
            try:
                moved += self.renewer.renew(domain_id, most=MOVED_AT_ONCE).moved
            except (DomainNotActive, IntegrityFault, KeyError_, KeysUnreachable, SetupError) as fault:
                log.warning("domain %s: its templates could not be protected: %s", domain_id, fault)
        return moved

    def expire_speakers(self) -> int:
        """Expire unused speakers (`rules.UNUSED_SPEAKER`): the voiceprint is deleted, the entry stays.

        A domain whose key cannot be used, and a speaker whose row is damaged, are left for the next sweep.
        """
        expired = 0
        before = self.cutoff(rules.UNUSED_SPEAKER)
        if before is None:
            return 0
        with self.database.read() as connection:
            due = domains.with_speakers_unused_since(connection, before)
        for domain in due:
            try:
                vault = vault_of(self.keys_of, domain)
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
        """Expire one domain's speakers: how many, and how many are damaged; these are counted and stay."""
        expired = damaged = 0
        after = ""
        while True:
            with self.database.write() as connection:
                domains.lock(connection, domain.domain_id)
                ids, whole = speakers.list_unused_since(connection, domain.domain_id, before, after, BATCH)
                done = sum(self._expire(connection, vault, speaker) for speaker in whole)
                broken = len(ids) - done
                counters.add(connection, {(counters.NOT_EXPIRED, ""): broken})
            expired += done
            damaged += broken
            if len(ids) < BATCH:
                return expired, damaged
            after = ids[-1]

    def _expire(self, connection: Connection, vault: Vault, speaker: speakers.Speaker) -> bool:
        try:
            speakers.delete_voice(connection, vault, speaker, "EXPIRED", self.clock())
        except (IntegrityFault, SealBroken):
            return False
        return True
