"""Workers that hear nothing: the same answer for every task, at once. Imported by processes and actors.

The answer has a voiceprint's size, no kept audio and no risks. Nothing sleeps: what is measured with them is
everything but the voice.
"""

from __future__ import annotations

import time
from multiprocessing.connection import Connection

import numpy as np

from sonant.jobs.entry import Task, TaskResult
from sonant.jobs.faults import Refusal
from sonant.jobs.workers.engines.local import READY, Answers
from sonant.voice.models import shipped_encoder_id
from sonant.voice.quality import Quality
from sonant.voice.sample import VoiceSample

DIMENSIONS = 256


def _answer() -> TaskResult:
    sample = VoiceSample(
        model_id=shipped_encoder_id(),
        vector=np.full(DIMENSIONS, DIMENSIONS**-0.5, np.float32),
        quality=Quality(net_speech_s=30.0, snr_db=20.0),
    )
    return TaskResult(sample=sample)


def work(pipe: Connection) -> None:
    """A worker process of the local engine. Each answer is a value of its own, as real ones are."""
    pipe.send(READY)
    while True:
        try:
            tasks: tuple[Task, ...] = pipe.recv()
        except (EOFError, OSError):
            return
        begun_s = time.monotonic()
        results: list[tuple[int, TaskResult | Refusal]] = [(task.task_id, _answer()) for task in tasks]
        pipe.send(Answers(results, time.monotonic() - begun_s))


class StubExecutor:
    """Executes the tasks of a Ray actor."""

    def fetch_first(self, _task: Task) -> bytes:
        return b""

    def execute(self, _task: Task, _first: bytes | Exception) -> TaskResult:
        return _answer()
