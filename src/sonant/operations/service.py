"""Define the arguments of every operation: the parts of the service, and the caller."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from sonant.audit.verification import ChainReport
from sonant.errors import (
    AccessDenied,
    Conflict,
    DatabaseUnavailable,
    KeyError_,
    ModelledError,
    ObjectDenied,
    ResourceNotFound,
    SealBroken,
    SonantError,
)
from sonant.events.documents import AbsentDomain, Event, EventDomain
from sonant.events.error_info import INTERNAL_ERROR, ErrorInfo
from sonant.events.outbox import Outbox
from sonant.iam import OWN, Context, facts_about
from sonant.jobs.calibration_cache import CalibrationOf
from sonant.jobs.entry import Role
from sonant.jobs.risk_limits import RiskLimits
from sonant.jobs.score_limits import ScoreLimits
from sonant.metrics import DecisionMetrics
from sonant.retention.ledger import DeletionLedger, LedgerTransaction
from sonant.sessions.risks import FraudIndexes
from sonant.settings import Fraud, Settings
from sonant.storage.crypto.service_secret import ServiceSecret
from sonant.storage.crypto.vault import Vault
from sonant.storage.database.engine import Database
from sonant.storage.keys.store import KeysOf
from sonant.storage.objects.store import RoleObjects
from sonant.storage.opening import vault_of
from sonant.storage.repositories import domains
from sonant.storage.repositories.access import Principal
from sonant.voice.calibration.file import calibration_of
from sonant.voice.sample import VoiceSample

#: The right to exact similarities and scores of stored voices. As powerful as `sonant:ExportSpeaker`: some
#: hundred exact scores give a voiceprint.
READ_EXACT_SCORES = f"{OWN}:ReadExactScores"

Request = dict[str, Any]
Answer = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The signer of a request."""

    principal: Principal
    region: str
    """The Region that it was signed for. Resources of other Regions do not exist for it."""
    context: Context = field(default_factory=dict)
    """Facts of this request for conditions in policies: time, address, principal."""
    operation_context: Context = field(default_factory=dict)
    """Facts of its operation and the resource of it: their tags. Only actions on that resource read them."""
    signature: str = field(default="", repr=False)
    """The request's signature; empty for a call from inside the process."""

    @property
    def account_id(self) -> str:
        return self.principal.account_id

    def may(self, action: str, resource: str, *, domain_arn: str | None = None) -> bool:
        """Return whether the policies allow an action; `domain_arn` is the domain that a key is used for."""
        evaluator = self.principal.evaluator
        if evaluator.unconditional:
            return evaluator.allows(action, resource)
        facts = facts_about(
            action,
            request=self.context,
            operation=self.operation_context,
            region=self.region,
            account_id=self.account_id,
            domain_arn=domain_arn,
        )
        return evaluator.allows(action, resource, facts)

    def require(self, action: str, resource: str, *, domain_arn: str | None = None) -> None:
        """Require that the caller's policies allow an action. Raises AccessDenied with AWS's text."""
        if not self.may(action, resource, domain_arn=domain_arn):
            raise AccessDenied(
                f"User: {self.principal.arn} is not authorized to perform: {action} on resource: {resource}"
            )


def require_tight(
    caller: Caller, domain: domains.Domain, name: str, threshold: int | None, least: int
) -> None:
    """Require the right to exact scores for a threshold under `least`. Raises AccessDenied.

    A decision at a threshold that many strangers reach says of every voice how similar it is.
    """
    if threshold is None or threshold >= least or caller.may(READ_EXACT_SCORES, domain.arn):
        return
    raise AccessDenied(
        f"{name} {threshold} needs {READ_EXACT_SCORES} on {domain.arn}: without it, the least is {least}, by "
        "the settings scores"
    )


class Listener(Protocol):
    """Analyzes recordings in a worker process (see `assembly.workers`)."""

    def analyse(
        self,
        role_arn: str,
        s3_uri: str,
        channel: int,
        need_s: float,
        model_id: str | None = None,
        domain: domains.Domain | None = None,
    ) -> VoiceSample:
        """Embed a recording's first speech. Raises Validation or AccessDenied with the recording's fault.

        `model_id` is the voice model, None the one that ships with Sonant; `domain` is that of the request.
        """
        ...


class Live(Protocol):
    """Processes live calls (see `sessions.manager`)."""

    def session_changed(self, session_id: str) -> None:
        """Note that a session was changed in the store. Never blocks."""
        ...


class NoCalls:
    """Stands in for `Live` in a process without live calls."""

    def session_changed(self, session_id: str) -> None:
        pass


#: Opens the object store with the rights of a role.
ObjectsOf = Callable[[Role], RoleObjects]


