"""Scores depend on the lines of reference and probe."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from voice_models import voice_models

from sonant.evaluation.channels import parse
from sonant.evaluation.cutting import template
from sonant.evaluation.scorer import calibrated
from sonant.voice.calibration.model import Calibration, Node, Normal, Tail
from sonant.voice.models import shipped_encoder_id

CLEAN, NARROW = "clean", "narrow+g711"


def grid(mean):
    return (Node(speech_s=10.0, snr_db=20.0, tail=Tail(z=Normal(mean=mean, deviation=0.2))),)


CALIBRATION = Calibration(model_id=shipped_encoder_id(), nodes=grid(0.0), highpass_300hz=grid(0.5))


@pytest.fixture(scope="module")
def templates(voices):
    """One voice over a line with low sound and over one without."""
    clips = [soundfile.read(path, dtype="float32")[0] for path in voices["english"][:12]]
    speech = np.concatenate(clips)[:80_000]
    return {
        name: template(parse(name).apply(speech, seed=(1,)), voice_models(), net_speech_s=3.0)
        for name in (CLEAN, NARROW)
    }


@pytest.mark.parametrize("reference", [CLEAN, NARROW])
@pytest.mark.parametrize("probe", [CLEAN, NARROW])
def test_two_300_hz_lines_use_the_300_hz_grid(templates, reference, probe):
    mean = 0.5 if reference == probe == NARROW else 0.0
    found = calibrated(CALIBRATION)(templates[reference], templates[probe])

    assert templates[probe].quality.highpass_300hz == (probe == NARROW)
    only = Calibration(model_id=CALIBRATION.model_id, nodes=grid(mean))
    assert found.score == only.score(found.raw, speech_s=3.0, snr_db=20.0)
    assert found.llr == pytest.approx(only.llr(found.raw, speech_s=3.0, snr_db=20.0))
