"""Upgrade domains from one voice model to another: stored speech is embedded again, in the background.

Runners do this while there is no job; after each batch they look for jobs first. They can be killed at any
point: committed shadows (voiceprints under the new model) stay, the others are made again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from sonant.errors import (
    ClusterUnavailable,
    Conflict,
    DatabaseUnavailable,
    DomainNotActive,
    IntegrityFault,
    KeyError_,
    KeysUnreachable,
    SealBroken,
    SetupError,
    Validation,
)
from sonant.jobs.calibration_cache import CalibrationOf
from sonant.jobs.entry import Role, Task, TaskResult
from sonant.jobs.faults import JobFault, Refusal
from sonant.jobs.window import Engine
from sonant.storage.crypto.vault import Vault
from sonant.storage.database.engine import Database
from sonant.storage.keys.store import KeysOf
from sonant.storage.opening import open_active_domain
from sonant.storage.repositories import domains, jobs, model_upgrades, shadow_voiceprints
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.model_upgrades import ModelUpgrade
from sonant.storage.repositories.shadow_voiceprints import Person
from sonant.voice.calibration.model import Tail
from sonant.voice.models import shipped_encoder_id
from sonant.voice.sample import VoiceSample

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=60)
#: An upgrade that cannot continue (a disabled key, a missing model) is retried after this time.
RETRY = timedelta(minutes=1)
#: Voiceprints made in one transaction.
BATCH = 32
#: Speakers compared with each other for the report.
REPORT_SPEAKERS = 400
#: Two strangers in so many look like one person.
_ALIKE_LOG10 = -3.0
#: The report uses the calibration for so many seconds of speech and dB of noise.
_USUAL_LINE = (30.0, 25.0)
_NOBODY = Role(arn="", policies=())
NO_AUDIO = "no audio was kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUpgrader:
    """Makes shadows, one batch a call of `run_batch`. Not for several threads."""

    database: Database
    keys_of: KeysOf
    engine: Engine
    calibration_of: CalibrationOf
    check_model: Callable[[str | None], object]
    """Checks that a model can be opened. Raises SetupError."""
    clock: Callable[[], datetime]
    owner: str

    def run_batch(self) -> bool:
        """Make some shadows of one upgrade; whether there is more to do."""
        with self.database.read() as connection:
            if not model_upgrades.running(connection):
                return False
        with self.database.write() as connection:
            upgrade = model_upgrades.claim(connection, self.owner, self.clock(), LEASE)
        if upgrade is None:
            return False
        try:
            more = self._batch(upgrade)
        except (ClusterUnavailable, KeyError_, KeysUnreachable, SetupError, JobFault) as fault:
            self._postpone(upgrade, f"it cannot go on: {fault}")
            return False
        except IntegrityFault as fault:
            log.error("domain %s: %s", upgrade.domain_id, fault)
            self._postpone(upgrade, "internal failure; see the service's log")
            return False
        except DatabaseUnavailable:
            raise  # the problem could not be stored either; the runner waits
        except Exception:  # a bug must not end the runner
            log.exception("domain %s: internal failure while its voice model is changed", upgrade.domain_id)
            self._postpone(upgrade, "internal failure; see the service's log")
            return False
        finally:
            self.engine.discard()
        with self.database.write() as connection:
            model_upgrades.release(connection, upgrade.domain_id, self.owner)
        return more

    def _batch(self, upgrade: ModelUpgrade) -> bool:
        new_id = upgrade.new_model_id or shipped_encoder_id()
        # Checked here: in a worker a missing model would look like speech that cannot be processed.
        self.check_model(upgrade.new_model_id)
        with self.database.read() as connection:
            domain, vault = self._open(connection, upgrade.domain_id)
            people = shadow_voiceprints.pending(connection, vault, upgrade.domain_id, new_id, BATCH)
        results = self._embed(people, upgrade.new_model_id)
        with self.database.write() as connection:
            domains.lock(connection, upgrade.domain_id)
            if not model_upgrades.renew(connection, upgrade.domain_id, self.owner, self.clock(), LEASE):
                return False  # it was cancelled, or another runner claimed it
            for person, result in zip(people, results, strict=True):
                sample, problem = _outcome(result)
                shadow_voiceprints.put(connection, person, new_id, sample, problem)
        if people:
            return True
        report = self._report(domain, vault, upgrade)
        with self.database.write() as connection:
            domains.lock(connection, upgrade.domain_id)
            if not shadow_voiceprints.pending(connection, vault, upgrade.domain_id, new_id, 1):
                model_upgrades.ready(connection, upgrade.domain_id, report)
                log.info("domain %s: ready for the voice model %s", upgrade.domain_id, new_id)
        return True

    def _embed(self, people: Sequence[Person], model_id: str | None) -> list[TaskResult | Refusal]:
        results: dict[int, TaskResult | Refusal] = {}
        waiting = 0
        for task_id, person in enumerate(people):
            if person.audio is None:
                results[task_id] = Refusal(404, NO_AUDIO)
                continue
            waiting += 1
            self.engine.submit(
                Task(
                    task_id=task_id,
                    role=_NOBODY,
                    audio=(),
                    need_s=0.0,
                    keep_audio=False,
                    model_id=model_id,
                    stored_audio=person.audio,
                )
            )
        lost = self.engine.workers_lost
        while waiting:
            found = self.engine.results(timeout_s=1.0)
            if not found and self.engine.problem and self.engine.workers_lost > lost:
                raise JobFault(500, self.engine.problem)  # jobs have priority and must not wait for this
            results.update(found)
            waiting -= len(found)
        return [results[task_id] for task_id in range(len(people))]

    def _open(self, connection: Connection, domain_id: str) -> tuple[Domain, Vault]:
        try:
            return open_active_domain(connection, self.keys_of, domain_id)
        except DomainNotActive as fault:
            raise JobFault(409, str(fault)) from None
        except SealBroken:
            raise JobFault(500, "the domain's data key is damaged") from None

    def _report(self, domain: Domain, vault: Vault, upgrade: ModelUpgrade) -> dict[str, Any]:
        with self.database.read() as connection:
            found = shadow_voiceprints.pairs(connection, vault, domain.domain_id, REPORT_SPEAKERS)
        old, new = (np.array([pair[side] for pair in found]) for side in (0, 1))
        tails = [
            self.calibration_of(model_id or shipped_encoder_id()).tail(*_USUAL_LINE)
            for model_id in (upgrade.old_model_id, upgrade.new_model_id)
        ]
        return agreement(old, new, tails[0], tails[1])

    def _postpone(self, upgrade: ModelUpgrade, problem: str) -> None:
        log.warning("domain %s: change of voice model: %s", upgrade.domain_id, problem)
        with self.database.write() as connection:
            model_upgrades.postpone(connection, upgrade.domain_id, problem, self.clock() + RETRY)


def agreement(
    old: NDArray[np.float32], new: NDArray[np.float32], old_tail: Tail, new_tail: Tail
) -> dict[str, Any]:
    """Compare how two models rate the same speakers, rows of `old` [n, d] and `new` [n, e].

    All speakers are different people: `rank_correlation` is Spearman's of their similarities under
    both models; `alike_*` counts pairs more similar than one pair of strangers in 1,000 should be, which a
    model that suits the domain keeps near `alike_expected`.
    """
    count = len(old)
    report: dict[str, Any] = {"speakers": count, "comparisons": count * (count - 1) // 2}
    if count < 3:
        return report
    above = np.triu_indices(count, 1)
    before, after = (rows @ rows.T for rows in (old, new))
    first, second = before[above], after[above]
    alike = [
        similarities >= tail.similarity_at(_ALIKE_LOG10)
        for similarities, tail in ((first, old_tail), (second, new_tail))
    ]
    report["rank_correlation"] = round(_spearman(first, second), 3)
    report["alike_old"], report["alike_new"] = (int(found.sum()) for found in alike)
    report["alike_both"] = int((alike[0] & alike[1]).sum())
    report["alike_expected"] = round(10**_ALIKE_LOG10 * len(first), 1)
    return report


def begin(
    connection: Connection, domain: Domain, model_id: str | None, calibration_of: CalibrationOf,
    now: datetime,
) -> None:  # fmt: skip
    """Start an upgrade, or include the speakers enrolled since in one that is READY.

    Raises SetupError for a model without calibration, Validation when another upgrade is under way.
    """
    calibration_of(model_id or shipped_encoder_id())
    going_on = model_upgrades.find(connection, domain.domain_id)
    if going_on is None:
        model_upgrades.start(connection, domain.domain_id, domain.model_id, model_id, now)
    elif going_on.status == "SWITCHED" or going_on.new_model_id != model_id:
        raise Validation(
            "another change of this domain's voice model is under way; finish or cancel it first"
        )
    else:
        model_upgrades.run_again(connection, domain.domain_id)


def switch(connection: Connection, domain: Domain, now: datetime) -> None:
    """Make the new model the domain's. Raises Validation if the upgrade is not READY, voiceprints were made
    since, or jobs are under way; Conflict if the domain changed meanwhile."""
    upgrade = _at(connection, domain, "READY", "is not ready")
    new_id = upgrade.new_model_id or shipped_encoder_id()
    waiting = sum(
        shadow_voiceprints.counts(connection, domain.domain_id, new_id, who).pending
        for who in shadow_voiceprints.BOTH
    )
    if waiting:
        raise Validation(f"{waiting} voiceprints were made since it was ready: run the upgrade once more")
    _change(connection, domain, upgrade.new_model_id, switched=True, now=now)


def roll_back(connection: Connection, domain: Domain, now: datetime) -> None:
    """Make the old model the domain's again; raises as `switch` does."""
    upgrade = _at(connection, domain, "SWITCHED", "has not been switched")
    _change(connection, domain, upgrade.old_model_id, switched=False, now=now)


