"""Assembly: the only place that builds parts from Settings and hands them to each other."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from socket import socket

from sqlalchemy import Connection, select
from starlette.types import ASGIApp

from sonant import settings_sources
from sonant.console.session_page import AUDITED_SIGN_INS, PREFIXES, SessionPages
from sonant.console.tickets import Tickets
from sonant.cores import Cores
from sonant.errors import AccessDenied, SetupError, Validation
from sonant.events.audit_findings import FindingsTrail
from sonant.events.audit_trail import Trail
from sonant.events.dispatcher import Dispatcher
from sonant.events.metrics import Page
from sonant.events.outbox import Outbox
from sonant.events.sinks import build_sinks
from sonant.installation import Store, open_backends, own_audit_folder, service_key_digest
from sonant.jobs.countermeasure import detectors
from sonant.jobs.dry_run import DryRunKind
from sonant.jobs.engines.local import LocalEngine
from sonant.jobs.engines.ray import RayEngine, require_ray
from sonant.jobs.engines.ray_crew import Cluster
from sonant.jobs.engines.worker import Hands, work
from sonant.jobs.enrollment import EnrollmentKind
from sonant.jobs.entry import Role, Task
from sonant.jobs.faults import Refusal
from sonant.jobs.kind import Kind
from sonant.jobs.manifest import AudioFile, Rules
from sonant.jobs.model_shelf import brought_calibration, check_model, embedders
from sonant.jobs.registration import RegistrationKind
from sonant.jobs.runner import Parts, Runner
from sonant.jobs.session_keeping import SessionKeeper
from sonant.jobs.upgrade import Upgrades
from sonant.jobs.window import Engine
from sonant.live.desk import Desk, Risks
from sonant.live.intake import Intake
from sonant.live.pool import Pool
from sonant.live.risks import Watches
from sonant.operations import OPERATIONS
from sonant.operations.service import RecordingAnalysis, Service
from sonant.policy import parse
from sonant.settings import Audio, Fraud, Settings
from sonant.store import access, rate_buckets, sessions
from sonant.store.backends import Backends
from sonant.store.domains import Domain
from sonant.store.jobs import DRY_RUN, ENROLLMENT, REGISTRATION
from sonant.store.model_files import ModelFiles
from sonant.store.objects import ObjectUri, RoleObjects
from sonant.store.vault import ServiceSecret
from sonant.voice.models import check_gpu
from sonant.voice.models import load_models as load_voice_models
from sonant.wire.health import Health
from sonant.wire.metrics import check_metrics, metrics_route
from sonant.wire.models import OWN_PREFIX, SIGNING_NAME, Shape, load_models
from sonant.wire.recording import Recorder, audited_operations
from sonant.wire.scalars import Fault, string
from sonant.wire.server import FrontDoor, asgi_app
from sonant.wire.signature import Credential, Verifier
from sonant.wire.stream_gate import AUDITED_STREAMS, Gate
from sonant.wire.streams import Streams
from sonant.wire.throttle import Shared, Throttle, rates_per_s
from sonant.wire.validation import compile_input

#: The kinds of job that runners do.
KINDS: tuple[Kind, ...] = (EnrollmentKind(), RegistrationKind(), DryRunKind())

#: What the worker processes of jobs add to their nice value.
BATCH_NICE = 10

# --- the voice side -----------------------------------------------------------------------------------


def fetch_with(settings: Settings) -> Callable[[Role, str], bytes]:
    """A function that reads one recording under a role; made in each worker process."""
    backends = open_backends(settings)
    granted: dict[Role, RoleObjects] = {}

    def fetch(role: Role, uri: str) -> bytes:
        objects = granted.get(role)
        if objects is None:
            granted.clear()  # one job at a time: its role is all that is worth keeping
            objects = granted[role] = granted_objects(backends, role)
        return objects.read(ObjectUri.parse(uri), settings.audio.max_file_bytes)

    return fetch


def granted_objects(backends: Backends, role: Role) -> RoleObjects:
    policies = [parse(text) for text in role.policies]
    return backends.objects_as(role.arn, policies, domain_arn=role.domain_arn, account_id=role.account_id)


def worker_main(pipe: object, settings: Settings) -> None:
    """What a worker process runs."""
    _serve_tasks(pipe, settings)


def batch_worker_main(pipe: object, settings: Settings) -> None:
    """What a worker process of jobs runs: calls, and who waits for one, come first."""
    os.nice(BATCH_NICE)
    _serve_tasks(pipe, settings)


def _serve_tasks(pipe: object, settings: Settings) -> None:
    listeners = detectors(settings.fraud)
    work(pipe, fetch_with(settings), load_voice_models, listeners, settings.audio, ModelFiles(settings.data))  # type: ignore[arg-type]


def ray_hands(
    audio: Audio, fraud: Fraud, where: Mapping[str, object], brought: Collection[str], gpu: bool = False
) -> Hands:
    """What a Ray actor does tasks with, made there.

    Where things are, and the secrets to reach them, come from the settings of the actor's own host, so that
    no secret passes through Ray; how recordings are judged comes from the runner. Raises SetupError when the
    host's settings point elsewhere than the runner's, or it lacks a voice model or what a GPU needs.
    """
    mine = settings_sources.load()
    own = whereabouts(mine)
    different = sorted(name for name in where if own.get(name) != where[name])
    if different:
        raise SetupError(f"settings differ from the runner's: {', '.join(different)}")
    files = ModelFiles(mine.data)
    missing = sorted(set(brought) - set(files.ids()))
    if missing:
        raise SetupError(f"voice models are missing: {', '.join(missing)}")
    if gpu:
        check_gpu()
    models = load_voice_models()
    return Hands(
        fetch=fetch_with(mine),
        models=models,
        detectors=detectors(fraud),
        rules=audio,
        embedder_of=embedders(files, models, gpu=gpu),
    )


def whereabouts(settings: Settings) -> dict[str, object]:
    """What two hosts must agree on to find the same recordings; no secrets."""
    found: dict[str, object] = {
        name: getattr(settings, name) for name in ("objects", "keys", "region", "account")
    }
    if settings.objects == "s3":
        for name in ("endpoint", "region", "path_style", "assume_role", "sts_endpoint"):
            found[f"s3.{name}"] = getattr(settings.s3, name)
    else:
        found["data"] = service_key_digest(settings)
    return found


def ray_engine(settings: Settings) -> RayEngine:
    ray, brought = settings.ray, tuple(ModelFiles(settings.data).ids())
    return RayEngine(
        ray_hands,
        (settings.audio, settings.fraud, whereabouts(settings), brought, ray.gpus_per_worker > 0),
        Cluster(
            address=ray.address,
            namespace=ray.namespace,
            workers=ray.workers,
            gpus_per_worker=ray.gpus_per_worker,
            idle_s=ray.idle_s,
        ),
        time_limit_s=settings.jobs.entry_time_limit_s,
    )


def check_engine(settings: Settings) -> None:
    """Raises SetupError when a runner could not have the engine that the settings name."""
    if settings.engine == "ray":
        require_ray()


def batch_engine(settings: Settings) -> Engine:
    """Where jobs process recordings."""
    if settings.engine == "ray":
        return ray_engine(settings)
    return local_engine(settings, settings.workers, batch_worker_main)


def local_engine(settings: Settings, workers: int, main: Callable[..., None] = worker_main) -> LocalEngine:
    return LocalEngine(main, (settings,), workers=workers, time_limit_s=settings.jobs.entry_time_limit_s)


class LocalListener:
    """Hears one recording at a time in a worker process that is started when first needed."""

    def __init__(self, store: Store, cores: Cores | None = None) -> None:
        self._store, self._cores = store, cores or Cores()
        self._engine = local_engine(store.settings, workers=1)
        self._turn = threading.Lock()

    def analyse(
        self,
        role_arn: str,
        s3_uri: str,
        channel: int,
        need_s: float,
        model_id: str | None = None,
        domain: Domain | None = None,
    ) -> RecordingAnalysis:
        with self._store.database.read() as connection:
            policies = access.policy_texts(connection, role_arn)
        if self._store.settings.assumes_roles:
            policies = ()
        if policies is None:
            raise AccessDenied(f"The role {role_arn} cannot be assumed: it does not exist")
        role = Role(
            arn=role_arn,
            policies=policies,
            domain_arn="" if domain is None else domain.arn,
            account_id="" if domain is None else domain.account_id,
        )
        audio = (AudioFile(s3_uri=s3_uri, channel=channel),)
        task = Task(ticket=0, role=role, audio=audio, need_s=need_s, keep_audio=False, model_id=model_id)
        with self._turn, self._cores.all():
            self._engine.submit(task)
            while not (results := self._engine.results(timeout_s=1.0)):
                pass
        heard = results[0][1]
        if isinstance(heard, Refusal):
            raise (AccessDenied if heard.code == 403 else Validation)(heard.message)
        return RecordingAnalysis(
            model_id=heard.model_id,
            vector=heard.vector,
            net_speech_s=heard.net_speech_s,
            snr_db=heard.snr_db,
            low_cut=heard.low_cut,
        )

    def close(self) -> None:
        with self._turn:
            self._engine.close()


def build_runner(store: Store, owner: str, beat: Callable[[], None] = lambda: None) -> Runner:
    """`beat` is called again and again while the runner lives."""
    settings = store.settings
    parts = Parts(
        settings=settings,
        database=store.database,
        keys_of=store.backends.keys,
        objects_of=lambda role: granted_objects(store.backends, role),
        kinds={kind.name: kind for kind in KINDS},
        rules={kind.name: manifest_rules(settings, kind.name) for kind in KINDS},
        clock=store.clock,
        outbox=_outbox(settings),
        calibration_of=partial(brought_calibration, ModelFiles(settings.data)),
        findings=_findings(settings),
    )
    engine = batch_engine(settings)
    return Runner(parts, engine, owner, upgrades(store, engine, owner), beat)


def upgrades(store: Store, engine: Engine, owner: str) -> Upgrades:
    """Changes of domains from one voice model to another, done with an engine."""
    files = ModelFiles(store.settings.data)
    return Upgrades(
        database=store.database,
        keys_of=store.backends.keys,
        engine=engine,
        calibration_of=partial(brought_calibration, files),
        check_model=partial(check_model, files),
        clock=store.clock,
        owner=owner,
    )


def build_dispatcher(store: Store, owner: str) -> Dispatcher:
    """Carries events to the sinks; runs where jobs run."""
    settings = store.settings
    return Dispatcher(
        database=store.database,
        sinks=build_sinks(settings),
        settings=settings.events,
        owner=owner,
        alone=settings.embedded,
        clock=store.clock,
    )


def session_keeper(store: Store) -> SessionKeeper:
    """Looks after sessions; runs where jobs run, and when a service that is alone starts."""
    settings = store.settings
    return SessionKeeper(
        database=store.database, clock=store.clock, live=settings.live, outbox=_outbox(settings)
    )


# --- live calls ---------------------------------------------------------------------------------------


def build_intake(store: Store, risks: Risks, cores: Cores | None = None) -> Intake:
    """Where carriers bring calls. Nothing is loaded or started before the first one."""
    settings = store.settings
    workers = settings.live.workers or os.cpu_count() or 1
    desk = Desk(
        owner=f"live-{secrets.token_hex(8)}",
        settings=settings,
        database=store.database,
        keys_of=store.backends.keys,
        clock=store.clock,
        risks=risks,
        outbox=_outbox(settings),
        calibration_of=partial(brought_calibration, ModelFiles(settings.data)),
    )
    return Intake(
        desk,
        pool=lambda: Pool(local_engine(settings, workers), workers, cores or Cores()),
        load_models=load_voice_models,
    )


def _findings(settings: Settings) -> FindingsTrail | None:
    if not settings.audit.enabled:
        return None
    return FindingsTrail(settings.data / "audit", settings.audit, settings.region)


def _outbox(settings: Settings) -> Outbox:
    return Outbox(enabled=bool(build_sinks(settings)))


def manifest_rules(settings: Settings, kind: str = ENROLLMENT) -> Rules:
    """The manifest's limits; its field rules are those of the service model's shapes."""
    quotas = settings.quotas
    list_name, most = {
        ENROLLMENT: ("SpeakerEnrollmentRequests", quotas.speakers_per_enrollment_job),
        REGISTRATION: ("FraudsterRegistrationRequests", quotas.fraudsters_per_registration_job),
        DRY_RUN: ("SpeakerEnrollmentRequests", quotas.speakers_per_enrollment_job),
    }[kind]
    models = load_models()
    start = models.find("VoiceID.StartSpeakerEnrollmentJob")
    described: Shape = models.find("VoiceID.DescribeSpeaker").output_shape
    speaker_id = described.members["Speaker"].members["CustomerSpeakerId"]
    return Rules(
        list_name=list_name,
        max_bytes=settings.jobs.max_manifest_bytes,
        max_depth=settings.jobs.max_manifest_depth,
        max_requests=most,
        max_files=quotas.files_per_request,
        check_speaker_id=_check(speaker_id) if kind != REGISTRATION else None,
        check_s3_uri=_check(start.input_shape.members["InputDataConfig"].members["S3Uri"]),
    )


def _check(shape: Shape) -> Callable[[str], str]:
    check = string(shape)

    def wrong(value: str) -> str:
        faults: list[Fault] = []
        check(value, faults)
        return faults[0].constraint.removeprefix("Member ") if faults else ""

    return wrong


# --- the wire side ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """The ASGI app and what must be closed after it."""

    asgi: ASGIApp
    intake: Intake
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


def _domain_of(store: Store, session_id: str) -> str | None:
    with store.database.read() as connection:
        return sessions.domain_of(connection, session_id)


def _look(store: Store) -> None:
    """Raises DatabaseUnavailable when the database cannot be used."""
    with store.database.read() as connection:
        connection.execute(select(1))


def shared_rates(store: Store) -> Shared:
    """Rates that all processes of one database keep to together."""

    def take(account_id: str, operation: str, rate: float, size: float) -> bool:
        with store.database.single() as connection:
            return rate_buckets.take(connection, account_id, operation, rate=rate, size=size)

    return take


def build_app(store: Store, cores: Cores | None = None, audiosocket: socket | None = None) -> App:
    """`audiosocket` is a socket for Asterisk's calls, bound and not yet listening."""
    settings = store.settings
    check_metrics(settings)
    listener = LocalListener(store, cores)
    watches = Watches(settings.fraud.replay_recordings)
    intake = build_intake(store, watches.risks, cores)
    service = Service(
        settings=settings,
        database=store.database,
        keys_of=store.backends.keys,
        secret=store.secret,
        listener=listener,
        clock=store.clock,
        outbox=_outbox(settings),
        calibration_of=partial(brought_calibration, ModelFiles(settings.data)),
        live=intake,
        watches=watches,
    )

    verifier = Verifier(
        region=settings.region,
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
    if settings.metrics.enabled:
        page = Page(store.database, settings.metrics.cache_s, lambda: trail is not None and trail.failing)
        routes.append(metrics_route(page.render, page.content_type, settings.metrics.token))
    recorder = Recorder(
        audited=audited_operations(models) | AUDITED_STREAMS | AUDITED_SIGN_INS,
        clock=store.clock,
        trail=trail,
        calls=None if page is None else page.calls,
    )
    door = FrontDoor(models, OPERATIONS, service, verifier, throttle, settings.wire, recorder)
    # Of the operations that name a session, this one names nothing else.
    named = compile_input(models.find("VoiceID.EvaluateSession").input_shape)
    streams = Streams(settings, Gate(service, verifier, intake, named, recorder), audiosocket)

    def close() -> None:
        intake.close()
        streams.close()
        door.close()
        if trail is not None:
            trail.close()
        trail_lock.close()
        listener.close()
        store.database.close()

    pages = SessionPages(
        door,
        Tickets(secret=store.secret, find=credential_finder(store), clock=store.clock),
        partial(_domain_of, store),
        recorder,
    )
    health = Health(partial(_look, store), time.monotonic)
    asgi = asgi_app(
        door,
        *routes,
        *streams.routes(),
        health=health,
        lifespan=streams.lifespan,
        console=(PREFIXES, pages.app),
    )
    return App(asgi=asgi, intake=intake, health=health, close=close)
