"""Every script of tools runs to its end, on a few recordings made of the telephone voices."""

from __future__ import annotations

import json
import os
import shutil
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

import spoofing_corpora
import spoofing_speech
from sonant.cli.countermeasure import examine_countermeasure
from sonant.voice.calibration.file import calibration_of, read_calibration
from sonant.voice.models.packaged import packaged_encoder_ids, packaged_entry
from sonant.voice.spoofing.countermeasure import CountermeasureFormat, open_countermeasure
from sonant.voice.spoofing.models import SpoofingCalibration

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


@runs("tools/dashboards.py")
def test_dashboards_are_written_as_they_are() -> None:
    before = {file: file.read_bytes() for file in (REPOSITORY / "deploy" / "grafana").glob("*.json")}
    ran("tools/dashboards.py")
    assert {file: file.read_bytes() for file in before} == before


@runs("tools/docs_site/build_site.py")
def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    python = tmp_path / "sphinx" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*install, "-r", str(REPOSITORY / "locks" / "docs.txt")], check=True)
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
@pytest.mark.parametrize("model_id", packaged_encoder_ids())
def test_calibration_script_fits(
    speech: Path, listed: tuple[Path, Path], tmp_path: Path, model_id: str
) -> None:
    cohort, people = listed
    entry = packaged_entry(model_id)
    assert entry is not None
    common = ("--speech", speech, "--people", people, "--calls", 2, "--least", 20, "--out", tmp_path)
    ran("tools/fit_calibration.py", "--model", model_id, *common, "--cohort", cohort)
    assert np.load(tmp_path / entry["centre"]["file"]).shape == (entry["dimensions"],)
    made = read_calibration((tmp_path / entry["calibration"]).read_text("utf-8"))
    ran("tools/fit_calibration.py", "--model", model_id, *common, "--narrow")
    highpass_300hz = read_calibration((tmp_path / entry["calibration"]).read_text("utf-8"))
    assert made.model_id == highpass_300hz.model_id == model_id
    assert made.nodes
    assert highpass_300hz.highpass_300hz
    ran("tools/fit_calibration.py", "--model", model_id, *common, "--adjust", "--shared-lines")
    written = (tmp_path / entry["calibration"]).read_text("utf-8")
    shipped, moved = calibration_of(model_id), json.loads(written)["provenance"]["adjusted"]
    for before, after in zip(shipped.nodes, read_calibration(written).nodes, strict=True):
        ratio = after.tail.z.deviation / before.tail.z.deviation
        assert ratio == pytest.approx(moved["nodes"]["scale"], rel=0.01)


@runs("tools/corpora_left_out.py")
def test_scale_is_measured_on_the_corpus_that_is_left_out(speech: Path, tmp_path: Path) -> None:
    names = []
    for number, path in enumerate(sorted(speech.iterdir())):
        names.append(f"{('north', 'south')[number % 2]}-{path.name}")
        (tmp_path / names[-1]).symlink_to(path)
    for file, part in (("cohort.txt", names[:7]), ("people.txt", names[7:])):
        (tmp_path / file).write_text("".join(f"{name}\n" for name in part), "utf-8")
    options = (
        "--speech", tmp_path, "--people", tmp_path / "people.txt", "--cohort", tmp_path / "cohort.txt",
        "--calls", 2, "--narrow-calls", 1, "--least", 10, "--calls-file", tmp_path / "calls",
    )  # fmt: skip
    found = ran("tools/corpora_left_out.py", *options)
    rows = [line.split()[:3] for line in found.splitlines()[1:]]
    assert [row for row in rows if row[2] == "3s"] == [
        [corpus, lines, "3s"] for corpus in ("north", "south") for lines in ("one", "any")
    ]
    assert {path.name for path in tmp_path.glob("*.npz")} == {
        f"calls.{part}.npz" for part in ("people", "cohort", "narrow")
    }
    assert ran("tools/corpora_left_out.py", *options) == found


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


@runs("tools/part_limits.py")
@pytest.mark.parametrize("model_id", packaged_encoder_ids())
def test_parts_of_calls_are_measured(speech: Path, tmp_path: Path, model_id: str) -> None:
    for path in sorted(speech.iterdir())[:2]:
        samples, rate_hz = soundfile.read(path)
        (tmp_path / path.stem).mkdir()
        for number in range(2):
            soundfile.write(tmp_path / path.stem / f"{number}.wav", samples, rate_hz)
    options = ("--speech", tmp_path, "--model", model_id, "--calls", 2, "--enroll-s", 8)
    lines = ran("tools/part_limits.py", *options).splitlines()
    assert lines[0].startswith("2 people, 4 calls, ")
    assert [line.split()[:2] for line in lines[-2:]] == [["50", "40"], ["50", "35"]]


# --- models


