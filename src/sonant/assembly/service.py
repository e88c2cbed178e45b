"""Build the service: live calls, operations, the gateway in front of them, carriers and the console."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Scope

from sonant.assembly.audit_trail import open_trail, verify
from sonant.assembly.figures import InstallationFigures
from sonant.assembly.installation import Store
from sonant.assembly.integrity_reports import IntegrityReporter
from sonant.assembly.jobs import build_outbox
from sonant.assembly.readiness import Readiness
from sonant.assembly.worker_process import granted_objects, live_worker_main
from sonant.assembly.workers import LocalListener, local_engine
from sonant.carriers.authorizer import AUDITED_STREAMS, StreamAuthorizer
from sonant.carriers.endpoints import StreamEndpoints
from sonant.cpu_affinity import CpuAffinity
from sonant.gateway.app import asgi_app
from sonant.gateway.connections import ConnectionTable
from sonant.gateway.descriptors import descriptors_in_use
from sonant.gateway.forwarded import trusted_networks, with_client
from sonant.gateway.health import Health
from sonant.gateway.metrics_route import check_metrics, may_know_reasons, metrics_route
from sonant.gateway.models import OWN_PREFIX, SIGNING_NAME, ServiceModels, load_models
from sonant.gateway.recording import Recorder, audited_operations
from sonant.gateway.request_log import RequestLog
from sonant.gateway.server import Gateway
from sonant.gateway.signature import Credential, Verifier
from sonant.gateway.thread_pool import ThreadPool
from sonant.gateway.throttle import SharedBuckets, Throttle, rates_per_s
from sonant.gateway.validation import compile_input
from sonant.jobs.model_registry import model_calibration
from sonant.metrics import ConnectionCounts, DecisionMetrics, MetricsRegistry
from sonant.operations import OPERATIONS
from sonant.operations.service import Service
from sonant.runner_state import RunnerState
from sonant.sessions.context import StreamContext
from sonant.sessions.manager import StreamManager
from sonant.sessions.opened_domains import LOCAL_S, REMOTE_S
from sonant.sessions.risks import FraudIndexes
from sonant.sessions.worker_pool import WorkerPool
from sonant.storage.crypto.service_secret import ServiceSecret
from sonant.storage.model_files import ModelFiles
from sonant.storage.repositories import access, callers, sessions
from sonant.thread_plan import plan_threads
from sonant.traces import Tracer, build_tracer
from sonant.voice.models import load_models as load_voice_models
from sonant.web.console import AUDITED_SIGN_INS, PREFIXES, Console
from sonant.web.login_cookies import LoginCookies, LoginLimits
from sonant.web.provider import OpenIdProvider

#: Scrapes of the metrics that may run or wait at once.
MOST_SCRAPES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """The ASGI app, its parts that a server needs, and the function that closes it."""

    asgi: ASGIApp
    streams: StreamManager
    health: Health
    routes: tuple[BaseRoute, ...]
    """All routes but the AWS endpoint, which answers everything else."""
    note_handshake: Callable[[Scope, str], None]
    """Records a request for a WebSocket that the server refused before the app got it, and why."""
    close: Callable[[], None]


def build_app(
    store: Store,
    cores: CpuAffinity | None = None,
    runner: Callable[[], RunnerState] | None = None,
    connections: ConnectionTable | None = None,
) -> App:
    """Build the service and bind the TCP ports of carriers. Raises SetupError.

    `runner` returns the state of the supervised runner, when the service has one; `connections` counts those
    of the server.
    """
    settings, models, plan = store.settings, load_models(), plan_threads(store.settings)
    check_metrics(settings)
    tracer = build_tracer(settings.traces, "service")
    store.database.report_faults_to(IntegrityReporter(store))
    trusted = trusted_networks(settings.gateway.trusted_proxies)

    # The live calls and recordings that operations use.
    listener = LocalListener(store, cores)
    fraud_indexes = FraudIndexes(
        settings.fraud.replay_recordings,
        plan.replays,
        store.backends.keys,
        LOCAL_S if store.backends.owns_keys else REMOTE_S,
    )
    stream_manager = build_stream_manager(store, fraud_indexes, cores, tracer)

    # The audit trail and the metrics record every call.
    trail, close_trail = open_trail(store)
    metrics = None
    if settings.metrics.enabled:
        metrics = MetricsRegistry(
            store.database,
            settings.metrics.cache_s,
            lambda: trail is not None and trail.failing,
            runner,
            lambda: stream_manager.lost_workers,
            plan,
            (operation.name for operation in models.operations.values() if operation.name in OPERATIONS),
        )
        metrics.register_figures(InstallationFigures(store, trail))
        if connections is not None:
            metrics.register_connections(partial(_connection_counts, connections))
    service = build_operations(
        store, listener, stream_manager, fraud_indexes, None if metrics is None else metrics.decisions
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
        models,
        OPERATIONS,
        service,
        verifier,
        throttle,
        settings.gateway,
        recorder,
        plan.long_calls,
        RequestLog(share=settings.log.requests),
        tracer,
    )

    # Beside it: carriers, the console, metrics and health.
    # EvaluateSession is the operation whose only members name a session.
    session_input = compile_input(models.find("VoiceID.EvaluateSession").input_shape)
    streams = StreamEndpoints(
        settings,
        StreamAuthorizer(service, verifier, stream_manager.open, session_input, recorder),
        threads=plan.streams,
        connections=connections,
    )
    # Each task begins a batch of reads: what an earlier one found may have changed, such as a login.
    page_threads = ThreadPool(
        plan.pages, "page", most_waiting=settings.gateway.max_waiting, begin=store.database.start_batch
    )
    console = Console(
        gateway,
        build_cookies(store),
        partial(_domain_of, store),
        recorder,
        page_threads,
        OpenIdProvider(settings.console) if settings.console.oidc_issuer else None,
    )
    scrape_threads = ThreadPool(plan.metrics, "metrics", most_waiting=MOST_SCRAPES)
    routes = list(streams.routes())
    if metrics is not None:
        token = settings.metrics.token
        routes.insert(0, metrics_route(metrics.render, metrics.content_type, token, scrape_threads))
    health = Health(
        Readiness(store, trail, time.monotonic),
        time.monotonic,
        runner,
        may_know=may_know_reasons(settings),
    )

    def close() -> None:
        stream_manager.close()
        streams.close()
        gateway.close()
        page_threads.close()
        scrape_threads.close()
        close_trail()
        listener.close()
        store.database.close()
        if tracer is not None:
            tracer.close()

    asgi = asgi_app(
        gateway,
        *routes,
        health=health,
        lifespan=streams.lifespan,
        console=(PREFIXES, console.app),
        trusted=trusted,
    )
    return App(
        asgi=asgi,
        streams=stream_manager,
        health=health,
        routes=(*health.routes(), *routes, *console.routes),
        note_handshake=lambda scope, why: streams.note_handshake(with_client(scope, trusted), why),
        close=close,
    )


def build_stream_manager(
    store: Store,
    fraud_indexes: FraudIndexes,
    cores: CpuAffinity | None = None,
    tracer: Tracer | None = None,
) -> StreamManager:
    """Build what processes live calls. Nothing is loaded or started before the first call."""
    settings = store.settings
    workers = settings.live.workers or os.cpu_count() or 1
    pinned = cores or CpuAffinity()

    def make_pool() -> WorkerPool:
        pinned.release()
        return WorkerPool(local_engine(settings, workers, live_worker_main), workers, tracer)

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
    store: Store,
    listener: LocalListener,
    stream_manager: StreamManager,
    fraud_indexes: FraudIndexes,
    decisions: DecisionMetrics | None = None,
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
        objects_of=partial(granted_objects, store.backends),
        check_trail=lambda: verify(settings, (), store, elsewhere=not settings.embedded).reports,
        ledger=store.ledger,
        decisions=decisions,
    )


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


def build_cookies(store: Store) -> LoginCookies:
    """Build the logins of the console. Results are cached as long as the database does not change."""
    begin = store.database.read if store.settings.embedded else store.database.single
    settings = store.settings.console

    def scopes(kind: str, name: str) -> tuple[str, ...]:
        return store.secret.fingerprints("\x00".join((kind, name)))

    def ended(login_id: str) -> bool:
        with begin() as connection:
            cache, cache_key = store.database.read_cache(connection), ("login", login_id)
            if cache_key not in cache:
                hashes = scopes("ConsoleLogout", login_id)
                cache[cache_key] = any(callers.login_ended(connection, one) for one in hashes)
            return bool(cache[cache_key])

    def end(login_id: str) -> None:
        with store.database.write() as connection:
            callers.end_login(connection, scopes("ConsoleLogout", login_id)[0], store.clock())

    def ended_before(access_key_id: str) -> datetime | None:
        with begin() as connection:
            cache, cache_key = store.database.read_cache(connection), ("logins", access_key_id)
            if cache_key not in cache:
                hashes = scopes("ConsoleLogoutEverywhere", access_key_id)
                found = (callers.logins_ended_at(connection, one) for one in hashes)
                cache[cache_key] = max((one for one in found if one is not None), default=None)
            latest: datetime | None = cache[cache_key]
            return latest

    def end_all(access_key_id: str) -> None:
        with store.database.write() as connection:
            scope = scopes("ConsoleLogoutEverywhere", access_key_id)[0]
            callers.end_logins(connection, scope, store.clock())

    def assume(role_arn: str, lifetime: timedelta) -> Credential | None:
        with store.database.write() as connection:
            if access.find_principal(connection, role_arn) is None:
                return None
            made = access.create_temporary(connection, store.secret, role_arn, store.clock(), lifetime)
            return _credential(connection, store.secret, made.access_key_id)

    return LoginCookies(
        secret=store.secret,
        find=credential_finder(store),
        clock=store.clock,
        ended=ended,
        end=end,
        ended_before=ended_before,
        end_all=end_all,
        assume=assume,
        limits=LoginLimits(
            lifetime=timedelta(seconds=settings.session_s), idle=timedelta(seconds=settings.idle_s)
        ),
    )


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


def _connection_counts(table: ConnectionTable) -> ConnectionCounts:
    return ConnectionCounts(
        open=table.open,
        most=table.limits.most,
        lost={loss.value: count for loss, count in table.losses.items()},
        descriptors=descriptors_in_use(),
    )


def _domain_of(store: Store, session_id: str) -> tuple[str, str] | None:
    with store.database.read() as connection:
        return sessions.domain_of(connection, session_id)
