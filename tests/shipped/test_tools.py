"""Every script of tools runs to its end, on a few recordings made of the telephone voices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from smoke import PATIENCE_S, REPOSITORY, needs, ran, runs

sys.path.append(str(REPOSITORY / "tools"))

import spoofing_speech
from sonant.voice.calibration.file import SHIPPED, read_calibration

MODELS = REPOSITORY / "src" / "sonant" / "voice" / "models"
REFERENCES = REPOSITORY / "tests" / "unit" / "voice" / "frontend_references.json"
SHIPPED_SPEED = REPOSITORY / "src" / "sonant" / "voice" / "speed.npz"
PYTORCH, SPOOFING = "tools/requirements.txt", "tools/requirements-spoofing.txt"
RATE_HZ = 16000
#: A voice played slower or faster is another person to an encoder.
PACES = (1.0, 0.84, 1.19)


def recording(clips: Sequence[Path], start: int, seconds: float, pace: float) -> np.ndarray:
    """So much of a voice's clips from one of them on, at 16 kHz."""
    parts: list[np.ndarray] = []
    for number in cycle(range(len(clips))):
        samples, rate_hz = soundfile.read(
            clips[(start + number) % len(clips)], dtype="float32", always_2d=True
        )
        parts.append(soxr.resample(samples[:, 0], rate_hz * pace, RATE_HZ))
        if sum(map(len, parts)) >= seconds * RATE_HZ:
            break
    return np.concatenate(parts)[: round(seconds * RATE_HZ)]