@runs("tools/build_models.py", "tools/campplus_ranges.py")
def test_shipped_models_are_reproduced_byte_for_byte(speech: Path, tmp_path: Path) -> None:
    needs("torch", PYTORCH)
    needs("onnx", PYTORCH)
    (tmp_path / "few").mkdir()
    for name in ("a0-1.wav", "b1-1.wav"):
        (tmp_path / "few" / name).write_bytes((speech / name).read_bytes())
    ran("tools/build_models.py", "--out", tmp_path, "--wheels", tmp_path, "--audio", tmp_path / "few")
    for name in (
        "ge2e.onnx",
        "campplus_int8.onnx",
        "silero_vad_8k.onnx",
        "aasist.onnx",
        "segmentation.onnx",
        "spoofing_light.onnx",
        "models.json",
    ):
        assert (tmp_path / name).read_bytes() == (MODELS / name).read_bytes(), name
    made = tmp_path / "ranges.json"
    ran("tools/campplus_ranges.py", "--speech", tmp_path / "few", "--wheels", tmp_path, "--out", made)
    shipped = json.loads((REPOSITORY / "tools" / "campplus_ranges.json").read_text("utf-8"))
    assert json.loads(made.read_text("utf-8"))["ranges"].keys() == shipped["ranges"].keys()


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

#: Vocoders that need no package.
VOCODERS = [name for name in spoofing_corpora.COPIERS if name != "world"]


@runs("tools/train_spoofing.py")
def test_spoofing_detector_is_trained_and_calibrated(speech: Path, tmp_path: Path) -> None:
    """Two corpora of real voices, and their copies by three vocoders."""
    needs("onnx", PYTORCH)
    corpora = {"first": "a", "second": "bc"}
    for name, letters in corpora.items():
        (tmp_path / name).mkdir()
        for path in sorted(speech.iterdir()):
            if path.name[0] in letters:
                shutil.copy(path, tmp_path / name)
    given = [
        word for name in corpora for word in ("--genuine", f"{name}={tmp_path / name}", "--copies", name)
    ]
    # WORLD is a package of its own.
    copiers = [word for name in VOCODERS for word in ("--copier", name)]
    printed = ran(
        "tools/train_spoofing.py", "--prepared", tmp_path / "prepared", *given, *copiers, "--out", tmp_path
    )
    rates = {line.split()[0]: line.split() for line in printed.splitlines() if line.startswith("copy-")}
    assert set(rates) == {f"copy-{name}" for name in VOCODERS}
    assert (tmp_path / "spoofing_light.onnx").stat().st_size > 10_000
    made = SpoofingCalibration.parse(json.loads((tmp_path / "spoofing_light.json").read_text("utf-8")))
    assert made.network_weight >= 0
    assert made.alone.middle < made.network_from < made.alone.score_of(0.01)


@runs("tools/train_spoofing.py")
@pytest.mark.parametrize("copier", spoofing_corpora.COPIERS)
def test_vocoder_copies_what_is_said(copier: str, speech: Path) -> None:
    """A copy has the loud and soft places of its original."""
    if copier == "world":
        needs("pyworld", SPOOFING)
    original = spoofing_corpora.read(speech / "a0-1.wav", 8000)[: 8 * 8000]
    copy = spoofing_corpora.copied(speech / "a0-1.wav", copier)[: len(original)]
    levels = [
        np.log(np.mean(one[: len(one) // 400 * 400].reshape(-1, 400) ** 2, axis=1) + 1e-6)
        for one in (original, copy)
    ]
    assert np.corrcoef(levels[0][: len(levels[1])], levels[1])[0, 1] > 0.8
    assert not np.allclose(original[: len(copy)], copy, atol=1e-3)


@runs("tools/export_countermeasure.py")
def test_exported_detector_can_be_added(tmp_path: Path) -> None:
    needs("torch", PYTORCH)
    needs("onnx", PYTORCH)
    import torch

    from export_countermeasure import Normalized, export

    torch.manual_seed(1)
    classifier = torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, -1)),
        torch.nn.Conv1d(1, 8, 80, stride=40),
        torch.nn.GELU(),
        torch.nn.AdaptiveAvgPool1d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 2),
    )
    network = Normalized(classifier, normalize=True)
    path = tmp_path / "made.onnx"
    path.write_bytes(export(network, window_s=4.0, rate_hz=16000, spoofed="1"))
    found = examine_countermeasure(path)
    assert (found.rate_hz, found.spoofed, found.outputs) == (16000, "1", 2)
    model = open_countermeasure(
        path.read_bytes(), model_id="made", form=CountermeasureFormat(output="logits", spoofed="1")
    )
    sound = np.random.default_rng(1).normal(0, 0.05, 64_000).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(sound)[None]).numpy()[0]
    np.testing.assert_allclose(model.outputs(sound), expected, atol=1e-4)


#: What a source of training speech needs to be installed.
PACKAGES = {"piper-vits": "piper", "hibari": "hibari"}


@runs("tools/train_spoofing.py")
@pytest.mark.parametrize("source", spoofing_speech.SOURCES)
def test_training_speech_is_synthesized(source: str) -> None:
    if package := PACKAGES.get(source):
        needs(package, SPOOFING)
    _, samples = next(spoofing_speech.SOURCES[source](REPOSITORY / ".cache" / "synthesizers"))
    assert samples.dtype == np.float32
    assert len(samples) > 8000
    assert np.abs(samples).max() > 0.01
