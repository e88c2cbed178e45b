"""Speech under a header of another rate plays too slowly or too fast."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from sonant.evaluation.channels import parse
from sonant.voice.quality import Speed
from sonant.voice.speech import analyze
from sonant.voice.speed import MIN_SPEECH_S, judge_speed

VOICES = ["english", "french", "italian", "italian-menardi", "russian", "spanish"]


def speech_of(models, samples):
    return analyze(np.clip(samples, -1, 1).astype(np.float32), models).speech


def played(samples, rate_hz, header_hz):
    """Samples at one rate, read under a header of another, at 8 kHz."""
    return soxr.resample(soxr.resample(samples, 8000, rate_hz), header_hz, 8000)


@pytest.mark.parametrize("voice", VOICES)
@pytest.mark.parametrize("line", ["clean", "narrow+gsm", "narrow+g711", "white:12+narrow+gsm", "loss:5"])
def test_people_at_their_own_speed_are_right(models, spoken, voice, line):
    samples = parse(line).apply(spoken(voice, 30.0), seed=(1,))
    assert judge_speed(speech_of(models, samples)) is Speed.RIGHT


@pytest.mark.parametrize("seconds", [0.0, 1.0, MIN_SPEECH_S - 0.1])
def test_too_little_speech_is_not_judged(models, spoken, seconds):
    slow = played(spoken("english", 30.0), 16000, 8000).astype(np.float32)
    assert judge_speed(speech_of(models, slow)[: int(seconds * 8000)]) is Speed.RIGHT


@pytest.mark.parametrize(
    ("header_hz", "seconds", "wrong", "least"),
    [(8000, 20.0, Speed.SLOW, 6), (32000, 60.0, Speed.FAST, 5)],
)
def test_half_and_double_speed_are_found(models, spoken, header_hz, seconds, wrong, least):
    speech = [speech_of(models, played(spoken(voice, seconds), 16000, header_hz)) for voice in VOICES]
    assert [judge_speed(one) for one in speech].count(wrong) >= least
