"""Assembly of the service: the parts of app_engines and app_jobs, live calls, and the wire before them."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from socket import socket

from sqlalchemy import Connection, select
from starlette.types import ASGIApp

from sonant.assembly.installation import Store, own_audit_folder
from sonant.assembly.jobs import outbox_of
from sonant.assembly.workers import LocalListener, local_engine
from sonant.audit.trail import Trail
from sonant.carriers.authorizer import AUDITED_STREAMS, StreamAuthorizer
from sonant.carriers.endpoints import Streams
from sonant.cpu_affinity import CpuAffinity
from sonant.gateway.app import asgi_app
from sonant.gateway.health import Health
from sonant.gateway.metrics_route import check_metrics, metrics_route
from sonant.gateway.models import OWN_PREFIX, SIGNING_NAME, load_models
from sonant.gateway.recording import Recorder, audited_operations
from sonant.gateway.server import Gateway
from sonant.gateway.signature import Credential, Verifier
from sonant.gateway.thread_pool import ThreadPool
from sonant.gateway.throttle import SharedBuckets, Throttle, rates_per_s
from sonant.gateway.validation import compile_input
from sonant.jobs.model_registry import model_calibration
from sonant.metrics import Page
from sonant.operations import OPERATIONS
from sonant.operations.service import Service
from sonant.runner_state import RunnerState
from sonant.sessions.context import Risks, StreamContext
from sonant.sessions.manager import StreamManager
from sonant.sessions.risks import FraudIndexes
from sonant.sessions.worker_pool import Pool
from sonant.storage.crypto.vault import ServiceSecret
from sonant.storage.model_files import ModelFiles
from sonant.storage.repositories import access, rate_buckets, sessions
from sonant.thread_plan import plan_threads
from sonant.voice.models import load_models as load_voice_models
from sonant.web.console import AUDITED_SIGN_INS, PREFIXES, Console
from sonant.web.login_cookies import LoginCookies

#: Scrapes of the metrics that may run or wait at once.
MOST_SCRAPES = 16


def build_intake(store: Store, risks: Risks, cores: CpuAffinity | None = None) -> StreamManager:
    """Where carriers bring calls. Nothing is loaded or started before the first one."""
    settings = store.settings
    workers = settings.live.workers or os.cpu_count() or 1
    context = StreamContext(
        owner=f"live-{secrets.token_hex(8)}",
        settings=settings,
        database=store.database,
        keys_of=store.backends.keys,
        clock=store.clock,
        risks=risks,
        outbox=outbox_of(settings),
        calibration_of=partial(model_calibration, ModelFiles(settings.data)),
    )
    return StreamManager(
        context,
        pool=lambda: Pool(local_engine(settings, workers), workers, cores or CpuAffinity()),
        load_models=load_voice_models,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """The ASGI app and what must be closed after it."""

    asgi: ASGIApp
    intake: StreamManager
    health: Health
    close: Callable[[], None]


def credential_finder(store: Store) -> Callable[[str], Credential | None]:
    """Looks access keys up. What was found is remembered while the database stands still.

    It is one question, and PostgreSQL is spared the transaction around it.
    """
    begin = store.database.read if store.settings.embedded else store.database.single

    def find(access_key_id: str) -> Credential | None:
        with begin() as connection:
            memory = store.database.memory(connection)
            place = ("credential", access_key_id)
            if place not in memory:
                memory[place] = _credential(connection, store.secret, access_key_id)
            found: Credential | None = memory[place]
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


def _domain_of(store: Store, session_id: str) -> tuple[str, str] | None:
    with store.database.read() as connection:
        return sessions.domain_of(connection, session_id)


def _look(store: Store) -> None:
    """Raises a SonantError when the database, or the folder of the keys, cannot be used."""
    if store.settings.keys != "aws-kms":
        store.accounts.keys(store.settings.account).check()
    with store.database.read() as connection:
        connection.execute(select(1))


def shared_rates(store: Store) -> SharedBuckets:
    """Rates that all processes of one database keep to together."""

    def take(account_id: str, region: str, operation: str, rate: float, size: float) -> bool:
        with store.database.single() as connection:
            return rate_buckets.take(connection, account_id, region, operation, rate=rate, size=size)

    return take


def build_app(
    store: Store,
    cores: CpuAffinity | None = None,
    audiosocket: socket | None = None,
    runner: Callable[[], RunnerState] | None = None,
) -> App:
    """`audiosocket` is a socket for Asterisk's calls, bound and not yet listening.

    `runner` tells how the runner is that the service looks after, if it does.
    """
    settings = store.settings
    check_metrics(settings)
    listener = LocalListener(store, cores)
    plan = plan_threads(settings)
    fraud_indexes = FraudIndexes(settings.fraud.replay_recordings, plan.replays)
    intake = build_intake(store, fraud_indexes.risks, cores)
    service = Service(
        settings=settings,
        database=store.database,
        keys_of=store.backends.keys,
        secret=store.secret,
        listener=listener,
        clock=store.clock,
        outbox=outbox_of(settings),
        calibration_of=partial(model_calibration, ModelFiles(settings.data)),
        live=intake,
        fraud_indexes=fraud_indexes,
    )

    verifier = Verifier(
        regions=settings.served_regions,
        service=SIGNING_NAME,
        skew_s=settings.wire.signature_skew_s,
        find=credential_finder(store),
    )
    models = load_models()
    own = [operation.name for target, operation in models.operations.items() if target.startswith(OWN_PREFIX)]
    shared = None if settings.embedded else shared_rates(store)
    throttle = Throttle(rates_per_s(settings.rates, own), time.monotonic, shared)
    trail, trail_lock = None, ExitStack()
    if settings.audit.enabled:
        folder = trail_lock.enter_context(own_audit_folder(settings))
        trail = Trail(folder, settings.audit, region=settings.region, clock=store.clock)
    page, routes = None, []
    scrapes = ThreadPool(plan.metrics, "metrics", most_waiting=MOST_SCRAPES)
    views = ThreadPool(plan.pages, "page", most_waiting=settings.wire.max_waiting)
    if settings.metrics.enabled:
        page = Page(
            store.database,
            settings.metrics.cache_s,
            lambda: trail is not None and trail.failing,
            runner,
            lambda: intake.lost_workers,
            plan,
        )
        routes.append(metrics_route(page.render, page.content_type, settings.metrics.token, scrapes))
    recorder = Recorder(
        audited=audited_operations(models) | AUDITED_STREAMS | AUDITED_SIGN_INS,
        clock=store.clock,
        trail=trail,
        calls=None if page is None else page.calls,
    )
    door = Gateway(models, OPERATIONS, service, verifier, throttle, settings.wire, recorder, plan.long_calls)
    # Of the operations that name a session, this one names nothing else.
    named = compile_input(models.find("VoiceID.EvaluateSession").input_shape)
    streams = Streams(
        settings,
        StreamAuthorizer(service, verifier, intake, named, recorder),
        audiosocket,
        threads=plan.streams,
    )

    def close() -> None:
        intake.close()
        streams.close()
        door.close()
        views.close()
        scrapes.close()
        if trail is not None:
            trail.close()
        trail_lock.close()
        listener.close()
        store.database.close()

    console = Console(
        door,
        LoginCookies(secret=store.secret, find=credential_finder(store), clock=store.clock),
        partial(_domain_of, store),
        recorder,
        views,
    )
    health = Health(partial(_look, store), time.monotonic, runner)
    asgi = asgi_app(
        door,
        *routes,
        *streams.routes(),
        health=health,
        lifespan=streams.lifespan,
        console=(PREFIXES, console.app),
    )
    return App(asgi=asgi, intake=intake, health=health, close=close)
