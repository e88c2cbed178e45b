"""Speech that repeats earlier speech counts once."""

from __future__ import annotations

import numpy as np
import pytest

from sonant.errors import NotEnoughSpeech
from sonant.evaluation.channels import parse
from sonant.voice.enrollment import RecordingSource, collect_speech
from sonant.voice.repeats import find_repeats
from sonant.voice.speech import analyze

LINES = ["narrow+g711", "gsm", "g711", "white:15", "narrow+gsm"]


def net(samples, models):
    return analyze(np.asarray(samples, np.float32), models).speech


@pytest.mark.parametrize("voice", ["english", "french", "italian", "russian"])
def test_one_clip_ten_times_is_one_clip(models, spoken, voice):
    clip = spoken(voice, 4.0)
    once = len(net(clip, models)) / 8000
    speech = net(np.tile(clip, 10), models)

    left_s = float(np.sum(~find_repeats(speech))) / 8000

    assert len(speech) / 8000 > 9 * once
    assert once - 0.5 <= left_s <= once + 3


def test_a_clip_over_several_lines_is_one_clip(models, spoken):
    clip = spoken("french", 4.0)
    copies = [
        parse(line).apply(clip, seed=(number,)) * (0.3 + 0.1 * number) for number, line in enumerate(LINES)
    ]
    speech = net(np.concatenate([clip, *copies]), models)

    assert np.mean(find_repeats(speech)) == pytest.approx(5 / 6, abs=0.07)


@pytest.mark.parametrize("voice", ["english", "french", "italian", "italian-menardi", "russian", "spanish"])
def test_different_sentences_of_one_person_do_not_repeat(models, spoken, voice):
    assert not find_repeats(net(spoken(voice, 40.0), models)).any()


def test_too_little_speech_has_no_repeats(spoken):
    assert not find_repeats(spoken("english", 2.9)).any()


def collected(models, encoded, recordings, need_s):
    sources = [
        RecordingSource(name=f"s3://b/{number}.wav", data=encoded(samples), channel=0)
        for number, samples in enumerate(recordings, 1)
    ]
    return collect_speech(sources, need_s=need_s, models=models, strict=False, max_duration_s=600)


def test_repeats_are_reported_when_speech_is_missing(models, spoken, encoded):
    clip = spoken("italian", 4.0)
    with pytest.raises(NotEnoughSpeech) as missing:
        collected(models, encoded, [np.tile(clip, 10)], 30)

    assert missing.value.have_s < 8
    assert "s more repeat other speech of the request and count once" in str(missing.value)


def test_reading_goes_on_behind_repeats(models, spoken, encoded):
    first, second = spoken("italian", 8.0), spoken("italian", 20.0, 30)
    found = collected(models, encoded, [first, first * np.float32(0.5), second], 15)

    assert found.net_speech_s == 15
    assert found.recordings_used == 3
    assert 0.2 < found.quality.repeat_share < 0.4
    alone = collected(models, encoded, [first, second], 15)
    assert np.corrcoef(found.samples[:40000], alone.samples[:40000])[0, 1] > 0.99
    assert alone.quality.repeat_share == 0
