"""Limit how often voices are compared with one speaker in vain.

A miss is a comparison that scores less than the installation's acceptance threshold, or is rejected. Misses
are counted for each speaker and principal (the probe budget), and for each speaker and all principals of the
account together; rejections for each speaker, whoever asked (the lock). All of it is rows of the database, in
the transaction that stores the answer: processes share them, and they survive restarts. Ten rejections are
what NIST SP 800-63B, section 5.2.3, allows in a row where attacks by recordings are detected.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from sonant.errors import ProbeBudgetUsed, SpeakerLocked
from sonant.events.documents import Event, EventDomain, ProtectionAction, speaker_protection_event
from sonant.settings import Settings
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import counters, score_misses
from sonant.voice.sample import VoiceSample

log = logging.getLogger(__name__)

DRY_RUN = "dry run"
"""Stands for the principal of all dry runs: a job does not store the principal who started it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _UsedBudget:
    """A budget without room for another miss."""

    budget: int
    until: datetime
    """When there is room again."""
    by_account: bool = False
    """Whether it is that of all principals of the account together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreLimits:
    """The limits of one request or job."""

    settings: Settings
    now: datetime
    principal_arn: str
    limited: bool = True
    """Whether the probe budget holds: not for those who may read exact scores."""

    def is_miss(self, score: int) -> bool:
        """Return whether a score is below the installation's acceptance threshold."""
        return score < self.settings.live.acceptance_threshold

    def require(self, connection: Connection, speaker_id: str) -> None:
        """Require that a voice may be compared with the speaker. Raises SpeakerLocked, ProbeBudgetUsed."""
        scores = self.settings.scores
        locked_until = self._locked_until(connection, speaker_id)
        if locked_until is not None:
            raise SpeakerLocked(scores.lock_rejects, scores.lock_h, locked_until)
        used = self._used(connection, speaker_id)
        if used is not None:
            raise ProbeBudgetUsed(used.budget, scores.probes_days, used.until, account=used.by_account)

    def count_miss(
        self, connection: Connection, domain: EventDomain, speaker_id: str, probe: bytes, *, rejected: bool
    ) -> list[Event]:
        """Store a miss. Returns events for the outbox when it locks the speaker or uses the budget up."""
        scores = self.settings.scores
        budgeted = self.limited and (scores.probes_per_speaker > 0 or scores.probes_per_account > 0)
        if not budgeted and not (rejected and scores.lock_rejects):
            return []
        new = score_misses.add(
            connection,
            speaker_id=speaker_id,
            principal_arn=self.principal_arn,
            probe=probe,
            rejected=rejected,
            budgeted=budgeted,
            now=self.now,
        )
        events = []
        if new and rejected and (until := self._locked_until(connection, speaker_id)) is not None:
            log.warning("domain %s: speaker %s is locked until %s", domain.domain_id, speaker_id, until)
            counters.add(connection, {(counters.LOCKED_SPEAKERS, ""): 1})
            events.append(self._event(domain, "LOCK_SPEAKER", speaker_id, until))
        if new and budgeted and (used := self._used(connection, speaker_id)) is not None:
            log.warning(
                "domain %s: %s may not compare further voices with speaker %s until %s",
                domain.domain_id,
                "nobody of the account" if used.by_account else self.principal_arn,
                speaker_id,
                used.until,
            )
            counters.add(connection, {(counters.PROBE_BUDGETS_USED, ""): 1})
            action: ProtectionAction = "LIMIT_ACCOUNT_PROBES" if used.by_account else "LIMIT_PROBES"
            events.append(self._event(domain, action, speaker_id, used.until))
        return events

    def _event(
        self, domain: EventDomain, action: ProtectionAction, speaker_id: str, until: datetime
    ) -> Event:
        return speaker_protection_event(
            domain, action, speaker_id=speaker_id, principal_arn=self.principal_arn, until=until
        )

    def _locked_until(self, connection: Connection, speaker_id: str) -> datetime | None:
        scores, window = self.settings.scores, timedelta(hours=self.settings.scores.lock_h)
        if not scores.lock_rejects:
            return None
        first = score_misses.nth_newest_rejection(
            connection, speaker_id, scores.lock_rejects, self.now - window
        )
        return None if first is None else first + window

    def _used(self, connection: Connection, speaker_id: str) -> _UsedBudget | None:
        """Find the budget that is used up: the principal's, or the account's if the principal has room."""
        if not self.limited:
            return None
        scores, window = self.settings.scores, timedelta(days=self.settings.scores.probes_days)
        since = self.now - window
        if own := scores.probes_per_speaker:
            first = score_misses.nth_newest(connection, speaker_id, self.principal_arn, own, since)
            if first is not None:
                return _UsedBudget(budget=own, until=first + window)
        if shared := scores.probes_per_account:
            first = score_misses.nth_newest_of_all(connection, speaker_id, shared, since)
            if first is not None:
                return _UsedBudget(budget=shared, until=first + window, by_account=True)
        return None


def probe_digest(vault: Vault, voice: VoiceSample, threshold: int | None = None) -> bytes:
    """Return a keyed hash of a probe, and of the threshold that it was decided by: another threshold tells
    something new about the same voice."""
    content = hashlib.sha256(voice.to_bytes()).hexdigest()
    return vault.lookup(f"probe\n{voice.model_id}\n{threshold}\n{content}")
