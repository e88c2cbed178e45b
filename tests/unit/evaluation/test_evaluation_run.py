"""Evaluations of real voices, in process and by the command."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from waiting import PATIENCE_S

from sonant.cli.evaluate import evaluate
from sonant.errors import SetupError
from sonant.evaluation import run as running
from sonant.evaluation.embedding import PieceTemplates, Use
from sonant.evaluation.run import Conditions, Line, Outcome, evaluate_speakers, evaluate_trials
from sonant.evaluation.scorer import Scored, cosine
from sonant.evaluation.trials import read_trials, recordings_by_speaker, speakers_of
from sonant.settings import Audio
from sonant.voice.models.embedding import Embedder
from sonant.voice.sample import VoiceSample

FEW = Conditions(enroll_s=8.0, test_s=(4.0,), references=2, probes=3)


@pytest.fixture(scope="module")
def people(voices: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips of each of three telephone voices, a folder a speaker."""
    folder = tmp_path_factory.mktemp("people")
    for voice in ("english", "italian", "russian"):
        (folder / voice).mkdir()
        for clip in voices[voice][:12]:
            shutil.copy(clip, folder / voice)
    return folder


@pytest.fixture(scope="module")
def plain(people: Path) -> Outcome:
    (outcome,) = evaluate_speakers(recordings_by_speaker(people), FEW, audio=Audio())
    return outcome


def test_all_speakers_are_compared_and_separated(plain):
    assert plain.references == 6 and plain.probes == 9
    assert np.count_nonzero(~plain.genuine) == 2 * 3 * 3 * 2
    assert 0 < np.count_nonzero(plain.genuine) <= 3 * 2 * 3
    assert plain.raw[plain.genuine].min() > plain.raw[~plain.genuine].max()


def test_scores_do_not_depend_on_the_workers(people, plain):
    (again,) = evaluate_speakers(recordings_by_speaker(people), FEW, audio=Audio(), workers=2)

    np.testing.assert_array_equal(again.raw, plain.raw)


def test_line_can_differ_between_references_and_probes(people, plain):
    conditions = replace(FEW, lines=tuple(map(Line.parse, ("clean", "clean/gsm", "gsm"))))
    clean, mixed, gsm = evaluate_speakers(recordings_by_speaker(people), conditions, audio=Audio())

    np.testing.assert_array_equal(clean.raw, plain.raw)
    assert [one.line.name for one in (clean, mixed, gsm)] == ["clean", "clean / gsm", "gsm"]
    assert len({float(one.raw.sum()) for one in (clean, mixed, gsm)}) == 3


def test_speech_lost_in_noise_is_a_failure_to_acquire(people):
    (outcome,) = evaluate_speakers(
        recordings_by_speaker(people), replace(FEW, lines=(Line.parse("clean/white:-10"),)), audio=Audio()
    )

    assert outcome.probes_failed > 0
    assert outcome.references_failed == 0
    assert np.isnan(outcome.raw).any()


def test_scorer_can_give_calibrated_scores(people):
    def scorer(reference: VoiceSample, probe: VoiceSample) -> Scored:
        raw = cosine(reference, probe).raw
        assert reference.quality.net_speech_s > probe.quality.net_speech_s
        return Scored(raw=raw, score=100 * raw, llr=10 * raw)

    (outcome,) = evaluate_speakers(recordings_by_speaker(people), FEW, audio=Audio(), scorer=scorer)

    assert outcome.score is not None and outcome.llr is not None
    np.testing.assert_allclose(outcome.score, 100 * outcome.raw)
    np.testing.assert_allclose(outcome.llr, 10 * outcome.raw)


def test_pieces_of_one_recording_are_not_genuine_comparisons():
    def made(speaker: str, use: Use, *sources: str) -> PieceTemplates:
        return PieceTemplates(
            speaker=speaker, use=use, requested_s=1.0, sources=frozenset(sources), templates={}
        )

    references = [made("ann", "reference", "a1", "a2"), made("bob", "reference", "b1")]
    probes = [made("ann", "probe", "a2"), made("ann", "probe", "a3"), made("bob", "probe", "b1")]

    pairs = running.list_pairs(references, probes, np.random.default_rng(1))

    assert pairs.tolist() == [[0, 1, 1], [0, 2, 0], [1, 0, 0], [1, 1, 0]]


