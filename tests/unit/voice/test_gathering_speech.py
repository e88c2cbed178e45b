"""Recordings in order, read only as far as needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sonant.errors import AudioError, NotEnoughSpeech
from sonant.evaluation.channels import parse
from sonant.voice.audio import recording as audio
from sonant.voice.audio.recording import Recording
from sonant.voice.enrollment import RecordingSource, decode_audio, encode_audio, gather_speech
from sonant.voice.speech import Segment, speech

RULES: dict[str, Any] = {"strict": False, "max_duration_s": 600.0}


@pytest.fixture
def voice(voices):
    return next(iter(voices))


def source(name, data, channel=0):
    return RecordingSource(name=name, data=data, channel=channel)


def test_speech_is_what_the_segments_hold_up_to_what_is_needed(models, spoken, encoded, voice):
    # Given: a call with pauses
    talk = spoken(voice, 12.0)
    pause = np.random.default_rng(0).normal(0, 0.001, 8000).astype(np.float32)
    data = encoded(np.concatenate([pause, talk[:40_000], pause, talk[40_000:], pause]))

    # When
    found = gather_speech([source("a", data)], need_s=6.0, models=models, **RULES)

    # Then: the first six seconds of all segments, joined
    waveform = audio.decode(data, channel=0, **RULES)
    cut = [waveform.samples[_span(segment)] for segment in speech(waveform, models)]
    np.testing.assert_array_equal(found.samples, np.concatenate(cut)[:48_000])
    assert found.net_speech_s == found.quality.net_speech_s == 6.0
    assert (found.quality.snr_db or 0) > 15
    assert (found.quality.clipping_share or 0) < 0.01
    assert not found.quality.highpass_300hz


def test_several_recordings_make_up_the_need_together(models, spoken, encoded, voice):
    parts = [source(f"r{i}", encoded(spoken(voice, 6.0, 20 * i))) for i in range(4)]

    found = gather_speech(parts, need_s=8.0, models=models, **RULES)

    assert found.recordings_used in (2, 3)
    assert found.net_speech_s == 8.0


def test_nothing_is_fetched_or_decoded_after_the_need_is_met(models, spoken, encoded, voice, monkeypatch):
    # Given: two long recordings, and a count of what is asked for
    data, asked, decoded = encoded(np.tile(spoken(voice, 20.0), 6)), [], []
    original = Recording.blocks

    def counted(recording):
        for block in original(recording):
            decoded.append(len(block))
            yield block

    def recordings():
        for name in ("first", "second"):
            asked.append(name)
            yield source(name, data)

    monkeypatch.setattr(Recording, "blocks", counted)

    # When
    found = gather_speech(recordings(), need_s=10.0, models=models, **RULES)

    # Then
    assert asked == ["first"]
    assert sum(decoded) < 25 * 8000
    assert found.quality.duration_s == pytest.approx(sum(decoded) / 8000)


@pytest.mark.parametrize("block_s", [0.05, 0.7, 30.0])
def test_the_block_length_does_not_change_the_speech(models, spoken, encoded, voice, monkeypatch, block_s):
    data = encoded(spoken(voice, 15.0), 8000, "FLAC", "PCM_16")
    expected = gather_speech([source("a", data)], need_s=7.0, models=models, **RULES)

    monkeypatch.setattr(audio, "_BLOCK_S", block_s)
    found = gather_speech([source("a", data)], need_s=7.0, models=models, **RULES)

    np.testing.assert_array_equal(found.samples, expected.samples)


def test_the_chosen_channel_is_the_one_listened_to(models, spoken, encoded, voice):
    talk = spoken(voice, 8.0)
    data = encoded(np.stack([np.zeros_like(talk), talk], axis=1))

    assert gather_speech([source("a", data, 1)], need_s=3.0, models=models, **RULES).net_speech_s == 3.0
    with pytest.raises(NotEnoughSpeech):
        gather_speech([source("a", data, 0)], need_s=3.0, models=models, **RULES)


def test_too_little_speech_says_how_much_there_was(models, spoken, encoded, voice):
    data = encoded(spoken(voice, 4.0))

    with pytest.raises(NotEnoughSpeech) as caught:
        gather_speech([source("a", data), source("b", data)], need_s=30.0, models=models, **RULES)

    assert 4.0 < caught.value.have_s <= 8.0
    assert caught.value.need_s == 30.0


def test_no_recordings_are_no_speech(models):
    with pytest.raises(NotEnoughSpeech):
        gather_speech([], need_s=1.0, models=models, **RULES)


def test_a_fault_begins_with_the_name_of_the_recording(models, encoded):
    silence = source("s3://b/quiet.wav", encoded(np.zeros(8000)))

    with pytest.raises(AudioError, match=r"^s3://b/bad\.wav: not a recording"):
        gather_speech([silence, source("s3://b/bad.wav", b"text")], need_s=1.0, models=models, **RULES)


def test_a_fault_of_the_supplier_passes_unchanged(models):
    def supplier():
        yield from ()
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        gather_speech(supplier(), need_s=1.0, models=models, **RULES)


# --- kept audio ------------------------------------------------------------------------------------------


def test_kept_audio_comes_back_bit_for_bit():
    numbers = np.random.default_rng(0).integers(-32768, 32768, 20_000)
    samples = (numbers / 32768).astype(np.float32)

    np.testing.assert_array_equal(decode_audio(encode_audio(samples)), samples)


def test_keeping_a_full_scale_sample_does_not_wrap_around():
    kept = decode_audio(encode_audio(np.array([1.0, -1.0] * 50, np.float32)))

    assert kept.max() == 32767 / 32768
    assert kept.min() == -1.0


@pytest.mark.parametrize("data", [b"", b"junk"])
def test_what_was_not_kept_by_us_is_not_read(data):
    with pytest.raises(AudioError, match="kept audio"):
        decode_audio(data)


def test_kept_audio_of_another_rate_is_refused(encoded):
    with pytest.raises(AudioError, match="16000 Hz"):
        decode_audio(encoded(np.zeros(100), 16000, "FLAC", "PCM_16"))


def _span(segment: Segment) -> slice:
    return slice(round(segment.start_s * 8000), round(segment.end_s * 8000))


def test_speech_of_a_line_with_a_low_cut_is_marked(models, spoken, encoded, voice):
    highpass_300hz = parse("narrow+gsm").apply(spoken(voice, 12.0), seed=(1,))

    found = gather_speech([source("a", encoded(highpass_300hz))], need_s=6.0, models=models, **RULES)

    assert found.quality.highpass_300hz
