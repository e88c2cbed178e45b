"""A worker process of an installation whose voice models are gone. Imported by the worker."""

from functools import partial
from pathlib import Path

from sonant.jobs.workers.process import serve_tasks
from sonant.settings import Audio
from sonant.voice.models import load_models


def without_models(pipe, empty_folder):
    serve_tasks(pipe, lambda _role, _uri: b"", partial(load_models, Path(empty_folder)), (), Audio())