def test_many_impostors_are_sampled(monkeypatch):
    monkeypatch.setattr(running, "MAX_IMPOSTORS", 50)
    pieces = [
        PieceTemplates(
            speaker=str(n % 40), use="probe", requested_s=1.0, sources=frozenset([str(n)]), templates={}
        )
        for n in range(80)
    ]

    pairs = running.list_pairs(pieces, pieces, np.random.default_rng(1))

    impostors = pairs[pairs[:, 2] == 0]
    assert len(impostors) == len({tuple(pair) for pair in impostors.tolist()}) == 50
    assert all(one % 40 != two % 40 for one, two, _ in impostors.tolist())
    assert (pairs[:, 2] == 1).sum() == 80  # everyone has two pieces, compared both ways


def test_trial_list_is_compared_as_given(people, tmp_path):
    one, two = (sorted((people / voice).iterdir()) for voice in ("english", "italian"))
    longest = [max(files, key=lambda file: file.stat().st_size).relative_to(people) for files in (one, two)]
    others = [
        sorted(files, key=lambda file: file.stat().st_size)[-2].relative_to(people) for files in (one, two)
    ]
    lines = [
        f"1 {longest[0]} {others[0]}", f"1 {longest[1]} {others[1]}",
        f"0 {longest[0]} {others[1]}", f"0 {longest[1]} gone/away.wav",
    ]  # fmt: skip
    (tmp_path / "trials.txt").write_text("\n".join(lines))
    trials = read_trials(tmp_path / "trials.txt", people)

    (outcome,) = evaluate_trials(
        trials, speakers_of(trials, people), Conditions(enroll_s=None, test_s=(None,)), audio=Audio()
    )

    assert outcome.genuine.tolist() == [True, True, False]
    assert outcome.unreadable == 1
    assert outcome.raw[:2].min() > outcome.raw[2]


def test_speakers_with_one_short_recording_are_refused(people, tmp_path):
    for voice in ("english", "italian"):
        (tmp_path / voice).mkdir()
        shutil.copy(next((people / voice).iterdir()), tmp_path / voice)

    with pytest.raises(SetupError, match="nothing to compare for references of 8 s and probes of 4 s"):
        evaluate_speakers(recordings_by_speaker(tmp_path), FEW, audio=Audio())


def dies() -> Embedder:
    """A voice model that takes the process with it."""
    os._exit(3)


def test_model_that_ends_its_process_is_reported(people):
    with pytest.raises(SetupError, match="ended from outside or by the voice model"):
        evaluate_speakers(recordings_by_speaker(people), FEW, audio=Audio(), workers=2, opener=dies)


def cannot_be_opened() -> Embedder:
    raise SetupError("it cannot be opened")


@pytest.mark.parametrize("workers", [1, 2])
def test_model_that_cannot_be_opened_is_reported(people, workers):
    with pytest.raises(SetupError, match="it cannot be opened"):
        evaluate_speakers(
            recordings_by_speaker(people), FEW, audio=Audio(), workers=workers, opener=cannot_be_opened
        )


def test_comparisons_have_the_probes_speech_and_the_lower_snr(people, plain):
    (noisy,) = evaluate_speakers(
        recordings_by_speaker(people), replace(FEW, lines=(Line.parse("pink:10/clean"),)), audio=Audio()
    )

    np.testing.assert_allclose(plain.speech_s, 4.0, atol=0.3)
    assert noisy.snr_db.max() < 12 < plain.snr_db.min()


def sonant(*arguments: str | Path | int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sonant", "evaluate", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(running.__file__).parents[2])},
        timeout=PATIENCE_S,
        check=False,
    )


def test_command_prints_a_table_and_writes_all_reports(people, tmp_path):
    done = sonant(
        people, "--enroll-s", 8, "--test-s", 4, "--references", 2, "--probes", 3, "--workers", 1,
        "--output", tmp_path / "out",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "clean, 8 s against 4 s" in done.stdout and "3 speakers are few" in done.stdout
    assert done.stdout == (tmp_path / "out/report.txt").read_text()
    document = json.loads((tmp_path / "out/report.json").read_text())
    assert document["results"][0]["figures"]["eer"]["value"] == 0
    assert "<svg" in (tmp_path / "out/report.html").read_text()
    with (tmp_path / "out/scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == document["results"][0]["genuine"] + document["results"][0]["impostor"]
    assert float(rows[0]["raw"]) > 0.5 and 80 <= float(rows[0]["score"]) <= 100


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nowhere",), "nowhere is not a folder"),
        (("here", "--trials", "list"), "not both"),
        (("--trials", "nowhere"), "cannot be read"),
        ((".", "--channel", "carrier-pigeon"), "carrier-pigeon"),
        ((".", "--json", "no/such/folder.json"), "no/such is not a folder"),
    ],
)
def test_command_names_the_fault(arguments, says):
    done = CliRunner().invoke(evaluate, arguments)

    assert isinstance(done.exception, SetupError)
    assert says in str(done.exception)
