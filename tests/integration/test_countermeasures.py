"""A detector of synthetic speech that the operator brings: added, calibrated, used by workers, removed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from click.testing import CliRunner, Result
from made_networks import countermeasure_network
from sqlite_template import put_tables

from sonant.assembly import installation
from sonant.assembly.workers import build_remote_executor, storage_location
from sonant.cli import main
from sonant.cli.countermeasure import examine_countermeasure
from sonant.errors import SetupError
from sonant.jobs.countermeasures import InstalledModels, calibration_in_use
from sonant.jobs.spoofing import detectors
from sonant.settings import Fraud, Settings
from sonant.storage.countermeasure_files import CountermeasureFiles
from sonant.voice.models.embedding import Embedding

RATE_HZ = 8000
PEOPLE_A_VOICE = 8
NOTHING = Embedding(vector=np.ones(1, np.float32), model_id="none")
#: Nobody's step from sample to sample is as large as that of white noise.
HISS = np.random.default_rng(1).normal(0, 0.1, 4 * RATE_HZ).astype(np.float32)


@pytest.fixture(scope="module")
def people(voices: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """56 people of two recordings: seven telephone voices, each at eight speeds."""
    folder = tmp_path_factory.mktemp("people")
    for voice, clips in sorted(voices.items()):
        read = [soundfile.read(clip, dtype="float32")[0] for clip in clips[:60]]
        for number, speed in enumerate(np.linspace(0.8, 1.25, PEOPLE_A_VOICE)):
            person = folder / f"{voice}-{number}"
            person.mkdir()
            for part in (0, 1):
                said = np.concatenate(read[part::2])[number * RATE_HZ :][: 6 * RATE_HZ]
                soundfile.write(
                    person / f"{part}.wav", soxr.resample(said, RATE_HZ * speed, RATE_HZ), RATE_HZ
                )
    return folder


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    made = Settings(data=tmp_path_factory.mktemp("countermeasures") / "data", encoder="ge2e")
    put_tables(made.data / "sonant.db")
    installation.open_store(made, create=True).database.close()
    return made


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("networks") / "made.onnx"
    path.write_bytes(countermeasure_network(notes={"sample_rate": "8000"}))
    return path


def sonant(settings: Settings, *arguments: str | Path) -> Result:
    return CliRunner().invoke(
        main.main, [*map(str, arguments), "--data", str(settings.data)], standalone_mode=False
    )


def refusal(settings: Settings, *arguments: str | Path) -> str:
    fault = sonant(settings, *arguments).exception
    assert isinstance(fault, SetupError)
    return str(fault)


@pytest.fixture(scope="module")
def added(settings, file) -> str:
    how = ("model", "add", file, "--kind", "countermeasure", "--id", "hiss", "--spoofed", "high")
    result = sonant(settings, *how, "--licence", "CC0")
    assert result.exception is None, result.exception
    return result.output.split()[0]


@pytest.fixture(scope="module")
def calibrated(settings, added, people) -> str:
    shown = sonant(settings, "calibrate", "spoofing", "--speech", people, "--apply", "--quiet")
    assert shown.exception is None, shown.exception
    return shown.output


def spoofing_score(settings: Settings, sound: np.ndarray) -> int:
    """The risk that a worker process finds."""
    (detector,) = detectors(settings.fraud, CountermeasureFiles(settings.data))
    found = detector(NOTHING, sound, 0)
    assert found is not None
    return found.score


def test_added_countermeasure_is_tried_timed_and_not_used_yet(settings, added):
    listed = {line.split()[0]: line for line in sonant(settings, "model", "list").output.splitlines()}
    shown = sonant(settings, "model", "info", added, "--output", "json")

    assert " countermeasure " in listed[added]
    assert "CC0" in listed[added]
    facts = json.loads(shown.output)
    assert (facts["rate_hz"], facts["mels"], facts["spoofed"]) == (8000, 0, "high")
    assert facts["ms_a_second"] > 0


def test_what_cannot_be_a_countermeasure_is_refused(settings, file, tmp_path):
    add = ("model", "add", file, "--kind", "countermeasure")
    assert "say with --spoofed" in refusal(settings, *add)
    assert "--spoofed is one of" in refusal(settings, *add, "--spoofed", "loud")
    assert "calibrate spoofing" in refusal(settings, *add, "--spoofed", "high", "--calibration", file)
    assert "goes with --kind countermeasure" in refusal(
        settings, "model", "add", file, "--kind", "redimnet", "--spoofed", "high"
    )
    constant = tmp_path / "constant.onnx"
    constant.write_bytes(countermeasure_network(gain=0.0))
    with pytest.raises(SetupError, match="speech and noise the same output"):
        examine_countermeasure(constant, spoofed="high")


def test_notes_of_the_file_say_how_it_is_read(tmp_path):
    path = tmp_path / "noted.onnx"
    path.write_bytes(countermeasure_network(classes=2, notes={"sample_rate": "16000", "spoofed": "1"}))

    found = examine_countermeasure(path)

    assert (found.rate_hz, found.spoofed, found.outputs) == (16000, "1", 2)


def test_calibration_covers_all_detectors_and_is_stored(settings, added, calibrated):
    own = calibration_in_use(CountermeasureFiles(settings.data))

    assert "112 recordings of 56 people" in calibrated
    assert added in calibrated
    assert own is not None
    assert set(own.added) == {added}
    assert 1 <= own.factor <= 2


def test_workers_use_the_countermeasure_once_it_is_calibrated(settings, calibrated, tmp_path):
    without = Settings(data=tmp_path / "other")

    assert spoofing_score(settings, HISS) == 100
    assert spoofing_score(without, HISS) < 100


def test_worker_takes_another_calibration_without_a_restart(settings, added, calibrated):
    files = CountermeasureFiles(settings.data)
    installed = InstalledModels(files)
    document = files.calibrations()[0]

    assert [one.countermeasure.model_id for one in installed.current().added] == [added]
    files.put_calibration(document | {"added": {}})
    assert installed.current().added == ()
    assert files.undo_calibration()
    assert len(installed.current().added) == 1


def test_host_without_the_calibration_is_no_worker_of_ray(settings, calibrated, monkeypatch, tmp_path):
    monkeypatch.setenv("SONANT_DATA", str(tmp_path))
    told = storage_location(settings)
    other = storage_location(Settings(data=tmp_path))

    with pytest.raises(SetupError, match=r"settings differ from the runner's: spoofing_calibration$"):
        build_remote_executor(
            settings.audio,
            settings.fraud,
            {**other, "spoofing_calibration": told["spoofing_calibration"]},
            (),
        )


def test_countermeasure_in_use_is_not_removed_until_its_calibration_is(settings, file, calibrated, added):
    assert "in use" in refusal(settings, "model", "remove", added, "--yes")

    shown = sonant(settings, "calibrate", "spoofing", "--undo")

    assert shown.exception is None
    assert "shipped" in shown.output
    assert calibration_in_use(CountermeasureFiles(settings.data)) is None
    assert "no own calibration" in refusal(settings, "calibrate", "spoofing", "--undo")
    assert "removed" in sonant(settings, "model", "remove", added, "--yes").output
    assert CountermeasureFiles(settings.data).models.ids() == []


def test_too_few_people_are_refused(settings, people, tmp_path):
    for person in sorted(people.iterdir())[:3]:
        shutil.copytree(person, tmp_path / person.name)

    assert "6 recordings of 3 people are too few" in refusal(
        settings, "calibrate", "spoofing", "--speech", tmp_path, "--quiet"
    )


def test_damaged_calibration_is_named_with_what_to_do(settings, tmp_path):
    files = CountermeasureFiles(tmp_path)
    files.put_calibration({"factor": "x"})

    with pytest.raises(SetupError, match="calibrate spoofing --undo"):
        InstalledModels(files).current()
    (tmp_path / "models" / "spoofing" / "calibrations.json").write_text("{")
    with pytest.raises(SetupError, match="damaged: restore it from a backup"):
        files.calibrations()


def test_no_detector_is_opened_where_the_check_is_off(settings):
    assert detectors(Fraud(spoofing_max_s=0), CountermeasureFiles(settings.data)) == ()
