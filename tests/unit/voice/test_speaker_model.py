"""Added speaker models: their inputs, outputs and embeddings."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
from made_networks import (
    FLOAT,
    INT64,
    graph,
    model,
    node,
    speaker_network,
    value,
    waveform_network,
)
from voice_models import voice_models

from sonant.errors import AudioError, ModelMismatch, NotEnoughSpeech, SetupError
from sonant.voice.audio.test_signal import voice_like_signal
from sonant.voice.models import shipped_encoder_id
from sonant.voice.models.embedding import embed
from sonant.voice.models.frontends import FrontEnd
from sonant.voice.models.speaker_model import open_speaker_model
from sonant.voice.scoring import similarity

VOICE = voice_like_signal(8000, 4.0)


def opened(content, kind="wespeaker", **more):
    front_end = FrontEnd(kind=kind, **{name: more.pop(name) for name in ("rate_hz", "mels") if name in more})
    return open_speaker_model(content, model_id="made", front_end=front_end, **more)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("wespeaker", speaker_network()),
        ("3dspeaker", speaker_network()),
        ("speechbrain", speaker_network(length="lens", length_type=FLOAT)),
        ("nemo", speaker_network(bands_first=True, length="length", length_type=INT64, scores=True)),
        ("redimnet", waveform_network()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_kind_of_model_gives_a_unit_vector_with_its_id(kind, content):
    found = opened(content, kind).embed(VOICE)
    assert found.model_id == "made"
    assert np.isclose(np.linalg.norm(found.vector), 1, atol=1e-6)
    assert similarity(found, opened(content, kind).embed(VOICE / 3)) > 0.98


def test_embedding_output_is_chosen_by_common_names():
    found = opened(speaker_network(scores=True))
    assert (found.layout.output, found.dimensions) == ("embs", 64)


def test_embedding_output_can_be_named():
    assert opened(speaker_network(scores=True), output="logits").dimensions == 100
    with pytest.raises(SetupError, match=r"embs .*--output"):
        opened(speaker_network(), output="nowhere")


def test_fixed_number_of_bands_is_taken_from_the_network():
    assert opened(speaker_network(mels=64)).front_end.mels == 64


def test_feature_and_waveform_networks_are_not_mixed_up():
    with pytest.raises(SetupError, match="takes one input of features"):
        opened(waveform_network())
    with pytest.raises(SetupError, match="takes a waveform"):
        opened(speaker_network(), "redimnet")


def test_network_with_unknown_inputs_is_refused():
    inputs = [value("feats", (1, "T", 80)), value("state", (1, 128, 3, 2))]
    content = model(graph([node("Relu", ["feats"], "y")], [], inputs, [value("y", (1, "T", 80))]))
    with pytest.raises(SetupError, match="at most one length"):
        opened(content)


def test_network_without_an_embedding_is_refused():
    inputs, outputs = [value("feats", (1, "T", 80))], [value("y", (1, "T", 80))]
    with pytest.raises(SetupError, match="which output is the embedding"):
        opened(model(graph([node("Relu", ["feats"], "y")], [], inputs, outputs)))


def test_network_of_fixed_length_embeds_long_and_short_speech():
    made = opened(speaker_network(frames=200))
    for seconds in (1.7, 2.0, 5.3):
        assert np.isfinite(made.embed(voice_like_signal(8000, seconds)).vector).all()


def test_long_speech_is_used_to_its_end():
    made = opened(speaker_network())
    voice, other = voice_like_signal(8000, 12.0), voice_like_signal(8000, 12.0, pitch_hz=250.0)
    whole = made.embed(np.concatenate([voice, other]))
    assert similarity(whole, made.embed(voice)) < 0.999
    assert similarity(whole, made.embed(other)) < 0.999


def test_too_little_speech_raises_not_enough_speech():
    with pytest.raises(NotEnoughSpeech):
        opened(speaker_network()).embed(VOICE[:12000])


def test_zero_embedding_raises_audio_error():
    made = opened(waveform_network(), "redimnet")
    with pytest.raises(AudioError, match="finds no voice"):
        made.embed(np.zeros(16000, np.float32))


def test_embeddings_of_two_models_are_not_compared():
    mine = opened(speaker_network()).embed(VOICE)
    with pytest.raises(ModelMismatch):
        similarity(mine, embed(VOICE, voice_models()))


def test_shipped_encoder_as_a_ge2e_model_differs_by_the_centre():
    content = resources.files("sonant.voice.models").joinpath("ge2e.onnx").read_bytes()
    brought = opened(content, "ge2e").embed(VOICE)
    uncentred = replace(voice_models(), centre=np.zeros(256, np.float32))
    assert np.allclose(brought.vector, embed(VOICE, uncentred).vector, atol=1e-6)


def test_shipped_encoder_id_is_read_without_opening_it():
    assert shipped_encoder_id() == voice_models().encoder_id
