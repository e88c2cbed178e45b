"""Limit how often risks of one known fraudster are told, to one principal and in one account.

A risk that is told says that a voice is near a fraudster's, so it is one inequality about the fraudster's
voiceprint. Risks are counted in the band that they are in, each voice once. When a band is used up, risks in
it and below count as 0 for those who asked: the fraudster is found by a greater risk only. A certain match,
100, is always told and never counted, so that no budget hides a fraudster whose voice is recognized.

    band of the risk      told to one principal              told in the account
    0, under 50           probes_per_fraudster / 10          probes_per_account / 10
    50                    probes_per_fraudster               probes_per_account
    75                    probes_per_fraudster x 10          probes_per_account x 10
    100                   always                             always

Risks under 50 are told by jobs that ask for them. They cost ten times as much, because ten answers at a line
that one stranger in two reaches say as much as a hundred at one that one in a hundred reaches. Risks from 75
on cost a tenth: a fraudster who calls again and again must still be found, and who probes must be near first.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import Connection

from sonant.events.documents import Event, EventDomain, fraudster_protection_event
from sonant.jobs.fraud import KNOWN_FRAUDSTER, Risk
from sonant.settings import Settings
from sonant.storage.repositories import counters, fraudster_probes
from sonant.voice.disclosure import RISK_BANDS, coarse_score

log = logging.getLogger(__name__)

JOBS = "jobs"
"""Stands for the principal of all jobs: a job does not store the principal who started it."""
CALLS = "enrollments from calls"
"""Stands for the principal of all enrollments from live calls, likewise."""

#: How many risks of the lowest and the greatest band a budget allows, beside those of the middle one.
_LOWEST, _GREATEST = 0.1, 10

_WhoseBudget = Literal["LIMIT_PROBES", "LIMIT_ACCOUNT_PROBES"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskLimits:
    """The limits of one request or job."""

    settings: Settings
    now: datetime
    principal_arn: str
    limited: bool = True
    """Whether the budgets hold: not for those who may read exact scores."""

    def apply(
        self,
        connection: Connection,
        domain: EventDomain,
        risk: Risk,
        probe: bytes,
        *,
        threshold: int,
        exact_within: int = 0,
    ) -> tuple[Risk, list[Event]]:
        """Count a risk that will be told, and return it as it may be told and decided by.

        A risk whose budget is used up becomes 0, without a name. Returns events for the outbox when this
        answer uses a budget up. `probe` is a keyed hash of the voice (`score_limits.probe_digest`);
        `exact_within` is how far from the threshold the risk is told exactly.
        """
        if not self.limited or risk.name != KNOWN_FRAUDSTER or risk.fraudster_id is None:
            return risk, []
        band = coarse_score(risk.score, RISK_BANDS)
        told = coarse_score(risk.score, RISK_BANDS, threshold=threshold, exact_within=exact_within)
        if band == RISK_BANDS[-1] or not told:
            return risk, []
        if self._used_up(connection, risk.fraudster_id, band):
            return replace(risk, score=0, fraudster_id=None), []
        new = fraudster_probes.add(
            connection,
            fraudster_id=risk.fraudster_id,
            principal_arn=self.principal_arn,
            probe=probe,
            band=band,
            now=self.now,
        )
        used = self._used_up(connection, risk.fraudster_id, band) if new else None
        return risk, [] if used is None else [self._report(connection, domain, risk.fraudster_id, used)]

    def _used_up(self, connection: Connection, fraudster_id: str, band: int) -> _WhoseBudget | None:
        """Return whose budget of this band, or of a greater one, is used up; None while there is room."""
        scores = self.settings.scores
        since = self.now - timedelta(days=scores.probes_days)
        budgets: tuple[tuple[_WhoseBudget, int, str | None], ...] = (
            ("LIMIT_PROBES", scores.probes_per_fraudster, self.principal_arn),
            ("LIMIT_ACCOUNT_PROBES", scores.probes_per_account, None),
        )
        for whose, budget, principal_arn in budgets:
            if not budget:
                continue
            told = fraudster_probes.count(connection, fraudster_id, since, principal_arn=principal_arn)
            if any(told.get(one, 0) >= room(budget, one) for one in RISK_BANDS[:-1] if one >= band):
                return whose
        return None

    def _report(
        self, connection: Connection, domain: EventDomain, fraudster_id: str, used: _WhoseBudget
    ) -> Event:
        log.warning(
            "domain %s: %s was told as many risks of fraudster %s as %s allows; from now on smaller ones "
            "count as 0",
            domain.domain_id,
            self.principal_arn,
            fraudster_id,
            "scores.probes_per_fraudster" if used == "LIMIT_PROBES" else "scores.probes_per_account",
        )
        counters.add(connection, {(counters.FRAUDSTER_BUDGETS_USED, ""): 1})
        return fraudster_protection_event(
            domain,
            used,
            fraudster_id=fraudster_id,
            principal_arn=self.principal_arn,
            until=self.now + timedelta(days=self.settings.scores.probes_days),
        )


def room(budget: int, band: int) -> int:
    """Return how many risks of a band, 0, 50 or 75, a budget allows; at least one."""
    factor = {RISK_BANDS[0]: _LOWEST, RISK_BANDS[-2]: _GREATEST}.get(band, 1)
    return max(1, int(budget * factor))
