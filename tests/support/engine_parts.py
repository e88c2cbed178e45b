"""Workers for the pool's tests: real processes that answer at once, behind a gate, or never become ready."""

from __future__ import annotations

import os
from pathlib import Path

from made_samples import made_result
from waiting import wait_until

from sonant.jobs.workers.engines.local import READY, Answers


def answer(pipe, gates=None):
    """Answer each task with its model id; with a folder of gates, once its gate there is open."""
    pipe.send(READY)
    while True:
        try:
            (task,) = pipe.recv()
        except EOFError:
            return
        if gates is not None:
            Path(gates, f"{task.model_id}.running").touch()
            wait_until("the gate opens", Path(gates, f"{task.model_id}.open").exists)
        pipe.send(Answers([(task.task_id, _result(task.model_id))], 0.0))


def never_ready(_pipe):
    os._exit(3)


def die_unless(pipe, file):
    """End before being ready until the file is there."""
    if not os.path.exists(file):
        os._exit(3)
    answer(pipe)


def _result(mark):
    return made_result(model_id=mark, net_speech_s=0.0)
