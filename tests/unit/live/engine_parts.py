"""Workers for the pool's tests: real processes that answer at once, slowly, or never get ready."""

from __future__ import annotations

import os
import time

from sonant.jobs.engines.local import READY
from sonant.jobs.entry import Prepared


def answer(pipe, pause_s=0.0):
    """Each task's answer is its own mark, after a pause."""
    pipe.send(READY)
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        time.sleep(pause_s)
        pipe.send((task.ticket, _heard(task.model_id)))


def never_ready(_pipe):
    os._exit(3)


def die_unless(pipe, file):
    """End before being ready until the file is there."""
    if not os.path.exists(file):
        os._exit(3)
    answer(pipe)


def _heard(mark):
    return Prepared(model_id=mark, vector=b"", net_speech_s=0.0, snr_db=0.0, risks=(), audio=None)
