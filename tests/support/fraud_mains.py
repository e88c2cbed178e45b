"""A worker that has a detector of voices made by machines, of which it knows some."""

import json
from pathlib import Path

import numpy as np

from sonant.assembly import worker_process
from sonant.jobs.fraud import Risk
from sonant.jobs.workers.process import serve_tasks
from sonant.voice.models import load_models


class LikeAMachine:
    """Cosine similarity to the nearest of some known voices, 0-100."""

    def __init__(self, voices):
        self._voices = np.array(voices, np.float32)

    def __call__(self, embedding, speech, risk_threshold):
        assert speech.dtype == np.float32
        best = float((self._voices @ embedding.vector).max())
        return Risk(name="VoiceSpoofingRisk", score=round(100 * max(best, 0.0)))


def work_with_detector(pipe, settings, voices):
    detector = LikeAMachine(json.loads(Path(voices).read_text()))
    serve_tasks(pipe, worker_process.fetch_with(settings), load_models, (detector,), settings.audio)