def finish(connection: Connection, domain: Domain) -> None:
    """Delete the old model's voiceprints. Raises Validation before the switch."""
    _at(connection, domain, "SWITCHED", "has not been switched")
    model_upgrades.end(connection, domain.domain_id)


def cancel(connection: Connection, domain: Domain) -> None:
    """Cancel an upgrade before the switch. Raises Validation."""
    upgrade = model_upgrades.find(connection, domain.domain_id)
    if upgrade is None or upgrade.status == "SWITCHED":
        raise Validation("there is no change of the voice model that could be called off")
    model_upgrades.end(connection, domain.domain_id)


def use(connection: Connection, domain: Domain, model_id: str | None, calibration_of: CalibrationOf) -> None:
    """Set the model of a domain without voices. Raises SetupError for one without calibration, Validation
    for a domain that holds voices or has jobs under way, Conflict if it changed meanwhile."""
    calibration_of(model_id or shipped_encoder_id())
    if model_upgrades.find(connection, domain.domain_id) is not None:
        raise Validation("a change of this domain's voice model is under way")
    if shadow_voiceprints.has_voiceprints(connection, domain.domain_id):
        raise Validation(
            "the domain has voiceprints of its present voice model; change it with `sonant model upgrade`"
        )
    _require_no_jobs(connection, domain)
    if not domains.set_model(connection, domain, model_id):
        raise Conflict("CONCURRENT_CHANGES")


