"""Build the engines that process recordings: worker processes, a Ray cluster, and one worker for calls."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping

from sonant.assembly.installation import Store, open_backends, service_key_digest
from sonant.backoff import Backoff
from sonant.cpu_affinity import CpuAffinity
from sonant.errors import AccessDenied, InternalServer, ObjectsUnavailable, SetupError, Validation
from sonant.iam import parse
from sonant.jobs.entry import Role, Task
from sonant.jobs.faults import Refusal
from sonant.jobs.manifest import AudioFile
from sonant.jobs.model_registry import embedders
from sonant.jobs.spoofing import detectors
from sonant.jobs.window import Engine
from sonant.jobs.workers.local import LocalEngine
from sonant.jobs.workers.process import TaskExecutor, work
from sonant.jobs.workers.ray import RayEngine, require_ray
from sonant.jobs.workers.ray_crew import Cluster
from sonant.operations.service import RecordingAnalysis
from sonant.settings import Audio, Fraud, Settings, loading
from sonant.storage.backends import Backends, object_back_end
from sonant.storage.model_files import ModelFiles
from sonant.storage.objects.store import ObjectUri, RoleObjects
from sonant.storage.repositories import access
from sonant.storage.repositories.domains import Domain
from sonant.voice.models import check_gpu, load_models

log = logging.getLogger(__name__)

#: Increment of the nice value of jobs' worker processes.
BATCH_NICE = 10
#: Bounds of the pauses before a recording is read again.
_READ_PAUSE_LEAST_S, _READ_PAUSE_MOST_S = 0.1, 2.0


def fetch_with(settings: Settings) -> Callable[[Role, str], bytes]:
    """Build the function that reads one recording with a role's rights; called in each worker process."""
    backends = open_backends(settings)
    granted: dict[Role, RoleObjects] = {}

    def fetch(role: Role, uri: str) -> bytes:
        objects = granted.get(role)
        if objects is None:
            granted.clear()  # a worker processes one job at a time, which has one role
            objects = granted[role] = granted_objects(backends, role)
        return read_when_possible(
            lambda: objects.read(ObjectUri.parse(uri), settings.audio.max_file_bytes),
            time_limit_s=settings.jobs.entry_time_limit_s / 2,
        )

    return fetch


def read_when_possible(read: Callable[[], bytes], *, time_limit_s: float) -> bytes:
    """Read, and try again while file handles or memory are lacking, so that no recording is refused for that.

    Raises ObjectsUnavailable when they are still lacking after the time limit.
    """
    pauses, until_s = Backoff(_READ_PAUSE_LEAST_S, _READ_PAUSE_MOST_S), time.monotonic() + time_limit_s
    while True:
        try:
            return read()
        except ObjectsUnavailable:
            if time.monotonic() > until_s:
                raise
            time.sleep(pauses.next_s())


def granted_objects(backends: Backends, role: Role) -> RoleObjects:
    """Open the buckets with a role's rights."""
    policies = [parse(text) for text in role.policies]
    return backends.objects_as(role.arn, policies, domain_arn=role.domain_arn, account_id=role.account_id)


def worker_main(pipe: object, settings: Settings) -> None:
    """Run a worker process of live calls and of single recordings."""
    _serve_tasks(pipe, settings)


def batch_worker_main(pipe: object, settings: Settings) -> None:
    """Run a worker process of jobs, at a lower priority than calls."""
    os.nice(BATCH_NICE)
    _serve_tasks(pipe, settings)


def _serve_tasks(pipe: object, settings: Settings) -> None:
    spoof_detectors = detectors(settings.fraud)
    work(
        pipe,  # type: ignore[arg-type]
        fetch_with(settings),
        load_models,
        spoof_detectors,
        settings.audio,
        ModelFiles(settings.data),
    )