@pytest.fixture(scope="module")
def speech(voices: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One recording each of 21 people; a person's name is what stands before the first `-`."""
    folder = tmp_path_factory.mktemp("speech")
    for pace, letter in zip(PACES, "abc", strict=True):
        for number, clips in enumerate(voices.values()):
            soundfile.write(folder / f"{letter}{number}-1.wav", recording(clips, 0, 16.0, pace), RATE_HZ)
    return folder


@pytest.fixture
def listed(speech: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two lists of recordings: seven people and fourteen others."""
    names = sorted(path.name for path in speech.iterdir())
    lists = tmp_path / "seven.txt", tmp_path / "fourteen.txt"
    for file, part in zip(lists, (names[:7], names[7:]), strict=True):
        file.write_text("".join(f"{name}\n" for name in part), "utf-8")
    return lists


def downloaded(folder: Path, *packages: str) -> list[Path]:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    subprocess.run([*pip, *packages], check=True, timeout=600)
    return sorted(folder.glob("*.whl"))


# --- pages


@runs("tools/settings_page.py", "tools/conformance_page.py")
@pytest.mark.parametrize("name", ["settings", "conformance"])
def test_generated_page_is_current(name: str) -> None:
    assert ran(f"tools/{name}_page.py") == (REPOSITORY / "docs" / f"{name}.md").read_text("utf-8")


@runs("tools/docs_site/build_site.py")
def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    python = tmp_path / "sphinx" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*install, "-r", REPOSITORY / "locks" / "docs.txt"], check=True)
    printed = ran("tools/docs_site/build_site.py", "--no-diagrams", "--sphinx", python, tmp_path / "site")
    assert "the site is in" in printed
    assert "StartSpeakerEnrollmentJob" in (tmp_path / "site" / "api" / "index.html").read_text("utf-8")


@runs("tools/fuzz_audio.py")
def test_changed_recordings_of_every_format_are_read_or_refused() -> None:
    figures = ran("tools/fuzz_audio.py", "--count", 2000)
    assert figures.startswith("2,000 files from 44 recordings: ")
    assert "decoder processes started: 1\n" in figures


# --- supply chain


@runs("tools/lock.py")
def test_lock_check_accepts_the_committed_locks() -> None:
    assert ran("tools/lock.py", "--check") == "the locks fit pyproject.toml\n"


@runs("tools/audit.py")
def test_audit_asks_for_the_locked_packages() -> None:
    needs("pip_audit", "pip-audit")
    assert " packages, " in ran("tools/audit.py", "postgres")


@runs("tools/release.py", "tools/sbom.py", "tools/provenance.py")
def test_release_is_the_same_when_it_is_built_again(tmp_path: Path) -> None:
    source = tmp_path / "source"
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(source)], check=True)
    made = []
    for name in ("first", "second"):
        out = tmp_path / name
        done = subprocess.run(
            [sys.executable, "tools/release.py", "--out", str(out)],
            cwd=source,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stderr
        made.append({file.name: file.read_bytes() for file in out.iterdir()})
    same = [name for name in made[0] if made[0][name] == made[1].get(name)]
    assert sorted(set(made[0]) - set(same)) == ["SHA256SUMS", "provenance.json"]
    wheel = next(name for name in same if name.endswith(".whl"))
    command = ["verify", tmp_path / "first" / "provenance.json", tmp_path / "second" / wheel]
    assert "1 files are those built from commit " in ran("tools/provenance.py", *command)
    assert '"CycloneDX"' in ran("tools/sbom.py", "wheel", tmp_path / "first" / wheel)


# --- decoding


@runs("tools/compare_decoding.py")
def test_decoded_samples_are_compared_with_ffmpeg(speech: Path, tmp_path: Path) -> None:
    needs("av", PYTORCH)
    samples, rate_hz = soundfile.read(speech / "a0-1.wav", dtype="float32")
    for suffix in ("wav", "flac", "ogg", "mp3"):
        soundfile.write(tmp_path / f"whole.{suffix}", samples, rate_hz)
    whole = (tmp_path / "whole.flac").read_bytes()
    (tmp_path / "half.flac").write_bytes(whole[: len(whole) // 2])
    printed = ran("tools/compare_decoding.py", "--all", tmp_path).splitlines()
    outcomes = {Path(line.split(": ")[0].split()[-1]).name: line.split()[0] for line in printed[:-1]}
    assert outcomes.pop("half.flac") == "refused"
    assert outcomes.pop("whole.wav") == outcomes.pop("whole.flac") == "equal"
    assert set(outcomes) == {"whole.ogg", "whole.mp3"}
    assert set(outcomes.values()) <= {"equal", "close"}


# --- speed


@runs("tools/train_speed.py")
def test_speed_network_is_trained_and_measured(speech: Path, tmp_path: Path) -> None:
    needs("av", PYTORCH)
    common = ("--people", speech, "--right", 2, "--wrong", 2)
    assert "all at the true speed: " in ran("tools/train_speed.py", "measure", *common)
    ran("tools/train_speed.py", "train", *common, "--out", tmp_path / "speed.npz")
    with np.load(tmp_path / "speed.npz") as made, np.load(SHIPPED_SPEED) as shipped:
        assert {name: made[name].shape for name in made} == {name: shipped[name].shape for name in shipped}


# --- calibration


@runs("tools/fit_calibration.py")
def test_calibration_script_fits(speech: Path, listed: tuple[Path, Path], tmp_path: Path) -> None:
    cohort, people = listed
    common = ("--speech", speech, "--people", people, "--calls", 2, "--least", 20, "--out", tmp_path)
    ran("tools/fit_calibration.py", *common, "--cohort", cohort)
    assert np.load(tmp_path / "ge2e_centre.npy").shape == (256,)
    made = read_calibration((tmp_path / SHIPPED).read_text("utf-8"))
    ran("tools/fit_calibration.py", *common, "--narrow")
    highpass_300hz = read_calibration((tmp_path / SHIPPED).read_text("utf-8"))
    assert made.nodes
    assert highpass_300hz.highpass_300hz


@runs("tools/channel_classes.py")
def test_scores_are_evaluated_per_line(speech: Path, listed: tuple[Path, Path]) -> None:
    options = ("--speech", speech, "--people", listed[1], "--calls", 2, "--halvings", 1, "--least", 20)
    assert "GSM 06.10" in ran("tools/channel_classes.py", *options)


@runs("tools/fraud_lists.py")
def test_false_alerts_are_counted_for_long_lists(speech: Path, listed: tuple[Path, Path]) -> None:
    others, people = listed
    options = (
        "--speech",
        speech,
        "--people",
        people,
        "--others",
        others,
        "--calls",
        2,
        "--halvings",
        1,
        "--least",
        20,
    )
    assert "1 halvings of 14 people, 7 more on lists" in ran("tools/fraud_lists.py", *options)


# --- calls


@runs("tools/call_windows.py")
def test_windows_of_two_people_are_not_accepted_and_those_of_one_are(voices: dict[str, list[Path]]) -> None:
    cache = os.environ.get("SONANT_SPEECH_CACHE") or REPOSITORY / ".cache" / "speech"
    lines = ran("tools/call_windows.py", "--cache", cache, "--pairs", 24, "--singles", 30).splitlines()
    rows = {line[:32].strip(): [int(count) for count in line[32:].split()] for line in lines[1:]}
    accepted = {kind: row[4] for kind, row in rows.items()}
    assert rows["handed over after 3 s"][0] == 24
    assert accepted["handed over after 3 s"] == accepted["handed over after 5 s"] == 0
    assert accepted["handed over after 7 s"] <= 2
    assert accepted["at once, 0 dB"] == 0
    calls, _, several, parts, _ = rows["one person, all"]
    assert calls >= 200
    assert several + parts < 0.01 * calls


# --- models


@runs("tools/build_models.py")
def test_shipped_models_are_reproduced_byte_for_byte(speech: Path, tmp_path: Path) -> None:
    needs("torch", PYTORCH)
    needs("onnx", PYTORCH)
    (tmp_path / "few").mkdir()
    for name in ("a0-1.wav", "b1-1.wav"):
        (tmp_path / "few" / name).write_bytes((speech / name).read_bytes())
    ran("tools/build_models.py", "--out", tmp_path, "--wheels", tmp_path, "--audio", tmp_path / "few")
    for name in (
        "ge2e.onnx",
        "silero_vad_8k.onnx",
        "aasist.onnx",
        "segmentation.onnx",
        "spoofing_light.onnx",
        "models.json",
    ):
        assert (tmp_path / name).read_bytes() == (MODELS / name).read_bytes(), name


@runs("tools/frontend_references.py")
def test_toolkit_features_equal_the_stored_ones(tmp_path: Path) -> None:
    needs("torch", PYTORCH)
    needs("librosa", PYTORCH)
    wheels = downloaded(tmp_path, "speechbrain==1.1.2", "nemo-toolkit==3.0.0")
    ran("tools/frontend_references.py", *wheels, "--out", tmp_path / "found.json")
    found, known = (json.loads(file.read_text("utf-8")) for file in (tmp_path / "found.json", REFERENCES))
    assert found.keys() == known.keys()
    for kind, rows in known.items():
        for row, values in rows.items():
            np.testing.assert_allclose(found[kind][row], values, atol=2e-3, err_msg=f"{kind} {row}")


@runs(*(f"tools/distil/{name}.py" for name in ("prepare", "train", "export", "measure", "validate")))
def test_encoder_is_distilled(voices: dict[str, list[Path]], speech: Path, tmp_path: Path) -> None:
    needs("torch", PYTORCH)
    needs("onnx", PYTORCH)
    (wheel,) = downloaded(tmp_path, "resemblyzer==0.1.4")
    prepared, run, student = tmp_path / "prepared", tmp_path / "run", tmp_path / "student.onnx"
    ours, theirs = ("--prepared", prepared), ("--wheel", wheel)
    sharing = ("--validation", 6, "--calibration", 8)
    ran("tools/distil/prepare.py", "--speech", speech, *theirs, "--out", prepared, *sharing)
    ran(
        "tools/distil/train.py",
        *(*ours, *theirs, "--out", run, "--threads", 1, "--steps", 2, "--every", 2, "--batch", 16),
    )
    assert [json.loads(line)["step"] for line in (run / "log.jsonl").read_text("utf-8").splitlines()] == [
        0,
        2,
    ]
    ran("tools/distil/export.py", "--weights", run / "last.pt", "--out", student)
    people = tmp_path / "people"
    for name in list(voices)[:3]:
        (people / name).mkdir(parents=True)
        for number in range(10):
            samples = recording(voices[name], 3 * number, 10.0, 1.0)
            soundfile.write(people / name / f"{number}.wav", samples, RATE_HZ)
    models = ("--models", MODELS / "ge2e.onnx", student, "--cuts", 1)
    assert "student EER" in ran("tools/distil/measure.py", "--people", people, *ours, *models)
    assert "published: clean windows" in ran(
        "tools/distil/validate.py", *ours, *theirs, "published", run / "last.pt"
    )


# --- the small spoofing detector


@runs("tools/train_spoofing.py")
def test_spoofing_detector_is_trained_and_calibrated(tmp_path: Path) -> None:
    needs("onnx", PYTORCH)
    rng = np.random.default_rng(1)
    for number, name in enumerate(["real", *spoofing_speech.SOURCES]):
        count, length = 64, 33_000
        np.savez(
            tmp_path / f"{name}.npz",
            keys=np.array([f"{name}-{key}" for key in range(count)]),
            features=rng.normal(number / 10, 1, (count, 169)).astype(np.float32),
            lengths=np.full(count, length),
            samples=rng.normal(0, 0.1, count * length).astype(np.float16),
        )
    ran("tools/train_spoofing.py", "--prepared", tmp_path, "--out", tmp_path)
    assert (tmp_path / "spoofing_light.onnx").stat().st_size > 10_000
    assert np.isfinite(list(json.loads((tmp_path / "spoofing_light.json").read_text("utf-8")).values())).all()


#: What a source of training speech needs to be installed.
PACKAGES = {"piper-vits": "piper", "hibari": "hibari", "world": "pyworld"}


@runs("tools/train_spoofing.py")
@pytest.mark.parametrize("source", spoofing_speech.SOURCES)
def test_training_speech_is_synthesized(source: str, speech: Path) -> None:
    if package := PACKAGES.get(source):
        needs(package, SPOOFING)
    _, samples = next(spoofing_speech.SOURCES[source](REPOSITORY / ".cache" / "synthesizers", speech))
    assert samples.dtype == np.float32
    assert len(samples) > 8000
    assert np.abs(samples).max() > 0.01