def _at(connection: Connection, domain: Domain, status: str, otherwise: str) -> ModelUpgrade:
    upgrade = model_upgrades.find(connection, domain.domain_id)
    if upgrade is None:
        raise Validation("no change of this domain's voice model is under way")
    if upgrade.status != status:
        raise Validation(f"the change of the voice model {otherwise}: it is {upgrade.status}")
    return upgrade


def _change(
    connection: Connection, domain: Domain, model_id: str | None, *, switched: bool, now: datetime
) -> None:
    _require_no_jobs(connection, domain)
    model_upgrades.switch(connection, domain.domain_id, switched=switched, now=now)
    if not domains.set_model(connection, domain, model_id):
        raise Conflict("CONCURRENT_CHANGES")


def _require_no_jobs(connection: Connection, domain: Domain) -> None:
    """Refuse while jobs run: a job makes voiceprints of the model that it started with."""
    for kind in (jobs.ENROLLMENT, jobs.REGISTRATION):
        if jobs.count_active(connection, kind, domain.domain_id):
            raise Validation("the domain has jobs under way; try again when they have ended")


def _outcome(result: TaskResult | Refusal) -> tuple[VoiceSample | None, str | None]:
    return (None, result.message) if isinstance(result, Refusal) else (result.sample, None)


def _spearman(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Compute the correlation of the ranks; similarities hardly ever tie."""
    ranks = [np.argsort(np.argsort(values)).astype(np.float64) for values in (first, second)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
