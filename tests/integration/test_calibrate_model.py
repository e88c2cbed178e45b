"""A voice model that was added gets its calibration from a folder of recordings, and is measured on one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from click.testing import CliRunner, Result
from made_networks import calibration_text, speaker_network
from sqlite_template import put_tables

from sonant.assembly import installation
from sonant.cli import main
from sonant.cli.calibrate_model import ModelFit, calibrate_model, fit_model, show_fit
from sonant.cli.context import CliContext
from sonant.cli.folder_comparisons import compare_folder
from sonant.errors import SetupError
from sonant.evaluation.run import Conditions, Line
from sonant.evaluation.trials import recordings_by_speaker
from sonant.jobs.model_registry import model_calibration
from sonant.settings import Settings
from sonant.storage.model_files import ModelFiles
from sonant.voice.calibration.fit import OwnFit
from sonant.voice.calibration.model import log10_far_of

RATE_HZ = 8000
SPEEDS = (0.78, 0.86, 0.94, 1.03, 1.13, 1.24)
#: One level of noise, which everybody then has.
FEW = Conditions(enroll_s=4.0, test_s=(2.0,), references=1, probes=3, lines=(Line.parse("pink:16"),))


@pytest.fixture(scope="module")
def people(voices: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 people of two recordings each: six telephone voices, each played slower and faster."""
    folder = tmp_path_factory.mktemp("people")
    for voice, clips in sorted(voices.items())[:6]:
        read = [soundfile.read(clip, dtype="float32")[0] for clip in clips[:40]]
        for number, speed in enumerate(SPEEDS):
            person = folder / f"{voice}-{number}"
            person.mkdir()
            for part in (0, 1):
                said = np.concatenate(read[part::2])[: 8 * RATE_HZ]
                soundfile.write(
                    person / f"{part}.wav", soxr.resample(said, RATE_HZ * speed, RATE_HZ), RATE_HZ
                )
    return folder


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    made = Settings(data=tmp_path_factory.mktemp("calibrated") / "data")
    put_tables(made.data / "sonant.db")
    installation.open_store(made, create=True).database.close()
    return made


def sonant(settings: Settings, *arguments: str | Path | int) -> Result:
    return CliRunner().invoke(
        main.main, [*map(str, arguments), "--data", str(settings.data)], standalone_mode=False
    )


@pytest.fixture(scope="module")
def added(settings, tmp_path_factory) -> str:
    network = tmp_path_factory.mktemp("network") / "made.onnx"
    network.write_bytes(speaker_network())
    return sonant(settings, "model", "add", network, "--kind", "wespeaker", "--id", "made").output.split()[0]


@pytest.fixture
def bare(settings, added):
    """A model without calibration."""
    (settings.data / "models" / added / "calibration.json").unlink(missing_ok=True)
    return added


@pytest.fixture(scope="module")
def fit(settings, people, added) -> ModelFit:
    return fit_model(added, compare_folder(CliContext(), settings, recordings_by_speaker(people), FEW, added))


def refusal(settings: Settings, *arguments: str | Path) -> str:
    fault = sonant(settings, *arguments).exception
    assert isinstance(fault, SetupError)
    return str(fault)


@pytest.mark.slow
def test_a_fit_is_shown_and_without_apply_nothing_is_stored(settings, bare, fit, capsys):
    show_fit(CliContext(), ModelFiles(settings.data), fit, FEW, apply=False)

    shown = capsys.readouterr().out
    table = {line.split()[0]: line for line in shown.splitlines()}
    assert "36 speakers" in table["36"]
    assert "17." in table["2"]
    assert "FRR 2 s" in table["score"]
    assert "not supported" not in table["80"]
    assert "nothing was changed" in shown
    assert ModelFiles(settings.data).calibration(bare) is None


