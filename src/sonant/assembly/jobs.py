"""Build what runs in the background: jobs, voice model upgrades, event dispatch, retention of sessions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sonant.assembly.audit_trail import findings_trail
from sonant.assembly.installation import Store
from sonant.assembly.template_renewal import build_renewer
from sonant.assembly.worker_process import granted_objects
from sonant.assembly.workers import batch_engine
from sonant.audit.findings import SERVICE
from sonant.events.dispatcher import Dispatcher
from sonant.events.outbox import Outbox
from sonant.events.sinks import build_sinks
from sonant.gateway.models import Shape, load_models
from sonant.gateway.scalars import Fault, string
from sonant.jobs.job_type import JobType
from sonant.jobs.manifest import Rules
from sonant.jobs.model_registry import check_model, model_calibration
from sonant.jobs.model_upgrade import ModelUpgrader
from sonant.jobs.runner import Runner, RunnerParts
from sonant.jobs.types.dry_run import DryRunJobType
from sonant.jobs.types.enrollment import EnrollmentJobType
from sonant.jobs.types.registration import RegistrationJobType
from sonant.jobs.window import Engine
from sonant.retention.housekeeping import Housekeeper
from sonant.retention.sessions import SessionKeeper
from sonant.settings import Settings
from sonant.storage.model_files import ModelFiles
from sonant.storage.repositories.jobs import DRY_RUN, ENROLLMENT, REGISTRATION
from sonant.traces import Tracer

#: The types of job that runners run.
JOB_TYPES: tuple[JobType, ...] = (EnrollmentJobType(), RegistrationJobType(), DryRunJobType())


def runner_parts(store: Store, tracer: Tracer | None = None) -> RunnerParts:
    """Build the parts of the service that a runner uses."""
    settings = store.settings
    return RunnerParts(
        settings=settings,
        database=store.database,
        keys_of=store.backends.keys,
        objects_of=lambda role: granted_objects(store.backends, role),
        job_types={job_type.name: job_type for job_type in JOB_TYPES},
        rules={job_type.name: manifest_rules(settings, job_type.name) for job_type in JOB_TYPES},
        clock=store.clock,
        outbox=build_outbox(settings),
        calibration_of=partial(model_calibration, ModelFiles(settings.data)),
        findings=findings_trail(store),
        tracer=tracer,
    )


def build_runner(
    store: Store,
    owner: str,
    heartbeat: Callable[[], None] = lambda: None,
    *,
    parts: RunnerParts | None = None,
    engine: Engine | None = None,
    tracer: Tracer | None = None,
) -> Runner:
    """Build a runner; `heartbeat` is called repeatedly while it runs.

    `parts` and `engine` replace those that the settings name.
    """
    engine = engine or batch_engine(store.settings)
    return Runner(
        parts or runner_parts(store, tracer), engine, owner, upgrades(store, engine, owner), heartbeat
    )


def upgrades(store: Store, engine: Engine, owner: str) -> ModelUpgrader:
    """Build the upgrades of domains from one voice model to another."""
    files = ModelFiles(store.settings.data)
    return ModelUpgrader(
        database=store.database,
        keys_of=store.backends.keys,
        engine=engine,
        calibration_of=partial(model_calibration, files),
        check_model=partial(check_model, files),
        clock=store.clock,
        owner=owner,
    )


def build_dispatcher(store: Store, owner: str) -> Dispatcher:
    """Build the dispatcher of events to their sinks; it runs where jobs run."""
    settings = store.settings
    return Dispatcher(
        database=store.database,
        sinks=build_sinks(settings),
        settings=settings.events,
        owner=owner,
        alone=settings.embedded,
        clock=store.clock,
    )


def build_housekeeper(store: Store) -> Housekeeper:
    """Build the housekeeper; it runs where jobs run."""
    return Housekeeper(
        database=store.database,
        keys_of=store.backends.keys,
        clock=store.clock,
        settings=store.settings,
        sinks=[sink.name for sink in build_sinks(store.settings)],
        sessions=session_keeper(store),
        ledger=store.ledger,
        renewer=build_renewer(store, by=SERVICE),
    )


def session_keeper(store: Store) -> SessionKeeper:
    """Build what ends and erases old sessions, beside jobs and at the start of an embedded service."""
    settings = store.settings
    return SessionKeeper(
        database=store.database, clock=store.clock, settings=settings, outbox=build_outbox(settings)
    )


def build_outbox(settings: Settings) -> Outbox:
    """Build the outbox where events wait for their sinks; it stores none when there is no sink."""
    return Outbox(enabled=bool(build_sinks(settings)))


def manifest_rules(settings: Settings, kind: str = ENROLLMENT) -> Rules:
    """Build the rules for manifests: limits of the settings, and field rules of the service model."""
    quotas = settings.quotas
    enrollment = ("speaker enrollment", "SpeakerEnrollmentRequests", quotas.speakers_per_enrollment_job)
    job, list_name, most = {
        ENROLLMENT: enrollment,
        REGISTRATION: (
            "fraudster registration",
            "FraudsterRegistrationRequests",
            quotas.fraudsters_per_registration_job,
        ),
        DRY_RUN: enrollment,
    }[kind]
    models = load_models()
    start = models.find("VoiceID.StartSpeakerEnrollmentJob")
    described: Shape = models.find("VoiceID.DescribeSpeaker").output_shape
    speaker_id = described.members["Speaker"].members["CustomerSpeakerId"]
    return Rules(
        job=job,
        list_name=list_name,
        max_bytes=settings.jobs.max_manifest_bytes,
        max_depth=settings.jobs.max_manifest_depth,
        max_requests=most,
        max_files=quotas.files_per_request,
        check_speaker_id=_check(speaker_id) if kind != REGISTRATION else None,
        check_s3_uri=_check(start.input_shape.members["InputDataConfig"].members["S3Uri"]),
        speaker_selection=settings.enrollment.speaker_selection if kind != REGISTRATION else None,
    )


def _check(shape: Shape) -> Callable[[str], str]:
    check = string(shape)

    def wrong(value: str) -> str:
        faults: list[Fault] = []
        check(value, faults)
        return faults[0].constraint.removeprefix("Member ") if faults else ""

    return wrong
