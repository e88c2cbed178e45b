"""Calibration files: written and read unchanged; faults are named."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sonant.errors import SetupError
from sonant.voice.calibration.file import read_calibration, shipped_calibration, write_calibration
from sonant.voice.calibration.model import Calibration, Node, Normal, PartLimits, Tail
from sonant.voice.models import shipped_encoder_id

NODES = tuple(
    Node(speech_s=speech_s, snr_db=snr_db, tail=Tail(z=Normal(mean=0.1, deviation=0.15)))
    for speech_s in (3.0, 10.0)
    for snr_db in (10.0, 30.0)
)
MADE = Calibration(model_id="a-model", nodes=NODES, supported_log10_far=-2.5, llr_slope=2.5, llr_offset=-4.0)


def test_written_calibration_is_read_unchanged():
    assert read_calibration(write_calibration(MADE, {"speech": "some"})) == MADE


def test_300_hz_grid_is_optional():
    both = replace(MADE, highpass_300hz=NODES[:2])
    assert read_calibration(write_calibration(both, {})) == both
    assert "narrow" not in json.loads(write_calibration(MADE, {}))


def test_limits_of_parts_are_read_as_written():
    own = replace(MADE, part_limits=PartLimits(halves=74, thirds=66))
    assert read_calibration(write_calibration(own, {})) == own


def test_calibration_without_limits_of_parts_has_those_of_ge2e():
    text = json.loads(write_calibration(MADE, {}))
    del text["least_part_scores"]
    assert read_calibration(json.dumps(text)).part_limits == PartLimits(halves=80, thirds=70)


def test_limits_of_parts_outside_scores_are_refused():
    text = json.loads(write_calibration(MADE, {})) | {"least_part_scores": {"halves": 101, "thirds": 70}}
    with pytest.raises(SetupError, match="least_part_scores must be 0 to 100"):
        read_calibration(json.dumps(text))


def test_shipped_calibration_belongs_to_the_shipped_model():
    assert shipped_calibration().model_id == shipped_encoder_id()


def test_shipped_calibration_separates_strangers_from_one_voice():
    shipped = shipped_calibration()
    for speech_s in (3, 5, 10, 30):
        for snr_db in (5, 20, 40):
            assert shipped.score(0.0, speech_s=speech_s, snr_db=snr_db) < 50
            assert shipped.score(0.97, speech_s=speech_s, snr_db=snr_db) >= 90


def test_shipped_calibration_is_stricter_on_300_hz_lines():
    shipped = shipped_calibration()
    assert shipped.highpass_300hz
    for speech_s in (3, 5, 10):
        for snr_db in (10, 25, 40):
            one, other = (
                shipped.tail(speech_s, snr_db, highpass_300hz=highpass_300hz)
                for highpass_300hz in (False, True)
            )
            assert other.similarity_at(-3) > one.similarity_at(-3)


def changed(**members):
    return json.dumps(json.loads(write_calibration(MADE, {})) | members)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "cannot be read"),
        ("[]", "cannot be read"),
        (changed(nodes=[]), "full grid"),
        (changed(nodes=json.loads(changed())["nodes"][:3]), "full grid"),
        (changed(nodes=[json.loads(changed())["nodes"][0] | {"deviation": 0}]), "above 0"),
        (changed(nodes=[json.loads(changed())["nodes"][0] | {"mean": float("nan")}]), "not finite"),
        (changed(narrow=json.loads(changed())["nodes"][:3]), "its narrow must be a full grid"),
        (changed(narrow=[json.loads(changed())["nodes"][0] | {"deviation": 0}]), "above 0"),
        (changed(narrow=7), "cannot be read"),
        (changed(supported_log10_far=None), "cannot be read"),
        (changed(llr_slope=0), "llr_slope"),
    ],
)
def test_broken_file_is_refused_with_its_fault(text, why):
    with pytest.raises(SetupError, match=why):
        read_calibration(text)