def test_with_apply_it_is_the_models_calibration(settings, bare, fit):
    files = ModelFiles(settings.data)
    show_fit(CliContext(), files, fit, FEW, apply=True)

    made = model_calibration(files, bare)
    assert made.supported_log10_far <= log10_far_of(80)
    assert {node.speech_s for node in made.nodes} == {2.0}
    note = json.loads(files.calibration(bare) or "")["provenance"]
    assert (note["speech"], note["lines"]) == ("recordings of 36 speakers", ["pink:16"])
    assert note["pairs_of_people"] == 36 * 35 // 2
    listed = {line.split()[0]: line for line in sonant(settings, "model", "list").output.splitlines()}
    assert " yes " in listed[bare]


def test_calibrated_scores_have_the_error_rates_that_they_state(fit):
    for score, low, high in ((50, 0.05, 0.2), (80, 0.003, 0.03)):
        assert low < np.mean(fit.grid.strangers >= OwnFit.shipped_deviation(score)) < high
    genuine = fit.genuine.deviations(fit.calibration)
    assert fit.calibration.llr_offset + fit.calibration.llr_slope * genuine.mean() > 0
    assert fit.calibration.llr_offset + fit.calibration.llr_slope * fit.grid.strangers.mean() < 0


@pytest.mark.slow
def test_the_whole_command_ends_in_a_calibrated_model(settings, bare, people):
    calibrate_model(CliContext(), settings, bare, people, apply=True, conditions=FEW)
    assert model_calibration(ModelFiles(settings.data), bare).model_id == bare


def test_what_cannot_be_fitted_is_refused_before_any_recording_is_read(settings, bare, people, tmp_path):
    for speaker in sorted(people.iterdir())[:19]:
        shutil.copytree(speaker, tmp_path / speaker.name)

    assert "19 speakers are too few" in refusal(
        settings, "calibrate", "--model", bare, "--speech", tmp_path, "--quiet"
    )
    assert "there is no voice model" in refusal(
        settings, "calibrate", "--model", "nobodys", "--speech", people, "--quiet"
    )
    assert "leave --model out" in refusal(
        settings, "calibrate", "--model", "shipped", "--speech", people, "--quiet"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--model", "x"), "takes --speech"),
        (("--model", "x", "--speech", "y", "--domain", "z"), "goes with --speech and --apply alone"),
        (("--model", "x", "--speech", "y", "--undo"), "goes with --speech and --apply alone"),
        (("--model", "x", "--show"), "goes with --speech and --apply alone"),
    ],
)
def test_a_model_is_calibrated_on_recordings_and_nothing_else(settings, arguments, says):
    assert says in str(sonant(settings, "calibrate", *arguments).exception)


def test_a_model_is_measured_with_and_without_a_calibration(settings, bare, people, tmp_path):
    for speaker in sorted(people.iterdir())[:3]:
        shutil.copytree(speaker, tmp_path / speaker.name)
    how = (
        "evaluate", tmp_path, "--model", bare, "--enroll-s", 4, "--test-s", 2, "--references", 2,
        "--probes", 2, "--quiet",
    )  # fmt: skip

    told = sonant(settings, *how, "--workers", 1).output
    assert f"model {bare}, scored by cosine, not calibrated" in told
    ModelFiles(settings.data).put_calibration(bare, calibration_text(bare))
    # Two workers open the model each for itself.
    told = sonant(settings, *how, "--workers", 2).output
    assert f"model {bare}, scored by its calibration" in told
    shipped = [one for one in how if one not in ("--model", bare)]
    assert "scored by the shipped calibration" in sonant(settings, *shipped, "--workers", 1).output


def test_a_model_that_is_not_the_one_that_was_added_is_not_measured(settings, bare, people):
    network = settings.data / "models" / bare / "model.onnx"
    added = network.read_bytes()
    network.write_bytes(added + b"\0")

    assert "must have" in refusal(settings, "evaluate", people, "--model", bare, "--quiet")
    network.write_bytes(added)
