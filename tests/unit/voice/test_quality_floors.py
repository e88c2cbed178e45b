"""Limits of audio that is scored: what is refused, with which words, and what passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from sonant.errors import PoorQuality
from sonant.evaluation.channels import parse
from sonant.jobs.entry import quality_floors
from sonant.settings import Settings
from sonant.voice.enrollment import collect_from_blocks
from sonant.voice.floors import QualityFloors, quality_faults, require_quality
from sonant.voice.quality import Quality, Speed, level_dbfs

GOOD = Quality(
    net_speech_s=30.0,
    snr_db=20.0,
    level_dbfs=-25.0,
    band_hz=3400.0,
    clipping_share=0.0,
    repeat_share=0.0,
    speed=Speed.RIGHT,
)
FLOORS = QualityFloors()
VOICES = ["english", "french", "italian", "italian-menardi", "russian", "spanish"]


def measured(models, samples):
    """The quality of speech in a recording at 8 kHz, whatever there is of it."""
    return collect_from_blocks([[samples.astype(np.float32)]], need_s=60, at_least_s=0, models=models).quality


def test_good_audio_and_measures_not_taken_have_no_fault():
    assert quality_faults(GOOD, FLOORS) == ()
    assert quality_faults(Quality(net_speech_s=30.0), FLOORS) == ()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"level_dbfs": -71.0},
            "a level of -71 dBFS, at least -60 dBFS are needed (quality.min_level_dbfs): ",
        ),
        ({"snr_db": -10.0}, "-10 dB above the noise, at least 3 dB are needed (quality.min_snr_db): "),
        ({"band_hz": 200.0}, "no sound above 200 Hz, at least 500 Hz are needed (quality.min_band_hz): "),
        ({"clipping_share": 0.6}, "60% of the speech is at full scale, at most 10% may be "),
        ({"repeat_share": 0.9}, "90% of the speech repeats other speech of the request, at most 80% may "),
        ({"speed": Speed.SLOW}, "the speech plays too slowly for a person (quality.check_speed): "),
        ({"speed": Speed.FAST}, "the speech plays too fast for a person (quality.check_speed): "),
    ],
)
def test_fault_states_measure_limit_setting_and_cure(change, text):
    (fault,) = quality_faults(replace(GOOD, **change), FLOORS)
    assert text in fault
    assert len(fault.rpartition("): ")[2]) > 20, "it ends with what to do"


def test_all_faults_are_named_at_once():
    with pytest.raises(PoorQuality) as refused:
        require_quality(replace(GOOD, snr_db=-10.0, band_hz=200.0), FLOORS)
    assert str(refused.value).startswith("the audio cannot be scored: the speech is -10 dB above")
    assert "quality.min_band_hz" in str(refused.value)
    assert len(refused.value.reasons) == 2


def test_limits_are_those_of_the_settings():
    assert quality_floors(Settings()) == FLOORS
    lax = QualityFloors(
        min_level_dbfs=-100, min_snr_db=-10, min_band_hz=0, max_clipping_share=1, max_repeat_share=1,
        check_speed=False,
    )  # fmt: skip
    worst = replace(
        GOOD,
        snr_db=-10.0,
        level_dbfs=-90.0,
        band_hz=0.0,
        clipping_share=1.0,
        repeat_share=1.0,
        speed=Speed.FAST,
    )
    assert quality_faults(worst, lax) == ()


@pytest.mark.parametrize("voice", VOICES)
@pytest.mark.parametrize(
    "line", ["clean", "narrow+gsm", "white:12+narrow+gsm", "pink:12+g711", "loss:5", "level"]
)
def test_telephone_speech_keeps_every_limit(models, spoken, voice, line):
    samples = spoken(voice, 12.0)
    if line == "level":
        samples = samples * np.float32(10 ** ((-40 - level_dbfs(samples)) / 20))
    else:
        samples = parse(line).apply(samples, seed=(1,))

    assert quality_faults(measured(models, samples), FLOORS) == ()


@pytest.mark.parametrize("voice", VOICES)
def test_wrong_codec_is_refused(models, spoken, tmp_path, voice):
    path = tmp_path / "law.raw"
    soundfile.write(path, spoken(voice, 20.0), 8000, format="RAW", subtype="ALAW")
    as_pcm8 = (np.frombuffer(path.read_bytes(), np.uint8).astype(np.float32) - 128) / 128

    quality = measured(models, as_pcm8)

    assert quality.net_speech_s < 3 or quality_faults(quality, FLOORS)


@pytest.mark.parametrize("voice", VOICES)
@pytest.mark.parametrize(("line", "refused"), [("level:0+pcm16", True), ("clip:5+pcm16", False)])
def test_speech_that_is_mostly_cut_off_is_refused(models, spoken, voice, line, refused):
    samples = parse(line).apply(spoken(voice, 12.0), seed=(1,))

    faults = quality_faults(measured(models, samples), FLOORS)

    assert any("of the speech is at full scale" in fault for fault in faults) is refused


def test_level_is_the_power_of_the_samples():
    assert level_dbfs(np.full(100, 0.1, np.float32)) == pytest.approx(-20, abs=0.01)
    assert level_dbfs(np.zeros(100, np.float32)) == level_dbfs(np.empty(0, np.float32)) == pytest.approx(-90)
