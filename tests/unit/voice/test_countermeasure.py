"""Detectors that operators bring: how networks are fed and read, and which are refused."""

import numpy as np
import pytest
from made_networks import countermeasure_network, speaker_network

from sonant.errors import SetupError
from sonant.voice.spoofing.countermeasure import CountermeasureFormat, open_countermeasure

RATE_HZ = 8000
RNG = np.random.default_rng(1)
NOISE = RNG.normal(0, 0.1, 4 * RATE_HZ).astype(np.float32)
TONE = (0.1 * np.sin(2 * np.pi * 700 / RATE_HZ * np.arange(4 * RATE_HZ))).astype(np.float32)


def opened(content, **form):
    return open_countermeasure(content, model_id="made", form=CountermeasureFormat(**form))


@pytest.mark.parametrize("rate_hz", [8000, 16000])
@pytest.mark.parametrize("samples", ["T", 24_000])
def test_waveform_network_scores_noise_above_a_tone(rate_hz, samples):
    """The made network measures how much of the power lies above a quarter of the rate."""
    model = opened(countermeasure_network(samples=samples), rate_hz=rate_hz)

    assert model.steps == (None if samples == "T" else samples)
    assert model.score(NOISE) > model.score(TONE) + 0.1


@pytest.mark.parametrize("bands_first", [False, True])
def test_log_mel_network_gets_bands_where_it_has_them(bands_first):
    model = opened(countermeasure_network(mels=40, bands_first=bands_first))

    assert (model.format.mels, model.bands_first) == (40, bands_first)
    assert model.score(NOISE) != pytest.approx(model.score(TONE), abs=1e-3)


def test_bands_must_be_given_where_the_shape_does_not_tell():
    content = countermeasure_network(mels="M")

    assert opened(content, mels=64).format.mels == 64
    with pytest.raises(SetupError, match="say how many with --mels"):
        opened(content)


def test_level_of_the_line_does_not_change_the_score():
    model = opened(countermeasure_network())

    assert model.score(NOISE * np.float32(0.05)) == pytest.approx(model.score(NOISE), abs=1e-4)


def test_low_logits_and_class_numbers_are_turned_around():
    high, low = (opened(countermeasure_network(), spoofed=word) for word in ("high", "low"))
    zero, one = (opened(countermeasure_network(classes=2), spoofed=word) for word in ("0", "1"))

    assert low.score(NOISE) == pytest.approx(-high.score(NOISE))
    assert zero.score(NOISE) == pytest.approx(-one.score(NOISE))
    assert one.score(NOISE) == pytest.approx(2 * high.score(NOISE), abs=1e-4)


def test_long_speech_is_cut_into_windows_whose_logits_are_averaged():
    model = opened(countermeasure_network(samples=32_000), rate_hz=8000)
    both = np.concatenate([NOISE, TONE])
    level = np.float32(np.sqrt(np.mean(both**2)))
    parts = [model.outputs(part * np.float32(0.05) / level)[0] for part in (NOISE, TONE)]

    assert model.score(both) == pytest.approx(np.mean(parts), abs=1e-4)


def test_short_speech_is_repeated_for_a_fixed_window():
    model = opened(countermeasure_network(samples=64_000), rate_hz=8000)

    assert np.isfinite(model.score(NOISE))


@pytest.mark.parametrize(
    ("content", "form", "said"),
    [
        (countermeasure_network(classes=3), {}, "one or two logits; logits has 3 values"),
        (countermeasure_network(classes=2), {}, "say with --spoofed 0 or 1"),
        (countermeasure_network(), {"spoofed": "1"}, "say with --spoofed high or low"),
        (countermeasure_network(classes=2, softmax=True), {"spoofed": "1"}, "before the softmax"),
        (countermeasure_network(samples=2000), {}, "window is 0.12 s long, must be 0.5 s"),
        (countermeasure_network(), {"output": "scores"}, "no output 'scores', only logits"),
        (countermeasure_network(recordings=4), {}, "fixed to 4 recordings at once"),
        (countermeasure_network(mels=8), {}, "with 8 bands cannot be fed, must be 20 to 256"),
        (speaker_network(scores=True), {}, "which output has the logits: logits, embs"),
        (speaker_network(length="n"), {}, "takes one input"),
        (b"no network", {}, "cannot be opened"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_network_that_does_not_fit_is_refused_with_the_reason(content, form, said):
    with pytest.raises(SetupError, match=said):
        opened(content, **form)
