"""The new detector is registered, finds a loop, and its result is merged with the others by the maximum."""

import numpy as np

from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.spoofing.registry import DetectionLimits, assess_spoofing, spoof_detectors

assert set(spoof_detectors()) == {"loops", "synthetic-speech"}

rng = np.random.default_rng(1)
noise = rng.normal(0, 0.1, 4 * RATE_HZ).astype(np.float32)
loop = np.tile(noise[: RATE_HZ + 123], 4)
detector = spoof_detectors()["loops"]
assert detector(noise, DetectionLimits()).score == 0
assert detector(loop, DetectionLimits()).score == 100

found = assess_spoofing(loop, DetectionLimits())
assert (found.score, found.evidence) == (100, "LOOP")
