"""Build the service: live calls, operations, the gateway in front of them, carriers and the console."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, select
from starlette.types import ASGIApp

from sonant.assembly.installation import Store, own_audit_folder
from sonant.assembly.jobs import build_outbox
from sonant.assembly.workers import LocalListener, local_engine
from sonant.audit.trail import Trail
from sonant.carriers.authorizer import AUDITED_STREAMS, StreamAuthorizer
from sonant.carriers.endpoints import StreamEndpoints
from sonant.cpu_affinity import CpuAffinity
from sonant.gateway.app import asgi_app
from sonant.gateway.health import Health
from sonant.gateway.metrics_route import check_metrics, metrics_route
from sonant.gateway.models import OWN_PREFIX, SIGNING_NAME, ServiceModels, load_models
from sonant.gateway.recording import Recorder, audited_operations
from sonant.gateway.server import Gateway
from sonant.gateway.signature import Credential, Verifier
from sonant.gateway.thread_pool import ThreadPool
from sonant.gateway.throttle import SharedBuckets, Throttle, rates_per_s
from sonant.gateway.validation import compile_input
from sonant.jobs.model_registry import model_calibration
from sonant.metrics import MetricsRegistry
from sonant.operations import OPERATIONS
from sonant.operations.service import Service
from sonant.runner_state import RunnerState
from sonant.sessions.context import StreamContext
from sonant.sessions.manager import StreamManager
from sonant.sessions.risks import FraudIndexes
from sonant.sessions.worker_pool import WorkerPool
from sonant.storage.crypto.vault import ServiceSecret
from sonant.storage.model_files import ModelFiles
from sonant.storage.repositories import access, callers, sessions
from sonant.thread_plan import plan_threads
from sonant.voice.models import load_models as load_voice_models
from sonant.web.console import AUDITED_SIGN_INS, PREFIXES, Console
from sonant.web.login_cookies import LoginCookies

#: Scrapes of the metrics that may run or wait at once.
MOST_SCRAPES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """The ASGI app, its parts that a server needs, and the function that closes it."""

    asgi: ASGIApp
    streams: StreamManager
    health: Health
    close: Callable[[], None]


def build_app(
    store: Store,
    cores: CpuAffinity | None = None,
    runner: Callable[[], RunnerState] | None = None,
) -> App:
    """Build the service and bind the TCP ports of carriers. Raises SetupError.

    `runner` returns the state of the supervised runner, when the service has one.
    """
    settings, models, plan = store.settings, load_models(), plan_threads(store.settings)
    check_metrics(settings)

    # Operations, and the live calls and recordings that they use.
    listener = LocalListener(store, cores)
    fraud_indexes = FraudIndexes(settings.fraud.replay_recordings, plan.replays)
    stream_manager = build_stream_manager(store, fraud_indexes, cores)
    service = build_operations(store, listener, stream_manager, fraud_indexes)

    # The audit trail and the metrics record every call.
    trail, trail_lock = open_trail(store)
    metrics = None
    if settings.metrics.enabled:
        metrics = MetricsRegistry(
            store.database,
            settings.metrics.cache_s,
            lambda: trail is not None and trail.failing,
            runner,
            lambda: stream_manager.lost_workers,
            plan,
        )
    recorder = Recorder(
        audited=audited_operations(models) | AUDITED_STREAMS | AUDITED_SIGN_INS,
        clock=store.clock,
        trail=trail,
        calls=None if metrics is None else metrics.calls,
    )

    # The gateway answers the AWS endpoint.
    verifier, throttle = build_verifier(store), build_throttle(store, models)
    gateway = Gateway(
        models, OPERATIONS, service, verifier, throttle, settings.gateway, recorder, plan.long_calls
    )

    # Beside it: carriers, the console, metrics and health.
    # EvaluateSession is the operation whose only members name a session.
    session_input = compile_input(models.find("VoiceID.EvaluateSession").input_shape)
    streams = StreamEndpoints(
        settings,
        StreamAuthorizer(service, verifier, stream_manager.open, session_input, recorder),
        threads=plan.streams,
    )
    page_threads = ThreadPool(plan.pages, "page", most_waiting=settings.gateway.max_waiting)
    console = Console(
        gateway,
        LoginCookies(secret=store.secret, find=credential_finder(store), clock=store.clock),
        partial(_domain_of, store),
        recorder,
        page_threads,
    )
    scrape_threads = ThreadPool(plan.metrics, "metrics", most_waiting=MOST_SCRAPES)
    routes = list(streams.routes())
    if metrics is not None:
        token = settings.metrics.token
        routes.insert(0, metrics_route(metrics.render, metrics.content_type, token, scrape_threads))
    health = Health(partial(check_usable, store), time.monotonic, runner)

    def close() -> None:
        stream_manager.close()
        streams.close()
        gateway.close()
        page_threads.close()
        scrape_threads.close()
        if trail is not None:
            trail.close()
        trail_lock.close()
        listener.close()
        store.database.close()

    asgi = asgi_app(
        gateway, *routes, health=health, lifespan=streams.lifespan, console=(PREFIXES, console.app)
    )
    return App(asgi=asgi, streams=stream_manager, health=health, close=close)


def build_stream_manager(
    store: Store, fraud_indexes: FraudIndexes, cores: CpuAffinity | None = None
) -> StreamManager:
    """Build what processes live calls. Nothing is loaded or started before the first call."""
    settings = store.settings
    workers = settings.live.workers or os.cpu_count() or 1
    pinned = cores or CpuAffinity()

    def make_pool() -> WorkerPool:
        pinned.release()
        return WorkerPool(local_engine(settings, workers), workers)

    context = StreamContext(
        owner=f"live-{secrets.token_hex(8)}",
        settings=settings,
        database=store.database,
        keys_of=store.backends.keys,
        clock=store.clock,
        fraud_indexes=fraud_indexes,
        outbox=build_outbox(settings),
        calibration_of=partial(model_calibration, ModelFiles(settings.data)),
    )
    return StreamManager(
        context,
        make_pool=make_pool,
        load_models=load_voice_models,
    )


def build_operations(
    store: Store, listener: LocalListener, stream_manager: StreamManager, fraud_indexes: FraudIndexes
) -> Service:
    """Build what the operations work on."""
    settings = store.settings
    return Service(
        settings=settings,
        database=store.database,
        keys_of=store.backends.keys,
        secret=store.secret,
        listener=listener,
        clock=store.clock,
        outbox=build_outbox(settings),
        calibration_of=partial(model_calibration, ModelFiles(settings.data)),
        live=stream_manager,
        fraud_indexes=fraud_indexes,
    )


def open_trail(store: Store) -> tuple[Trail | None, ExitStack]:
    """Open the audit trail and lock its folder; None when the settings disable it. Raises SetupError."""
    settings, lock = store.settings, ExitStack()
    if not settings.audit.enabled:
        return None, lock
    folder = lock.enter_context(own_audit_folder(settings))
    return Trail(folder, settings.audit, region=settings.region, clock=store.clock), lock


def build_verifier(store: Store) -> Verifier:
    """Build the check of signatures."""
    settings = store.settings
    return Verifier(
        regions=settings.served_regions,
        service=SIGNING_NAME,
        skew_s=settings.gateway.signature_skew_s,
        find=credential_finder(store),
    )


def build_throttle(store: Store, models: ServiceModels) -> Throttle:
    """Build the rate limits: of this process on SQLite, of all processes of the database on PostgreSQL."""
    settings = store.settings
    own = [operation.name for target, operation in models.operations.items() if target.startswith(OWN_PREFIX)]
    shared = None if settings.embedded else shared_rates(store)
    return Throttle(rates_per_s(settings.rates, own), time.monotonic, shared)


def shared_rates(store: Store) -> SharedBuckets:
    """Build the rate limits that all processes of one database share."""

    def take(account_id: str, region: str, operation: str, rate: float, size: float) -> bool:
        with store.database.single() as connection:
            return callers.take_call(connection, account_id, region, operation, rate=rate, size=size)

    return take


def credential_finder(store: Store) -> Callable[[str], Credential | None]:
    """Build the look-up of access keys. Results are cached as long as the database does not change.

    On PostgreSQL a look-up is a single statement, without a transaction around it.
    """
    begin = store.database.read if store.settings.embedded else store.database.single

    def find(access_key_id: str) -> Credential | None:
        with begin() as connection:
            cache = store.database.read_cache(connection)
            cache_key = ("credential", access_key_id)
            if cache_key not in cache:
                cache[cache_key] = _credential(connection, store.secret, access_key_id)
            found: Credential | None = cache[cache_key]
            return found

    return find


def _credential(connection: Connection, secret: ServiceSecret, access_key_id: str) -> Credential | None:
    found = access.find_secret(connection, secret, access_key_id)
    if found is None:
        return None
    return Credential(
        access_key_id=access_key_id,
        secret=found.secret,
        session_token=found.session_token,
        principal=found.principal,
        expires_at=found.expires_at,
    )


def check_usable(store: Store) -> None:
    """Raise a SonantError when the database, or the folder of the keys, cannot be used."""
    if store.backends.owns_keys:
        store.accounts.keys(store.settings.account).check()
    with store.database.read() as connection:
        connection.execute(select(1))


def _domain_of(store: Store, session_id: str) -> tuple[str, str] | None:
    with store.database.read() as connection:
        return sessions.domain_of(connection, session_id)
