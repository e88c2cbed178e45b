"""The speaker encoders that ship: found by id, never mixed, each with its calibration."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

import sonant.voice
from sonant.errors import ModelMismatch, NotEnoughSpeech, SetupError
from sonant.jobs.entry import CallParts, Pcm16Audio, Role, Task, TaskResult, prepare
from sonant.jobs.model_registry import embedder_opener, embedders, model_calibration
from sonant.settings import Settings
from sonant.settings.declaration import declaration_of
from sonant.storage.model_files import ModelFiles
from sonant.voice.calibration.file import calibration_of
from sonant.voice.call_voices import part_spans
from sonant.voice.models import Models, shipped_encoder_id
from sonant.voice.models.campplus import CHUNK_FRAMES, CampplusEncoder, chunks
from sonant.voice.models.embedding import Embedder, embed_with_parts
from sonant.voice.models.packaged import (
    domain_model_id,
    encoder_id,
    named_embedder,
    packaged_embedder,
    packaged_encoder_ids,
    packaged_entry,
)
from sonant.voice.quality import Quality
from sonant.voice.scoring import similarity

GE2E, CAMPPLUS = "ge2e-256-tel8k-2", "campplus-192-int8-1"
DIMENSIONS = {GE2E: 256, CAMPPLUS: 192}
VOICES = ("english", "russian", "italian")


def encoder(model_id: str, models: Models) -> Embedder:
    found = packaged_embedder(model_id, models)
    assert found is not None
    return found


@pytest.fixture
def files(tmp_path):
    return ModelFiles(tmp_path)


def test_both_encoders_are_listed_the_light_one_first():
    assert packaged_encoder_ids() == (GE2E, CAMPPLUS)


def test_record_without_a_model_means_ge2e(files, models, spoken):
    assert shipped_encoder_id() == GE2E
    assert embedders(files, models)(None)(spoken("english", 3, 0)).model_id == GE2E


def test_every_choice_of_the_setting_names_an_encoder(models, spoken):
    (declared,) = [one for one in fields(Settings) if one.name == "encoder"]
    declaration = declaration_of(declared)
    assert declaration is not None
    choices = list(declaration.choices)

    assert [encoder_id(name) for name in choices] == [GE2E, CAMPPLUS]
    assert [domain_model_id(name) for name in choices] == [None, CAMPPLUS]
    assert [named_embedder(name, models)(spoken("english", 3, 0)).model_id for name in choices] == [
        GE2E,
        CAMPPLUS,
    ]


@pytest.mark.parametrize("model_id", [GE2E, CAMPPLUS])
def test_encoder_is_found_by_id_without_any_added_file(files, models, spoken, model_id):
    found = embedders(files, models)(model_id)(spoken("english", 3, 0))

    assert found.model_id == model_id
    assert found.vector.dtype == np.float32
    assert found.vector.shape == (DIMENSIONS[model_id],)
    assert np.linalg.norm(found.vector) == pytest.approx(1)


def test_opener_of_campplus_gives_its_embedder(files, spoken):
    opener = embedder_opener(files, CAMPPLUS)
    assert opener is not None
    assert opener()(spoken("english", 3, 0)).model_id == CAMPPLUS


@pytest.mark.parametrize("model_id", [GE2E, CAMPPLUS])
def test_each_encoder_has_a_calibration_of_its_own(files, model_id):
    assert model_calibration(files, model_id).model_id == model_id
    assert model_calibration(files, model_id).highpass_300hz


def test_thresholds_inside_the_pipeline_meet_embeddings_of_ge2e_only():
    # They were measured with it. `library` lets its user choose, and has no threshold.
    voice = Path(sonant.voice.__file__).parent
    others = re.compile(r"models\.(packaged|campplus|speaker_model)\b")
    found = [file.name for file in voice.glob("*.py") if others.search(file.read_text("utf-8"))]

    assert found == ["library.py"]


def test_other_models_are_not_packaged(models):
    assert packaged_entry("resnet34-1a2b3c4d") is None
    assert packaged_embedder("resnet34-1a2b3c4d", models) is None
    with pytest.raises(SetupError, match="no calibration for the voice model resnet34-1a2b3c4d"):
        calibration_of("resnet34-1a2b3c4d")


def test_embeddings_of_the_two_encoders_are_never_compared(models, spoken):
    speech = spoken("english", 3, 0)
    one, other = (encoder(model_id, models)(speech) for model_id in (GE2E, CAMPPLUS))
    with pytest.raises(ModelMismatch):
        similarity(one, other)


def test_campplus_separates_voices(models, spoken):
    embed = encoder(CAMPPLUS, models)
    first, second = ([embed(spoken(voice, 10, clip)) for voice in VOICES] for clip in (0, 100))
    found = np.array([[similarity(a, b) for b in second] for a in first])

    assert found.diagonal().min() > found[~np.eye(len(VOICES), dtype=bool)].max() + 0.2


def test_campplus_scores_one_voice_high_and_strangers_low(models, spoken):
    embed, scale = encoder(CAMPPLUS, models), calibration_of(CAMPPLUS)
    voiceprint, call, stranger = (
        embed(spoken(*cut)) for cut in (("english", 10, 0), ("english", 10, 100), ("russian", 10, 0))
    )
    assert scale.score(similarity(voiceprint, call), speech_s=10.0, snr_db=40.0) >= 90
    assert scale.score(similarity(voiceprint, stranger), speech_s=10.0, snr_db=40.0) < 80


@pytest.mark.parametrize("speech_s", [4, 10, 12])
def test_parts_of_the_whole_are_pooled_in_the_pass_of_the_whole(models, spoken, speech_s):
    campplus, speech = encoder(CAMPPLUS, models), spoken("english", speech_s, 0)
    spans = part_spans(len(speech))
    whole, parts = embed_with_parts(campplus, speech, spans)

    np.testing.assert_array_equal(whole.vector, campplus(speech).vector)
    assert len(parts) == (2 if speech_s == 4 else 5)
    apart = [campplus(speech[first:end]) for first, end in spans]
    assert all(similarity(one, other) > 0.85 for one, other in zip(parts, apart, strict=True))


def test_part_that_is_one_chunk_has_the_embedding_of_the_network(models, spoken):
    campplus, speech = encoder(CAMPPLUS, models), spoken("english", 4, 0)
    whole, (part,) = embed_with_parts(campplus, speech, [(0, len(speech))])
    assert similarity(whole, part) == pytest.approx(1, abs=1e-5)


def test_network_runs_once_for_speech_and_its_parts(models, spoken):
    campplus = encoder(CAMPPLUS, models)
    assert isinstance(campplus, CampplusEncoder)
    network, runs = campplus.session, []

    class Counted:
        def run(self, outputs, feeds):
            runs.append(feeds["feats"].shape[1])
            return network.run(outputs, feeds)

    speech = spoken("english", 10, 0)
    embed_with_parts(replace(campplus, session=Counted()), speech, part_spans(len(speech)))
    assert sum(runs) <= 1010


def test_ge2e_embeds_parts_by_themselves(models, spoken):
    ge2e, speech = encoder(GE2E, models), spoken("english", 10, 0)
    _, parts = embed_with_parts(ge2e, speech, [(0, 40_000)])
    np.testing.assert_array_equal(parts[0].vector, ge2e(speech[:40_000]).vector)


def test_task_for_a_call_has_its_parts_from_the_pass_of_the_whole(models, spoken):
    speech, campplus = spoken("english", 10, 0), encoder(CAMPPLUS, models)
    call = Pcm16Audio.of(speech, Quality(net_speech_s=10.0, snr_db=30.0))
    task = Task(
        task_id=0,
        role=Role(arn="", policies=()),
        audio=(),
        need_s=10.0,
        keep_audio=False,
        model_id=CAMPPLUS,
        call_audio=call,
        call_parts=CallParts.STRETCHES,
    )
    result = prepare(task, lambda *_: b"", models, (), Settings().audio, lambda _: campplus)

    assert isinstance(result, TaskResult)
    heard = call.speech().samples
    whole, parts = embed_with_parts(campplus, heard, part_spans(len(heard)))
    for sample, embedding in zip((result.sample, *result.parts), (whole, *parts), strict=True):
        np.testing.assert_array_equal(sample.vector, embedding.vector)
    assert [round(one.quality.net_speech_s, 1) for one in result.parts] == [5.0, 5.0, 3.3, 3.3, 3.3]


def test_campplus_does_not_depend_on_the_level(models, spoken):
    embed, speech = encoder(CAMPPLUS, models), spoken("english", 5, 0)
    assert similarity(embed(speech), embed(speech * np.float32(0.25))) > 0.95


def test_campplus_needs_1_6_s_of_speech(models, spoken):
    with pytest.raises(NotEnoughSpeech):
        encoder(CAMPPLUS, models)(spoken("english", 1.5, 0))


@pytest.mark.parametrize(
    ("frames", "expected"),
    [(160, [0]), (CHUNK_FRAMES, [0]), (CHUNK_FRAMES + 1, [0, 1]), (1200, [0, 350, 700])],
)
def test_chunks_have_one_length_and_reach_from_end_to_end(frames, expected):
    rows = np.arange(frames, dtype=np.float32)[:, None]
    found = [chunk for first, chunk in chunks(rows) if int(chunk[0, 0]) == first]

    assert [int(chunk[0, 0]) for chunk in found] == expected
    assert {len(chunk) for chunk in found} == {min(frames, CHUNK_FRAMES)}
    assert found[-1][-1, 0] == frames - 1
