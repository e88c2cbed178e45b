"""Build the engines that process recordings, and the access of their workers to recordings."""

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
from sonant.jobs.entry import Role, Task, quality_floors
from sonant.jobs.faults import Refusal
from sonant.jobs.manifest import AudioFile
from sonant.jobs.model_registry import embedders
from sonant.jobs.spoofing import detectors
from sonant.jobs.window import Engine
from sonant.jobs.workers import EngineParts, build_engine
from sonant.jobs.workers.engines.local import LocalEngine
from sonant.jobs.workers.process import TaskExecutor, serve_tasks
from sonant.settings import Audio, Fraud, Settings, loading
from sonant.storage.backends import Backends, object_back_end
from sonant.storage.model_files import ModelFiles
from sonant.storage.objects.store import ObjectUri, RoleObjects
from sonant.storage.repositories import access
from sonant.storage.repositories.domains import Domain
from sonant.voice.models import check_gpu, load_models
from sonant.voice.sample import VoiceSample

log = logging.getLogger(__name__)

#: Increment of the nice value of jobs' worker processes.
BATCH_NICE = 10
#: Bounds of the pauses before a recording is read again.
_READ_PAUSE_LEAST_S, _READ_PAUSE_MOST_S = 0.1, 2.0


def fetch_with(settings: Settings) -> Callable[[Role, str], bytes]:
    """Build the function that reads one recording under a role; called in each worker process."""
    backends = open_backends(settings)
    granted: dict[Role, RoleObjects] = {}

    def fetch(role: Role, uri: str) -> bytes:
        objects = granted.get(role)
        if objects is None:
            granted.clear()  # one job at a time: only its role is used again
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
    """Run a worker process."""
    _serve_tasks(pipe, settings)


def batch_worker_main(pipe: object, settings: Settings) -> None:
    """Run a worker process of jobs, at a lower priority than live calls and comparisons."""
    os.nice(BATCH_NICE)
    _serve_tasks(pipe, settings)


def _serve_tasks(pipe: object, settings: Settings) -> None:
    serve_tasks(
        pipe,  # type: ignore[arg-type]
        fetch_with(settings),
        load_models,
        detectors(settings.fraud),
        settings.audio,
        ModelFiles(settings.data),
    )


def build_remote_executor(
    audio: Audio,
    fraud: Fraud,
    location: Mapping[str, object],
    models: Collection[str],
    gpu: bool = False,
) -> TaskExecutor:
    """Build the task executor of a remote worker (a Ray actor), on its host.

    Locations, and the secrets to reach them, come from the settings of that host, so that no secret passes
    through Ray; audio and fraud rules come from the runner. Raises SetupError when the host's settings point
    to other locations than the runner's (`location`), or it lacks one of the voice `models` or a GPU.
    """
    own_settings = loading.load()
    own = storage_location(own_settings)
    different = sorted(name for name in location if own.get(name) != location[name])
    if different:
        raise SetupError(f"settings differ from the runner's: {', '.join(different)}")
    files = ModelFiles(own_settings.data)
    missing = sorted(set(models) - set(files.ids()))
    if missing:
        raise SetupError(f"voice models are missing: {', '.join(missing)}")
    if gpu:
        check_gpu()
    networks = load_models()
    return TaskExecutor(
        fetch=fetch_with(own_settings),
        models=networks,
        detectors=detectors(fraud),
        rules=audio,
        embedder_of=embedders(files, networks, gpu=gpu),
    )


def storage_location(settings: Settings) -> dict[str, object]:
    """List the settings on which two hosts must agree to find the same recordings; no secrets."""
    found: dict[str, object] = {
        name: getattr(settings, name) for name in ("objects", "keys", "region", "account")
    }
    location = object_back_end(settings).location(settings)
    return {**found, **(location or {"data": service_key_digest(settings)})}


def batch_engine(settings: Settings) -> Engine:
    """Build the engine of jobs that the settings name. Raises SetupError."""
    parts = EngineParts(
        worker_main=batch_worker_main,
        build_executor=build_remote_executor,
        storage_location=storage_location,
    )
    return build_engine(settings, parts)


def local_engine(settings: Settings, workers: int, main: Callable[..., None] = worker_main) -> LocalEngine:
    """Build the engine that processes recordings in worker processes on this machine."""
    return LocalEngine(main, (settings,), workers=workers, time_limit_s=settings.jobs.entry_time_limit_s)


class LocalListener:
    """Processes one recording at a time, in a worker process that is started on first use."""

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
    ) -> VoiceSample:
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
        task = Task(
            task_id=0,
            role=role,
            audio=audio,
            need_s=need_s,
            keep_audio=False,
            model_id=model_id,
            floors=quality_floors(self._store.settings),
        )
        with self._lock, self._cores.all():
            lost = self._engine.workers_lost
            self._engine.submit(task)
            while not (results := self._engine.results(timeout_s=1.0)):
                if self._engine.problem and self._engine.workers_lost > lost:
                    self._engine.discard()
                    log.error("a recording could not be processed: %s", self._engine.problem)
                    raise InternalServer
        result = results[0][1]
        if isinstance(result, Refusal):
            raise (AccessDenied if result.code == 403 else Validation)(result.message)
        return result.sample

    def close(self) -> None:
        """End the worker process."""
        with self._lock:
            self._engine.close()