def no_objects(role: Role) -> RoleObjects:
    """Stand in for `ObjectsOf` in a process that reads no objects. Raises ObjectDenied."""
    raise ObjectDenied(f"this process reads no objects with the rights of {role.arn}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The parts of the service that operations use, built once by the assembly."""

    settings: Settings
    database: Database
    keys_of: KeysOf
    secret: ServiceSecret
    listener: Listener
    clock: Callable[[], datetime]
    outbox: Outbox = field(default_factory=Outbox)
    calibration_of: CalibrationOf = calibration_of
    """The calibration that comes with a voice model."""
    live: Live = field(default_factory=NoCalls)
    fraud_indexes: FraudIndexes = field(default_factory=lambda: FraudIndexes(Fraud().replay_recordings))
    """Fraudster galleries and replay detectors that live calls are compared with."""
    objects_of: ObjectsOf = no_objects
    """Opens the object store with the rights of a role."""
    check_trail: Callable[[], Sequence[ChainReport]] = tuple
    """Checks every chain of the audit trail; without a trail there is none."""
    ledger: DeletionLedger | None = None
    """Where deletions and opt-outs are recorded; None with the ledger switched off."""
    decisions: DecisionMetrics | None = None
    """Counts new decisions of EvaluateSession; None without metrics."""

    def ledger_transaction(self) -> LedgerTransaction:
        """Begin to record what a transaction deletes (see `LedgerTransaction`)."""
        return LedgerTransaction(self.ledger)

    @contextmanager
    def open_domain(
        self, caller: Caller, domain_id: str, *, write: bool, snapshot: bool = True
    ) -> Iterator[tuple[Connection, domains.Domain, Vault]]:
        """Begin a transaction and open an active domain that the caller may use.

        Without `snapshot`, for reads of a single row, rows may be of moments after that of the domain's.
        Raises ResourceNotFound DOMAIN (absent, or suspended and `write` not set: the service model gives
        reading operations no conflict), Conflict DOMAIN_NOT_ACTIVE (suspended and `write` set), AccessDenied
        (the domain's key).
        """
        reads = self.database.read if snapshot else self.database.read_rows
        begin = self.database.write if write else reads
        with begin() as connection:
            domain = self.require_domain(connection, caller, domain_id, lock=write)
            if not domain.active:
                if write:
                    raise Conflict("DOMAIN_NOT_ACTIVE")
                raise ResourceNotFound("DOMAIN")
            yield connection, domain, self.open_vault(caller, domain)

    def require_domain(
        self, connection: Connection, caller: Caller, domain_id: str, *, lock: bool = False
    ) -> domains.Domain:
        region = caller.region
        if lock:
            domain = domains.find(connection, caller.account_id, region, domain_id, lock=True)
        else:
            memory = self.database.read_cache(connection)
            key = ("domain", caller.account_id, region, domain_id)
            if key not in memory:
                memory[key] = domains.find(connection, caller.account_id, region, domain_id)
            domain = memory[key]
        if domain is None:
            raise ResourceNotFound("DOMAIN")
        return domain

    @contextmanager
    def failure_events(
        self,
        caller: Caller,
        domain_id: str,
        event: Callable[[Connection, EventDomain, ErrorInfo], Event],
    ) -> Iterator[None]:
        """Report a refusal or failure by an event in its own transaction, since that of the call is undone.

        `event` gets an `AbsentDomain` when the account has no domain of this id.
        """
        try:
            yield
        except ModelledError as error:
            self._put_failure(
                caller, domain_id, event, ErrorInfo.of_code(error.http_status, error.message or "")
            )
            raise
        except DatabaseUnavailable:
            raise
        except Exception:
            with suppress(SonantError, SQLAlchemyError):  # the failure itself counts, not that of its event
                self._put_failure(caller, domain_id, event, INTERNAL_ERROR)
            raise

    def _put_failure(
        self,
        caller: Caller,
        domain_id: str,
        event: Callable[[Connection, EventDomain, ErrorInfo], Event],
        error: ErrorInfo,
    ) -> None:
        if not self.outbox.enabled:
            return
        account_id, region = caller.account_id, caller.region
        with self.database.write() as connection:
            domain: EventDomain | None = domains.find(connection, account_id, region, domain_id)
            if domain is None:
                domain = AbsentDomain(domain_id=domain_id, account_id=account_id, region=region)
            self.outbox.put(connection, [event(connection, domain, error)], self.clock())

    def tags_of(self, caller: Caller, domain_id: str) -> dict[str, str]:
        """Read a domain's tags for conditions on aws:ResourceTag.

        A domain that is absent or cannot be opened has none, so that such a condition does not hold.
        """
        with self.database.read() as connection:
            domain = domains.find(connection, caller.account_id, caller.region, domain_id)
        if domain is None:
            return {}
        try:
            return domain.tags(vault_of(self.keys_of, domain))
        except KeyError_:
            return {}

    def score_limits(self, caller: Caller, domain: domains.Domain) -> ScoreLimits:
        """Build the limits of a caller's comparisons; those who may read exact scores have no budget."""
        return ScoreLimits(
            settings=self.settings,
            now=self.clock(),
            principal_arn=caller.principal.arn,
            limited=not caller.may(READ_EXACT_SCORES, domain.arn),
        )

    def risk_limits(self, caller: Caller, domain: domains.Domain) -> RiskLimits:
        """Build the limits of a caller's answers about known fraudsters, likewise."""
        return RiskLimits(
            settings=self.settings,
            now=self.clock(),
            principal_arn=caller.principal.arn,
            limited=not caller.may(READ_EXACT_SCORES, domain.arn),
        )

    def open_vault(self, caller: Caller, domain: domains.Domain) -> Vault:
        """Open the domain's vault. Raises AccessDenied if the caller may not use its key, or nobody can."""
        caller.require("kms:Decrypt", domain.kms_key_arn, domain_arn=domain.arn)
        try:
            return vault_of(self.keys_of, domain)
        except SealBroken:
            raise
        except KeyError_ as fault:
            raise AccessDenied(f"The domain's KMS key cannot be used: {fault}") from None
