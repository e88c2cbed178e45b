"""Speech collected from recordings in order, read only as far as needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sonant.errors import AudioError, NotEnoughSpeech
from sonant.evaluation.channels import parse
from sonant.voice.audio import recording as audio
from sonant.voice.audio.flac import decode_flac, encode_flac
from sonant.voice.audio.recording import Recording
from sonant.voice.enrollment import RecordingSource, collect_speech
from sonant.voice.speech import analyze

RULES: dict[str, Any] = {"strict": False, "max_duration_s": 600.0}


@pytest.fixture
def voice(voices):
    return next(iter(voices))


def source(name, data, channel=0):
    return RecordingSource(name=name, data=data, channel=channel)


def test_speech_equals_the_first_seconds_of_the_segments(models, spoken, encoded, voice):
    # Given: a call with pauses
    talk = spoken(voice, 12.0)
    pause = np.random.default_rng(0).normal(0, 0.001, 8000).astype(np.float32)
    data = encoded(np.concatenate([pause, talk[:40_000], pause, talk[40_000:], pause]))

    # When
    found = collect_speech([source("a", data)], need_s=6.0, models=models, **RULES)

    # Then: the first six seconds of all segments, joined
    waveform = audio.decode(data, channel=0, **RULES)
    np.testing.assert_array_equal(found.samples, analyze(waveform.samples, models).speech[:48_000])
    assert found.net_speech_s == found.quality.net_speech_s == 6.0
    snr_db, clipping_share = found.quality.snr_db, found.quality.clipping_share
    assert snr_db is not None and snr_db > 15
    assert clipping_share is not None and clipping_share < 0.01
    assert not found.quality.highpass_300hz


def test_several_recordings_together_meet_the_need(models, spoken, encoded, voice):
    parts = [source(f"r{i}", encoded(spoken(voice, 6.0, 20 * i))) for i in range(4)]

    found = collect_speech(parts, need_s=8.0, models=models, **RULES)

    assert found.recordings_used in (2, 3)
    assert found.net_speech_s == 8.0


def test_recordings_after_the_need_is_met_are_not_read(models, spoken, encoded, voice, monkeypatch):
    # Given: two long recordings, and a count of what is requested
    data, requested, decoded = encoded(np.tile(spoken(voice, 20.0), 6)), [], []
    original = Recording.blocks

    def counted(recording):
        for block in original(recording):
            decoded.append(len(block))
            yield block

    def recordings():
        for name in ("first", "second"):
            requested.append(name)
            yield source(name, data)

    monkeypatch.setattr(Recording, "blocks", counted)

    # When
    found = collect_speech(recordings(), need_s=10.0, models=models, **RULES)

    # Then
    assert requested == ["first"]
    assert sum(decoded) < 25 * 8000
    assert found.quality.duration_s == pytest.approx(sum(decoded) / 8000)


@pytest.mark.parametrize("block_s", [0.05, 0.7, 30.0])
def test_block_length_does_not_change_the_speech(models, spoken, encoded, voice, monkeypatch, block_s):
    data = encoded(spoken(voice, 15.0), 8000, "FLAC", "PCM_16")
    expected = collect_speech([source("a", data)], need_s=7.0, models=models, **RULES)

    monkeypatch.setattr(audio, "BLOCK_S", block_s)
    found = collect_speech([source("a", data)], need_s=7.0, models=models, **RULES)

    np.testing.assert_array_equal(found.samples, expected.samples)


def test_only_the_chosen_channel_is_used(models, spoken, encoded, voice):
    talk = spoken(voice, 8.0)
    data = encoded(np.stack([np.zeros_like(talk), talk], axis=1))

    assert collect_speech([source("a", data, 1)], need_s=3.0, models=models, **RULES).net_speech_s == 3.0
    with pytest.raises(NotEnoughSpeech):
        collect_speech([source("a", data, 0)], need_s=3.0, models=models, **RULES)


def test_too_little_speech_states_the_amount_found(models, spoken, encoded, voice):
    data = encoded(spoken(voice, 4.0))

    with pytest.raises(NotEnoughSpeech) as caught:
        collect_speech([source("a", data), source("b", data)], need_s=30.0, models=models, **RULES)

    assert 4.0 < caught.value.have_s <= 8.0
    assert caught.value.need_s == 30.0


def test_no_recordings_raise_not_enough_speech(models):
    with pytest.raises(NotEnoughSpeech):
        collect_speech([], need_s=1.0, models=models, **RULES)


def test_faulty_recording_is_named_first_in_the_message(models, encoded):
    silence = source("s3://b/quiet.wav", encoded(np.zeros(8000)))

    with pytest.raises(AudioError, match=r"^s3://b/bad\.wav: not a recording"):
        collect_speech([silence, source("s3://b/bad.wav", b"text")], need_s=1.0, models=models, **RULES)


def test_exception_of_the_source_passes_unchanged(models):
    def supplier():
        yield from ()
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        collect_speech(supplier(), need_s=1.0, models=models, **RULES)


# --- stored audio ---------------------------------------------------------------------------------------


def test_flac_is_lossless_for_16_bit_samples():
    numbers = np.random.default_rng(0).integers(-32768, 32768, 20_000)
    samples = (numbers / 32768).astype(np.float32)

    np.testing.assert_array_equal(decode_flac(encode_flac(samples)), samples)


def test_flac_clips_full_scale_instead_of_wrapping():
    decoded = decode_flac(encode_flac(np.array([1.0, -1.0] * 50, np.float32)))

    assert decoded.max() == 32767 / 32768
    assert decoded.min() == -1.0


@pytest.mark.parametrize("data", [b"", b"junk"])
def test_decode_flac_refuses_other_bytes(data):
    with pytest.raises(AudioError, match="stored audio"):
        decode_flac(data)


def test_decode_flac_refuses_another_sample_rate(encoded):
    with pytest.raises(AudioError, match="16000 Hz"):
        decode_flac(encoded(np.zeros(100), 16000, "FLAC", "PCM_16"))


def test_speech_over_a_300_hz_high_pass_is_marked(models, spoken, encoded, voice):
    samples = parse("narrow+gsm").apply(spoken(voice, 12.0), seed=(1,))

    found = collect_speech([source("a", encoded(samples))], need_s=6.0, models=models, **RULES)

    assert found.quality.highpass_300hz
