"""Run the worker processes that read and process recordings, with the rights of a job's role.

Every worker process imports this module first. It must not import SQLAlchemy or a database's driver, which
would double the time that a worker takes to start.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from sonant import logs
from sonant.backoff import Backoff
from sonant.errors import ObjectsUnavailable
from sonant.iam import parse
from sonant.jobs.entry import Role
from sonant.jobs.spoofing import detectors
from sonant.jobs.workers.process import serve_tasks
from sonant.settings import Settings
from sonant.storage.backends import Backends, open_backends
from sonant.storage.countermeasure_files import CountermeasureFiles
from sonant.storage.model_files import ModelFiles
from sonant.storage.objects.store import ObjectUri, RoleObjects
from sonant.voice.models import load_models

#: Increments of the nice values of worker processes of jobs, of comparisons of recordings, and of live calls:
#: on a busy machine the service itself comes first, which answers within milliseconds.
BATCH_NICE, COMPARISON_NICE, LIVE_NICE = 15, 12, 8
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


def live_worker_main(pipe: object, settings: Settings) -> None:
    """Run a worker process of live calls, at a lower priority than calls of the API."""
    os.nice(LIVE_NICE)
    _serve_tasks(pipe, settings)


def comparison_worker_main(pipe: object, settings: Settings) -> None:
    """Run a worker process of CompareRecording, at a lower priority than calls of the API and live calls."""
    os.nice(COMPARISON_NICE)
    _serve_tasks(pipe, settings)


def batch_worker_main(pipe: object, settings: Settings) -> None:
    """Run a worker process of jobs, at a lower priority than live calls and comparisons."""
    os.nice(BATCH_NICE)
    _serve_tasks(pipe, settings)


def _serve_tasks(pipe: object, settings: Settings) -> None:
    logs.configure(settings.log.level, settings.log.form)
    serve_tasks(
        pipe,  # type: ignore[arg-type]
        fetch_with(settings),
        load_models,
        detectors(settings.fraud, CountermeasureFiles(settings.data)),
        settings.audio,
        ModelFiles(settings.data),
    )
