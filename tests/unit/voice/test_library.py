"""The public voice library: what it imports, what it returns, and why it refuses."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import numpy as np
import pytest

import sonant.voice
from sonant.errors import AudioError, ModelMismatch, NotEnoughSpeech, SetupError, WrongSampleRate
from sonant.voice import (
    VoiceModel,
    VoiceSample,
    decode,
    detect_speech,
    false_accept_rate,
    load_voice_model,
    measure_quality,
    resample,
    spoofing_risk,
)
from sonant.voice.audio.samples import pcm16_from_float
from sonant.voice.quality import Quality


@pytest.fixture(scope="module")
def model() -> VoiceModel:
    return load_voice_model()


@pytest.fixture(scope="module")
def samples_of(model, spoken):
    """The enrolled sample of a voice, and a probe of other clips."""

    def embed(voice):
        return model.embed(resample(spoken(voice, 20), 8000)), model.embed(
            resample(spoken(voice, 10, 100), 8000)
        )

    return embed


def imported(code: str) -> set[str]:
    """Top-level modules after running code in a fresh interpreter."""
    program = f"{code}\nimport sys, json\nprint(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_of_the_library_loads_no_service_and_no_network():
    modules = imported("import sonant.voice")

    assert not modules & {
        "starlette",
        "uvicorn",
        "sqlalchemy",
        "onnxruntime",
        "numpy",
        "soundfile",
        "botocore",
    }


def test_use_of_the_library_loads_no_service():
    modules = imported("from sonant.voice import *\nload_voice_model()")

    assert "onnxruntime" in modules
    assert not modules & {"starlette", "uvicorn", "sqlalchemy", "botocore", "click"}


def test_every_public_name_exists_and_unknown_ones_are_refused():
    for name in sonant.voice.__all__:
        assert getattr(sonant.voice, name) is not None
    assert set(sonant.voice.__all__) <= set(dir(sonant.voice))
    with pytest.raises(AttributeError, match="no_such_name"):
        sonant.voice.no_such_name  # noqa: B018


def test_decode_takes_bytes_paths_and_files(encoded, spoken, tmp_path):
    data = encoded(spoken("english", 2), 8000, "FLAC", "PCM_16")
    path = tmp_path / "call.flac"
    path.write_bytes(data)

    expected = decode(data).samples

    for source in (path, str(path), io.BytesIO(data)):
        np.testing.assert_array_equal(decode(source).samples, expected)


def test_decode_chooses_a_channel(encoded):
    data = encoded(np.stack([np.zeros(8000), np.full(8000, 0.5)], axis=1))

    assert decode(data, channel=1).samples.max() == 0.5
    with pytest.raises(AudioError, match="channel 2 is not there"):
        decode(data, channel=2)


def test_same_speaker_scores_above_90_and_others_below(model, samples_of):
    (enrolled, probe), (_, other) = samples_of("english"), samples_of("french")

    assert model.score(enrolled, probe) >= 90
    assert model.score(enrolled, other) < 80


def test_comparison_agrees_with_the_score_and_its_rate(model, samples_of):
    enrolled, probe = samples_of("english")
    result = model.compare(enrolled, probe)

    assert result.score == model.score(enrolled, probe)
    assert result.similarity == pytest.approx(float(enrolled.vector @ probe.vector))
    assert result.false_accept_rate == false_accept_rate(result.score)
    assert result.log_likelihood_ratio > 0


@pytest.mark.parametrize(("score", "rate"), [(50, 0.1), (80, 0.01), (90, 0.001), (100, 0.00001)])
def test_false_accept_rate_of_a_score(score, rate):
    assert false_accept_rate(score) == pytest.approx(rate)


def test_embedding_of_several_recordings_uses_all_of_them(model, spoken):
    parts = [resample(spoken("english", 4, clip), 8000) for clip in (0, 50)]

    sample = model.embed(*parts)

    assert sample.quality.net_speech_s > max(model.embed(part).quality.net_speech_s for part in parts)


@pytest.mark.parametrize("frame", [1, 160, 333, 100_000])
def test_stream_gives_the_embedding_of_the_recording(model, spoken, frame):
    samples = np.rint(spoken("english", 12) * 32768).astype(np.float32) / np.float32(32768)
    expected = model.embed(resample(samples, 8000), max_speech_s=5)
    pcm, stream = pcm16_from_float(samples[: 4000 if frame == 1 else None]), model.stream(net_speech_s=5)
    if frame == 1:  # bytes one by one, with halves of samples; the rest at once
        found = [stream.push(pcm[at : at + 1]) for at in range(len(pcm))]
        found.append(stream.push(samples[4000:]))
    else:
        found = [stream.push(pcm[at : at + frame]) for at in range(0, len(pcm), frame)]

    assert found[-1] is stream.sample is stream.finish()
    assert stream.net_speech_s == 5
    np.testing.assert_allclose(stream.finish().vector, expected.vector, atol=1e-4)


def test_stream_that_ends_early_is_embedded_from_what_there_is(model, spoken):
    stream = model.stream(rate_hz=16000, net_speech_s=60)
    assert stream.push(np.repeat(spoken("english", 5), 2)) is None

    assert 1.6 <= stream.finish().quality.net_speech_s < 60


def test_stream_without_enough_speech_is_refused(model):
    stream = model.stream()
    stream.push(bytes(16000))

    with pytest.raises(NotEnoughSpeech):
        stream.finish()
    with pytest.raises(ValueError, match=r"at least 1\.6"):
        model.stream(net_speech_s=1)
    with pytest.raises(WrongSampleRate, match="4000 Hz"):
        model.stream(rate_hz=4000)


def test_silence_has_no_embedding_no_quality_and_no_risk(model):
    silence = resample(np.zeros(80_000, np.float32), 8000)

    assert detect_speech(silence) == ()
    for function in (model.embed, measure_quality, spoofing_risk):
        with pytest.raises(NotEnoughSpeech):
            function(silence)


def test_genuine_speech_has_measures_and_a_low_risk(spoken):
    audio = resample(spoken("english", 12), 8000)

    assert len(detect_speech(audio)) >= 1
    snr_db = measure_quality(audio).snr_db
    assert snr_db is not None and snr_db > 10
    assert spoofing_risk(audio).score < 50


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((2, 8000), np.float32), "2 dimensions"),
        (np.zeros(8000, np.int32), "int32"),
        (np.full(8000, np.nan, np.float32), "not finite"),
    ],
)
def test_unusable_samples_are_refused(samples, message):
    with pytest.raises(AudioError, match=message):
        resample(samples, 8000)


def test_samples_of_two_models_are_not_compared(model, samples_of):
    enrolled, probe = samples_of("english")
    foreign = VoiceSample(model_id="other", vector=probe.vector, quality=Quality(net_speech_s=5.0))

    with pytest.raises(ModelMismatch):
        model.score(enrolled, foreign)


def test_model_without_calibration_gives_samples_but_no_scores(model, samples_of):
    def no_embedder(_samples):
        raise AssertionError("not used")

    plain = VoiceModel(model.model_id, no_embedder, None)

    with pytest.raises(SetupError, match="has no calibration"):
        plain.score(*samples_of("english"))
