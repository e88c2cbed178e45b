"""What messages say of a channel that holds little speech."""

from __future__ import annotations

import numpy as np
import pytest

from sonant.errors import NotEnoughSpeech
from sonant.voice import channel_summary
from sonant.voice.channel_summary import describe_channels, find_tones, summarize_channels
from sonant.voice.enrollment import RecordingSource, collect_speech

SECONDS = np.arange(8000 * 20) / 8000


def tone(*hertz, level=0.2):
    return sum(np.sin(2 * np.pi * one * SECONDS) for one in hertz).astype(np.float32) * level / len(hertz)


@pytest.mark.parametrize("hertz", [(425,), (350, 440), (480, 620), (1000,), (2100,)])
def test_call_progress_tones_are_found(hertz):
    noise = np.random.default_rng(1).normal(0, 0.002, len(SECONDS)).astype(np.float32)
    found = find_tones(tone(*hertz) + noise)
    assert len(found) == len(hertz)
    assert found == pytest.approx(hertz, abs=8)


@pytest.mark.parametrize("voice", ["english", "french", "italian", "italian-menardi", "russian", "spanish"])
def test_speech_and_noise_are_no_tones(spoken, voice):
    assert find_tones(spoken(voice, 20.0)) == ()
    assert find_tones(np.random.default_rng(1).normal(0, 0.1, 80000).astype(np.float32)) == ()
    assert find_tones(np.zeros(80000, np.float32)) == find_tones(np.empty(0, np.float32)) == ()


def missing(models, *recordings, channel=0, need_s=30):
    sources = [
        RecordingSource(name=f"s3://b/{number}.wav", data=data, channel=channel)
        for number, data in enumerate(recordings, 1)
    ]
    with pytest.raises(NotEnoughSpeech) as raised:
        collect_speech(sources, need_s=need_s, models=models, strict=False, max_duration_s=600)
    return str(raised.value)


def test_every_file_is_named_with_its_share(models, spoken, encoded):
    told = missing(models, encoded(spoken("english", 5.0)), encoded(spoken("english", 8.0, 40)))
    start, first, second = told.split("; ")

    assert start.startswith("not enough speech: ")
    assert start.endswith("s of net speech, at least 30.0 s needed")
    assert first.startswith("s3://b/1.wav channel 0: ")
    assert first.endswith(" s of speech in 5.0 s of audio")
    assert second.startswith("s3://b/2.wav channel 0: ")


def test_silence_is_reported_by_its_level(models, encoded):
    assert missing(models, encoded(np.zeros(80000, np.float32))).endswith(
        "s3://b/1.wav channel 0: 0.0 s of speech in 10.0 s of audio at -90 dBFS (silence)"
    )


def test_dial_tone_is_reported_by_its_frequency(models, encoded):
    told = missing(models, encoded(tone(425)))
    assert told.endswith("0.0 s of speech in 20.0 s of audio at -17 dBFS (a tone of 422 Hz)")


def test_the_channel_that_holds_speech_is_named(models, spoken, encoded):
    speech = spoken("french", 40.0)
    stereo = np.stack([np.zeros_like(speech), speech], axis=1)
    told = missing(models, encoded(stereo))

    assert "at -90 dBFS (silence), but channel 1 holds 3" in told
    assert told.endswith(" s of speech: check ChannelId")


def test_many_channels_are_summarized_from_fewer_seconds(models, spoken, encoded, monkeypatch):
    speech = spoken("french", 20.0)
    data = encoded(np.stack([np.zeros_like(speech)] * 3 + [speech], axis=1))
    assert summarize_channels(data, models, strict=False, max_duration_s=60)[3].net_speech_s > 10
    monkeypatch.setattr(channel_summary, "MAX_SUMMARIZED_SAMPLES", 16 * 8000)  # a second of each
    (*_, last) = summarize_channels(data, models, strict=False, max_duration_s=60)
    assert last.channel == 3
    assert last.net_speech_s < 5, "a block of four seconds is read"


def test_a_recording_that_cannot_be_opened_has_no_summary(models):
    found = summarize_channels(b"nothing", models, strict=False, max_duration_s=60)
    assert found == ()
    assert describe_channels(0, found) == ""
