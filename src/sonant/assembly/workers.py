"""Assembly of what hears: where recordings are fetched from and which processes listen to them."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping

from sonant.assembly.installation import Store, open_backends, service_key_digest
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
from sonant.threads import Backoff
from sonant.voice.models import check_gpu, load_models

log = logging.getLogger(__name__)

#: What the worker processes of jobs add to their nice value.
BATCH_NICE = 10


def fetch_with(settings: Settings) -> Callable[[Role, str], bytes]:
    """A function that reads one recording under a role; made in each worker process."""
    backends = open_backends(settings)
    granted: dict[Role, RoleObjects] = {}

    def fetch(role: Role, uri: str) -> bytes:
        objects = granted.get(role)
        if objects is None:
            granted.clear()  # one job at a time: its role is all that is worth keeping
            objects = granted[role] = granted_objects(backends, role)
        return read_with_retries(
            lambda: objects.read(ObjectUri.parse(uri), settings.audio.max_file_bytes), settings
        )

    return fetch


def read_with_retries(read: Callable[[], bytes], settings: Settings) -> bytes:
    """Read a recording, again while the process lacks file descriptors or memory.

    Raises ObjectsUnavailable when that lasts for half of the time limit of a request.
    """
    pauses, until_s = Backoff(0.1, 2.0), time.monotonic() + settings.jobs.entry_time_limit_s / 2
    while True:
        try:
            return read()
        except ObjectsUnavailable:
            if time.monotonic() > until_s:
                raise
            time.sleep(pauses.next_s())


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
    work(pipe, fetch_with(settings), load_models, listeners, settings.audio, ModelFiles(settings.data))  # type: ignore[arg-type]


def ray_hands(
    audio: Audio, fraud: Fraud, where: Mapping[str, object], brought: Collection[str], gpu: bool = False
) -> TaskExecutor:
    """What a Ray actor does tasks with, made there.

    Where things are, and the secrets to reach them, come from the settings of the actor's own host, so that
    no secret passes through Ray; how recordings are judged comes from the runner. Raises SetupError when the
    host's settings point elsewhere than the runner's, or it lacks a voice model or what a GPU needs.
    """
    mine = loading.load()
    own = storage_location(mine)
    different = sorted(name for name in where if own.get(name) != where[name])
    if different:
        raise SetupError(f"settings differ from the runner's: {', '.join(different)}")
    files = ModelFiles(mine.data)
    missing = sorted(set(brought) - set(files.ids()))
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
    ray, brought = settings.ray, tuple(ModelFiles(settings.data).ids())
    return RayEngine(
        ray_hands,
        (settings.audio, settings.fraud, storage_location(settings), brought, ray.gpus_per_worker > 0),
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

    def __init__(self, store: Store, cores: CpuAffinity | None = None) -> None:
        self._store, self._cores = store, cores or CpuAffinity()
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
        task = Task(task_id=0, role=role, audio=audio, need_s=need_s, keep_audio=False, model_id=model_id)
        with self._turn, self._cores.all():
            lost = self._engine.lost
            self._engine.submit(task)
            while not (results := self._engine.results(timeout_s=1.0)):
                if self._engine.problem and self._engine.lost > lost:
                    self._engine.discard()
                    log.error("a recording could not be heard: %s", self._engine.problem)
                    raise InternalServer
        heard = results[0][1]
        if isinstance(heard, Refusal):
            raise (AccessDenied if heard.code == 403 else Validation)(heard.message)
        return RecordingAnalysis(
            model_id=heard.model_id,
            vector=heard.vector,
            net_speech_s=heard.net_speech_s,
            snr_db=heard.snr_db,
            highpass_300hz=heard.highpass_300hz,
        )

    def close(self) -> None:
        with self._turn:
            self._engine.close()
