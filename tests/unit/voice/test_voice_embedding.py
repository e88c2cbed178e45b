"""Features as in the encoder's training, and embeddings of different speakers."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import soxr

from sonant.errors import ModelMismatch, NotEnoughSpeech
from sonant.evaluation.channels import parse
from sonant.voice.models.embedding import (
    Embedding,
    embed,
    mel_power,
    with_usual_slope,
    without_steady_power,
)
from sonant.voice.scoring import similarity


def reference_mels(samples_16k):
    """The training front end written out one frame and one band at a time, at its own 16 kHz."""

    def hz(mel):
        return mel * 200 / 3 if mel < 15 else 1000 * np.exp((mel - 15) * np.log(6.4) / 27)

    top = 15 + 27 * np.log(8) / np.log(6.4)
    edges = [hz(top * i / 41) for i in range(42)]
    padded = np.concatenate([np.zeros(200), samples_16k, np.zeros(200)])
    window = np.array([np.sin(np.pi * n / 400) ** 2 for n in range(400)])
    rows = []
    for start in range(0, len(padded) - 399, 160):
        power = np.abs(np.fft.fft(padded[start : start + 400] * window)[:201]) ** 2
        row = []
        for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
            total = 0.0
            for k in range(201):
                rising, falling = (40 * k - low) / (middle - low), (high - 40 * k) / (high - middle)
                total += power[k] * max(0.0, min(rising, falling)) * 2 / (high - low)
            row.append(total)
        rows.append(row)
    return np.array(rows)


def test_mels_of_8_khz_are_those_of_the_training_front_end_at_16_khz():
    # Given: sound up to 3.6 kHz, where neither conversion leaves a trace
    time_s = np.arange(16000 // 4) / 16000
    tones = [np.sin(2 * np.pi * hz * time_s + hz) / 20 for hz in (150, 440, 1234, 2500, 3600)]
    wide = np.sum(tones, axis=0)

    # When
    found = mel_power(wide[::2].astype(np.float32))

    # Then: equal away from the ends
    expected = reference_mels(wide)
    assert found.shape == expected.shape == (26, 40)
    np.testing.assert_allclose(found[2:-2], expected[2:-2], rtol=1e-3, atol=1e-4)


def test_bands_above_4_khz_are_empty():
    assert not mel_power(np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32))[:, 32:].any()


def test_long_speech_gives_the_same_features_as_its_parts():
    samples = np.random.default_rng(0).normal(0, 0.1, 80 * 5000).astype(np.float32)  # several blocks inside

    whole, part = mel_power(samples), mel_power(samples[80 * 4000 :])

    np.testing.assert_allclose(whole[4002:], part[2:], rtol=1e-4)


@pytest.mark.slow
def test_features_from_8_khz_embed_as_those_from_16_khz(models, spoken, voices):
    samples = spoken(next(iter(voices)), 3.2)
    direct = mel_power(samples)
    converted = reference_mels(soxr.resample(samples, 8000, 16000)).astype(np.float32)

    a, b = (models.encoder.run(None, {"mels": m[None, :160]})[0][0] for m in (direct, converted))

    assert a @ b > 0.998


def test_embedding_is_a_unit_vector_with_its_model_id(models):
    embedding = embed(np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32), models)

    assert embedding.vector.shape == (256,)
    assert embedding.vector.dtype == np.float32
    assert np.linalg.norm(embedding.vector) == pytest.approx(1, abs=1e-5)
    assert embedding.model_id == models.encoder_id == "ge2e-256-tel8k-2"


def test_less_than_one_window_raises_not_enough_speech(models):
    with pytest.raises(NotEnoughSpeech, match=r"0\.5 s of net speech, at least 1\.6 s needed"):
        embed(np.zeros(4000, np.float32), models)


@pytest.mark.parametrize("n", [12_800, 12_801, 25_600, 100_000])
def test_any_length_from_one_window_is_embedded(models, n):
    embedding = embed(np.random.default_rng(0).normal(0, 0.1, n).astype(np.float32), models)

    assert np.isfinite(embedding.vector).all()


def test_embedding_does_not_depend_on_the_level(models, spoken, voices):
    samples = spoken(next(iter(voices)), 6.0)

    quiet, loud = embed(samples * 0.02, models), embed(samples * 0.5, models)

    assert similarity(quiet, loud) > 0.9999


def test_speakers_are_most_similar_to_themselves(models, spoken, voices):
    # Given: two embeddings of each person, of different clips
    names = list(voices)
    first = {name: embed(spoken(name, 20.0, 0), models) for name in names}
    second = {name: embed(spoken(name, 20.0, 100), models) for name in names}

    # When
    scores = {(a, b): similarity(first[a], second[b]) for a, b in product(names, names)}

    # Then
    for name in names:
        best = max((scores[name, other], other) for other in names)[1]
        assert best == name, (name, best, scores[name, name], scores[name, best])


def test_similarity_is_the_cosine():
    a = Embedding(vector=np.eye(256, dtype=np.float32)[0], model_id="m")
    b = Embedding(vector=np.eye(256, dtype=np.float32)[1], model_id="m")

    assert (similarity(a, a), similarity(a, b)) == (1.0, 0.0)


def test_embeddings_of_two_models_are_not_compared():
    vector = np.eye(256, dtype=np.float32)[0]

    with pytest.raises(ModelMismatch, match="one and other"):
        similarity(Embedding(vector=vector, model_id="one"), Embedding(vector=vector, model_id="other"))


def test_steady_sound_in_a_band_is_subtracted():
    rng = np.random.default_rng(3)
    speech = rng.exponential(1.0, (500, 40)).astype(np.float32) * (rng.random((500, 40)) < 0.7)
    line = np.zeros(40, np.float32)
    line[20] = 5.0

    found = without_steady_power(speech.astype(np.float32) + line)

    np.testing.assert_allclose(found, speech, atol=1e-6)


@pytest.mark.parametrize("per_octave_db", [-6, 6])
def test_slope_of_equipment_is_brought_back_into_the_usual_range(spoken, per_octave_db):
    channel = parse(f"tilt:{per_octave_db}")
    powers = [mel_power(s) for s in (spoken("english", 10), channel.apply(spoken("english", 10), seed=[1]))]

    clean, tilted = (slope_db(power) for power in powers)
    _, mended = (slope_db(with_usual_slope(power)) for power in powers)

    assert abs(tilted - clean) > 4
    assert mended == pytest.approx(-8.5 if per_octave_db < 0 else -6.0, abs=0.01)
    assert with_usual_slope(powers[1]).sum() == pytest.approx(powers[1].sum(), rel=1e-4)


def test_usual_slope_is_not_changed(spoken):
    power = with_usual_slope(mel_power(spoken("italian", 10)))
    np.testing.assert_allclose(with_usual_slope(power), power, rtol=1e-3)


def test_silence_has_no_slope_to_mend():
    assert not with_usual_slope(np.zeros((200, 40), np.float32)).any()


def slope_db(power):
    """The slope of the mean spectrum from 300 to 2800 Hz, in dB an octave."""
    mel = np.linspace(0, 15 + 27 * np.log(8) / np.log(6.4), 42)[1:-1]
    hz = np.where(mel > 15, 1000 * 6.4 ** ((mel - 15) / 27), mel * 200 / 3)
    counted = (hz > 300) & (hz < 2800)
    return np.polyfit(np.log2(hz[counted]), 10 * np.log10(power.mean(axis=0)[counted]), 1)[0]
