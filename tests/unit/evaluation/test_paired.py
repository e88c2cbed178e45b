"""Two voice models on the same comparisons: differences of known scores, and by the command."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from sonant.cli.evaluate import evaluate
from sonant.errors import SetupError
from sonant.evaluation import paired
from sonant.evaluation.figures import Figure, results
from sonant.evaluation.paired import FIGURES, Difference, compare_models
from sonant.evaluation.paired_report import PairedReport, as_json, as_text
from sonant.evaluation.run import Line, Outcome


def noisier(outcome: Outcome, spread: float, seed: int = 5) -> Outcome:
    """The same comparisons by a model whose scores vary more."""
    noise = np.random.default_rng(seed).normal(0, spread, len(outcome.raw))
    return replace(outcome, raw=outcome.raw + noise)


def interval(difference: Difference) -> tuple[float, float]:
    assert difference.interval is not None
    return difference.interval.low, difference.interval.high


def width(figure: Figure) -> float:
    assert figure.low is not None and figure.high is not None
    return figure.high - figure.low


def shuffled(outcome: Outcome) -> Outcome:
    return outcome.select(np.random.default_rng(9).permutation(len(outcome.raw)))


def test_model_with_itself_differs_in_nothing(outcome):
    one = outcome(calibrated=True)
    found = compare_models(one, one).differences

    assert tuple(found) == FIGURES
    for difference in found.values():
        assert difference.value == 0 and difference.p == 1 and difference.better == 0
        assert interval(difference) == (0, 0)


def test_figures_are_those_of_each_model_alone(outcome):
    one, other = outcome(each=100), noisier(outcome(each=100), 1.0)
    difference = compare_models(one, other).differences["eer"]

    for value, model in ((difference.first, one), (difference.second, other)):
        (alone,) = results(model, {})
        assert value == pytest.approx(alone.figures["eer"].value)


def test_noisier_model_errs_more_in_either_order(outcome):
    one = outcome(each=100)
    other = noisier(one, 1.5)
    forth, back = (compare_models(*pair).differences["eer"] for pair in ((one, other), (other, one)))

    assert interval(forth)[0] > 0 and forth.better == 1
    assert interval(back)[1] < 0 and back.better == 2
    assert forth.value == pytest.approx(-back.value)
    assert forth.p == back.p
    assert forth.p is not None and forth.p < 0.01


def test_order_of_the_comparisons_does_not_matter(outcome):
    one = outcome()
    other = noisier(one, 1.0)

    assert compare_models(one, shuffled(other)).differences == compare_models(one, other).differences


def test_speakers_difficult_for_both_widen_no_difference(outcome):
    # Half of the speakers are hard for both models: alone each figure is uncertain, their difference is not.
    plain = outcome(speakers=12, each=60)
    hard = np.isin(plain.reference_speaker, np.arange(6)) & plain.genuine
    one = replace(plain, raw=plain.raw - 2.0 * hard)
    other = replace(one, raw=one.raw + 1e-9 * np.arange(len(one.raw)))
    (alone,) = results(one, {})
    difference = compare_models(one, other).differences["eer"]

    low, high = interval(difference)
    assert width(alone.figures["eer"]) > 0.05
    assert high - low < 0.001


def test_models_that_differ_by_chance_are_seldom_told_apart(outcome):
    # Two models with errors of the same size, of their own each: 5 % of such pairs are to be told apart.
    base = outcome(speakers=12, each=6)
    told = 0
    for seed in range(20):
        pair = (noisier(base, 1.0, seed=2 * seed + 100), noisier(base, 1.0, seed=2 * seed + 101))
        told += compare_models(*pair).differences["eer"].better != 0

    assert told <= 4


def test_comparison_that_one_model_could_not_make_is_rejected(outcome):
    one = outcome(calibrated=True)
    rows = np.flatnonzero(one.genuine)[:50]
    raw, score = one.raw.copy(), one.score.copy()
    raw[rows] = score[rows] = np.nan
    found = compare_models(one, replace(one, raw=raw, score=score))

    assert found.genuine == np.count_nonzero(one.genuine) - 50
    assert found.differences["eer"].value == 0
    assert found.differences["frr_90"].second > found.differences["frr_90"].first


def test_few_comparisons_leave_out_what_they_do_not_support(outcome):
    few = outcome(speakers=5, each=20, calibrated=True)  # 400 of strangers
    found = compare_models(few, few)

    assert set(found.differences) == {"eer", "min_dcf_0.01", "frr_90"}
    text = as_text(report_of(found))
    assert "Too few comparisons, or no calibration, for: FNMR at FMR 0.1 %, FAR at 90." in text


def test_two_speakers_have_figures_without_interval(outcome):
    two = outcome(speakers=2, each=50)
    difference = compare_models(two, noisier(two, 1.0)).differences["eer"]

    assert difference.interval is None and difference.p is None and difference.better == 0


@pytest.mark.parametrize(
    "changes", [{"line": Line(reference="gsm")}, {"test_s": 3.0}, {"speakers": ("a", "b")}]
)
def test_other_conditions_are_refused(outcome, changes):
    with pytest.raises(SetupError, match="under the same condition"):
        compare_models(outcome(), replace(outcome(), **changes))


def test_other_recordings_are_refused(outcome):
    one = outcome()

    with pytest.raises(SetupError, match="no comparisons in common"):
        compare_models(one, replace(one, pieces=one.pieces + len(one.pieces)))


def report_of(*found: paired.PairedResult) -> PairedReport:
    return PairedReport(first_id="small", second_id="large", second_scorer="arithmetic", results=found)


def test_report_has_a_line_for_each_figure(outcome):
    one = outcome(each=100, calibrated=True)
    found = compare_models(one, replace(noisier(one, 1.5), score=one.score))
    text, document = as_text(report_of(found)), as_json(report_of(found))

    (eer,) = [line for line in text.splitlines() if " EER " in line]
    assert eer.startswith("clean, 30 s against 10 s") and eer.endswith("the first")
    assert "first: small" in text and "second: large, scored by arithmetic" in text
    (result,) = document["results"]
    assert set(result["figures"]) == set(FIGURES)
    figure = result["figures"]["eer"]
    assert figure["difference"] == pytest.approx(figure["second"] - figure["first"])
    assert figure["low"] <= figure["difference"] <= figure["high"]


def test_command_compares_both_encoders_that_ship(voices: dict[str, list[Path]], tmp_path):
    for voice in ("english", "italian", "russian"):
        (tmp_path / "people" / voice).mkdir(parents=True)
        for clip in voices[voice][:8]:
            shutil.copy(clip, tmp_path / "people" / voice)
    arguments = [
        str(tmp_path / "people"), "--enroll-s", "8", "--test-s", "4", "--references", "1", "--probes", "2",
        "--workers", "1", "--model", "ge2e-256-tel8k-2", "--json", str(tmp_path / "report.json"),
    ]  # fmt: skip
    done = CliRunner().invoke(evaluate, [*arguments, "--compare", "campplus-192-int8-1"])

    assert done.exit_code == 0, done.output
    assert "second: campplus-192-int8-1, scored by the shipped calibration" in done.output
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["model"] == "ge2e-256-tel8k-2"
    (compared,) = document["compared"]["results"]
    assert compared["genuine"] == document["results"][0]["genuine"]
    assert compared["figures"]["eer"]["second"] == 0


def test_model_is_not_compared_with_itself():
    done = CliRunner().invoke(
        evaluate, ["--model", "ge2e-256-tel8k-2", "--compare", "ge2e-256-tel8k-2", "--workers", "1"]
    )

    assert isinstance(done.exception, SetupError)
    assert "needs another voice model than ge2e-256-tel8k-2" in str(done.exception)
