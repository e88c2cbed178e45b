"""Build the engines that process recordings, and the executors of other hosts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

from sonant.assembly.installation import Store, service_key_digest
from sonant.assembly.worker_process import (
    batch_worker_main,
    comparison_worker_main,
    fetch_with,
    worker_main,
)
from sonant.cpu_affinity import CpuAffinity
from sonant.errors import AccessDenied, InternalServer, SetupError, Validation
from sonant.fairness import FairSlots
from sonant.jobs.entry import Role, Task, TaskResult, quality_floors, search_limits
from sonant.jobs.faults import Refusal
from sonant.jobs.manifest import AudioFile
from sonant.jobs.model_registry import embedders
from sonant.jobs.spoofing import detectors
from sonant.jobs.window import Engine
from sonant.jobs.work_time import add_work_span
from sonant.jobs.workers import EngineParts, build_engine
from sonant.jobs.workers.engines.local import LocalEngine
from sonant.jobs.workers.process import TaskExecutor
from sonant.settings import Audio, Fraud, Settings, loading
from sonant.storage.backends import object_back_end
from sonant.storage.countermeasure_files import CountermeasureFiles
from sonant.storage.model_files import ModelFiles
from sonant.storage.repositories import access
from sonant.storage.repositories.domains import Domain
from sonant.traces import current_span
from sonant.voice.models import check_gpu, load_models
from sonant.voice.sample import VoiceSample

log = logging.getLogger(__name__)


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
        detectors=detectors(fraud, CountermeasureFiles(own_settings.data)),
        rules=audio,
        embedder_of=embedders(files, networks, gpu=gpu),
    )


def storage_location(settings: Settings) -> dict[str, object]:
    """List what two hosts must have in common to process recordings alike; no secrets."""
    found: dict[str, object] = {
        name: getattr(settings, name) for name in ("objects", "keys", "region", "account")
    }
    found["spoofing_calibration"] = CountermeasureFiles(settings.data).digest()
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
    """Processes recordings of calls in worker processes, each started when it is needed.

    There are as many as `gateway.comparisons`; an account alone can use all but one. Recordings wait in the
    gateway's queue, not here.
    """

    def __init__(self, store: Store, cores: CpuAffinity | None = None) -> None:
        self._store, self._cores = store, cores or CpuAffinity()
        self._slots = FairSlots(store.settings.gateway.comparisons, "Rate exceeded")
        self._idle: list[LocalEngine] = []
        self._lock, self._closed = threading.Lock(), False

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
            search=search_limits(self._store.settings.audio),
        )
        span = current_span()
        if span is not None and span.recorded:
            task = task.measured()
        with self._slots.held(role.account_id), self._engine() as engine, self._cores.all():
            result = _result(engine, task)
        if span is not None:
            add_work_span(
                span, "recording", result.worked, refused=result.code if isinstance(result, Refusal) else None
            )
        if isinstance(result, Refusal):
            raise (AccessDenied if result.code == 403 else Validation)(result.message)
        return result.sample

    def close(self) -> None:
        """End the worker processes: idle ones now, others when they are idle."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for engine in idle:
            engine.close()

    @contextmanager
    def _engine(self) -> Iterator[LocalEngine]:
        """Lend an idle engine, or a new one. Its worker is kept unless the work ends by an exception."""
        with self._lock:
            engine = self._idle.pop() if self._idle else None
        if engine is None:
            engine = local_engine(self._store.settings, workers=1, main=comparison_worker_main)
        kept = False
        try:
            yield engine
            with self._lock:
                if not self._closed:
                    self._idle.append(engine)
                    kept = True
        finally:
            if not kept:
                engine.close()


def _result(engine: LocalEngine, task: Task) -> TaskResult | Refusal:
    """Have an engine process one task. Raises InternalServer when its worker cannot be started."""
    lost = engine.workers_lost
    engine.submit(task)
    while not (results := engine.results(timeout_s=1.0)):
        if engine.problem and engine.workers_lost > lost:
            log.error("a recording could not be processed: %s", engine.problem)
            raise InternalServer
    return results[0][1]