def build_ray_executor(
    audio: Audio,
    fraud: Fraud,
    location: Mapping[str, object],
    added_models: Collection[str],
    gpu: bool = False,
) -> TaskExecutor:
    """Build the executor of a Ray actor, in the actor's process.

    The places of data, and the secrets to reach them, come from the settings of the actor's own host, so that
    no secret passes through Ray; the rules for recordings come from the runner. Raises SetupError when the
    host's settings name other places than the runner's, or when it lacks a voice model or the software for a
    GPU.
    """
    mine = loading.load()
    own = storage_location(mine)
    different = sorted(name for name in location if own.get(name) != location[name])
    if different:
        raise SetupError(f"settings differ from the runner's: {', '.join(different)}")
    files = ModelFiles(mine.data)
    missing = sorted(set(added_models) - set(files.ids()))
    if missing:
        raise SetupError(f"voice models are missing: {', '.join(missing)}")
    if gpu:
        check_gpu()
    models = load_models()
    return TaskExecutor(
        fetch=fetch_with(mine),
        models=models,
        detectors=detectors(fraud),
        rules=audio,
        embedder_of=embedders(files, models, gpu=gpu),
    )


def storage_location(settings: Settings) -> dict[str, object]:
    """Return what two hosts must agree on to read the same recordings, without secrets."""
    found: dict[str, object] = {
        name: getattr(settings, name) for name in ("objects", "keys", "region", "account")
    }
    location = object_back_end(settings).location(settings)
    return {**found, **(location or {"data": service_key_digest(settings)})}


def ray_engine(settings: Settings) -> RayEngine:
    """Build the engine that processes recordings on a Ray cluster."""
    ray, added_models = settings.ray, tuple(ModelFiles(settings.data).ids())
    return RayEngine(
        build_ray_executor,
        (settings.audio, settings.fraud, storage_location(settings), added_models, ray.gpus_per_worker > 0),
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
    """Raise SetupError when this machine cannot run the engine that the settings name."""
    if settings.engine == "ray":
        require_ray()


def batch_engine(settings: Settings) -> Engine:
    """Build the engine that jobs process recordings with."""
    if settings.engine == "ray":
        return ray_engine(settings)
    return local_engine(settings, settings.workers, batch_worker_main)


def local_engine(settings: Settings, workers: int, main: Callable[..., None] = worker_main) -> LocalEngine:
    """Build the engine that processes recordings in worker processes on this machine."""
    return LocalEngine(main, (settings,), workers=workers, time_limit_s=settings.jobs.entry_time_limit_s)


class LocalListener:
    """Analyses one recording at a time in a worker process, which is started when first needed."""

    def __init__(self, store: Store, cores: CpuAffinity | None = None) -> None:
        self._store, self._cores = store, cores or CpuAffinity()
        self._engine = local_engine(store.settings, workers=1)
        self._lock = threading.Lock()

    def analyse(
        self,
        role_arn: str,
        s3_uri: str,
        channel: int,
        need_s: float,
        model_id: str | None = None,
        domain: Domain | None = None,
    ) -> RecordingAnalysis:
        """Make the voice sample of a recording, read with a role's rights.

        Raises AccessDenied, Validation with the reason of a refused recording, and InternalServer.
        """
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
        task = Task(task_id=0, role=role, audio=audio, need_s=need_s, keep_audio=False, model_id=model_id)
        with self._lock, self._cores.all():
            lost = self._engine.lost
            self._engine.submit(task)
            while not (results := self._engine.results(timeout_s=1.0)):
                if self._engine.problem and self._engine.lost > lost:
                    self._engine.discard()
                    log.error("a recording could not be processed: %s", self._engine.problem)
                    raise InternalServer
        result = results[0][1]
        if isinstance(result, Refusal):
            raise (AccessDenied if result.code == 403 else Validation)(result.message)
        return RecordingAnalysis(
            model_id=result.model_id,
            vector=result.vector,
            net_speech_s=result.net_speech_s,
            snr_db=result.snr_db,
            highpass_300hz=result.highpass_300hz,
        )

    def close(self) -> None:
        """End the worker process."""
        with self._lock:
            self._engine.close()
