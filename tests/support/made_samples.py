"""Voice samples and task results with values of a test's choice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sonant.jobs.entry import TaskResult
from sonant.voice.quality import Quality
from sonant.voice.sample import VoiceSample


def made_sample(
    vector: ArrayLike = (), *, model_id: str = "m", net_speech_s: float = 30.0, **quality: Any
) -> VoiceSample:
    return VoiceSample(
        model_id=model_id,
        vector=np.asarray(vector, np.float32),
        quality=Quality(net_speech_s=net_speech_s, **quality),
    )


def made_result(vector: ArrayLike = (), *, risks: Any = (), audio: Any = None, **sample: Any) -> TaskResult:
    return TaskResult(sample=made_sample(vector, **sample), risks=risks, audio=audio)
