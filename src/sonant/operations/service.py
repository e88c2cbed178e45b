"""What every operation is given: the parts it works on, and who calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from sonant.errors import (
    AccessDenied,
    Conflict,
    DatabaseUnavailable,
    KeyError_,
    ModelledError,
    ResourceNotFound,
    SealBroken,
    SonantError,
)
from sonant.events.documents import INTERNAL_ERROR, AbsentDomain, ErrorInfo, Event, EventDomain
from sonant.events.outbox import Outbox
from sonant.iam import Context
from sonant.jobs.calibration_cache import CalibrationOf
from sonant.sessions.risks import FraudIndexes
from sonant.settings import Fraud, Settings
from sonant.storage.crypto.vault import ServiceSecret, Vault, open_vault
from sonant.storage.database.engine import Database
from sonant.storage.keys.store import KeysOf
from sonant.storage.repositories import domains
from sonant.storage.repositories.access import Principal
from sonant.voice.calibration.file import calibration_of

Request = dict[str, Any]
Answer = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who signed the request."""

    principal: Principal
    region: str
    """The Region that it was signed for: what is in others is not there."""
    context: Context = field(default_factory=dict)
    """What conditions of policies may ask about this call."""

    @property
    def account_id(self) -> str:
        return self.principal.account_id

    def may(self, action: str, resource: str) -> bool:
        return self.principal.evaluator.allows(action, resource, self.context)

    def require(self, action: str, resource: str) -> None:
        """Raises AccessDenied in AWS's words unless the caller's policies allow it."""
        if not self.may(action, resource):
            raise AccessDenied(
                f"User: {self.principal.arn} is not authorized to perform: {action} on resource: {resource}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingAnalysis:
    """One recording, listened to without storing anything. `vector` is little-endian float32."""

    model_id: str
    vector: bytes
    net_speech_s: float
    snr_db: float
    highpass_300hz: bool = False
    """Whether the line cut off below 300 Hz; see `quality.highpass_300hz`."""


class Listener(Protocol):
    """Hears recordings in a worker process (see `jobs.engines`)."""

    def analyse(
        self,
        role_arn: str,
        s3_uri: str,
        channel: int,
        need_s: float,
        model_id: str | None = None,
        domain: domains.Domain | None = None,
    ) -> RecordingAnalysis:
        """Raises Validation or AccessDenied that says what is wrong with the recording.

        `model_id` is the voice model, None the one that ships with Sonant; `domain` the one it is done for.
        """
        ...


class Live(Protocol):
    """Listens to live calls (see `live.intake`)."""

    def notice(self, session_id: str) -> None:
        """A session was changed in the store. Never blocks."""
        ...


class NoCalls:
    """For those who listen to none."""

    def notice(self, session_id: str) -> None:
        pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The parts that operations work on; made once by `app`."""

    settings: Settings
    database: Database
    keys_of: KeysOf
    secret: ServiceSecret
    listener: Listener
    clock: Callable[[], datetime]
    outbox: Outbox = field(default_factory=Outbox)
    calibration_of: CalibrationOf = calibration_of
    """What comes with a voice model."""
    live: Live = field(default_factory=NoCalls)
    fraud_indexes: FraudIndexes = field(default_factory=lambda: FraudIndexes(Fraud().replay_recordings))
    """Whom and what calls are compared with."""

    @contextmanager
    def open_domain(
        self, caller: Caller, domain_id: str, *, write: bool
    ) -> Iterator[tuple[Connection, domains.Domain, Vault]]:
        """A transaction with an active domain that the caller may use, opened.

        Raises ResourceNotFound DOMAIN (absent, or suspended for a reader, whose operations model no
        conflict), Conflict DOMAIN_NOT_ACTIVE (suspended, for a writer), AccessDenied (the domain's key).
        """
        begin = self.database.write if write else self.database.read
        with begin() as connection:
            domain = self.require_domain(connection, caller, domain_id, lock=write)
            if not domain.active:
                if write:
                    raise Conflict("DOMAIN_NOT_ACTIVE")
                raise domain_not_found()
            yield connection, domain, self.open_vault(caller, domain)

    def require_domain(
        self, connection: Connection, caller: Caller, domain_id: str, *, lock: bool = False
    ) -> domains.Domain:
        region = caller.region
        if lock:
            domain = domains.find(connection, caller.account_id, region, domain_id, lock=True)
        else:
            memory = self.database.read_cache(connection)
            place = ("domain", caller.account_id, region, domain_id)
            if place not in memory:
                memory[place] = domains.find(connection, caller.account_id, region, domain_id)
            domain = memory[place]
        if domain is None:
            raise domain_not_found()
        return domain

    @contextmanager
    def telling_failure(
        self,
        caller: Caller,
        domain_id: str,
        event: Callable[[Connection, EventDomain, ErrorInfo], Event],
    ) -> Iterator[None]:
        """Tell of a refusal or a failure by an event of its own: what the call wrote is undone. The domain
        that `event` is given is no `Domain` when the account has none of this id."""
        try:
            yield
        except ModelledError as error:
            self._tell(caller, domain_id, event, ErrorInfo.of_code(error.http_status, error.message or ""))
            raise
        except DatabaseUnavailable:
            raise
        except Exception:
            with suppress(SonantError, SQLAlchemyError):  # what failed counts, not that it cannot be told
                self._tell(caller, domain_id, event, INTERNAL_ERROR)
            raise

    def _tell(
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
        """The tags of a domain for conditions on aws:ResourceTag; none for a domain that is not there or
        cannot be opened, so that such a condition does not hold."""
        with self.database.read() as connection:
            domain = domains.find(connection, caller.account_id, caller.region, domain_id)
        if domain is None:
            return {}
        try:
            keys = self.keys_of(domain.account_id, domain.region)
            return domain.tags(open_vault(keys, domain.domain_id, domain.arn, domain.data_key_wrapped))
        except KeyError_:
            return {}

    def open_vault(self, caller: Caller, domain: domains.Domain) -> Vault:
        """The domain's vault, if the caller may use its key and the key can be used."""
        caller.require("kms:Decrypt", domain.kms_key_arn)
        try:
            keys = self.keys_of(domain.account_id, domain.region)
            return open_vault(keys, domain.domain_id, domain.arn, domain.data_key_wrapped)
        except SealBroken:
            raise
        except KeyError_ as fault:
            raise AccessDenied(f"The domain's KMS key cannot be used: {fault}") from None


def domain_not_found() -> ResourceNotFound:
    return ResourceNotFound("DOMAIN")
