"""Figures of known scores, and reports as text, JSON and HTML."""

from __future__ import annotations

import builtins
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from sonant.errors import SetupError
from sonant.evaluation.figures import NAMES, NOT_CALIBRATED, Figure, nominal_far, results
from sonant.evaluation.page import as_html
from sonant.evaluation.report import Report, as_json, as_text, show
from sonant.evaluation.trials import SpeakerInfo


def report_of(*outcomes, facts=None) -> Report:
    return Report(
        data="8 made-up speakers",
        model_id="none",
        scorer="arithmetic",
        version="1",
        seed=1,
        results=[result for one in outcomes for result in results(one, facts or {})],
    )


def test_figures_of_normal_distributions_equal_theory(outcome):
    (found,) = results(outcome(each=200, calibrated=True), {})

    # Three deviations apart: EER = Phi(-1.5). At a FAR of 1 % the threshold lies at 2.326, of 0.1 % at 3.090.
    assert found.figures["eer"].value == pytest.approx(0.0668, abs=0.01)
    assert found.figures["far_80"].value == pytest.approx(0.01, rel=0.2)
    assert found.figures["frr_80"].value == pytest.approx(0.2503, abs=0.03)
    assert found.figures["far_90"].value == pytest.approx(0.001, rel=0.6)
    assert found.figures["frr_90"].value == pytest.approx(0.536, abs=0.03)
    assert found.figures["calibration_loss"].value == pytest.approx(0, abs=0.01)
    for name in ("eer", "far_80", "frr_90", "cllr", "min_cllr"):
        figure = found.figures[name]
        assert figure.low is not None and figure.value is not None and figure.high is not None
        assert figure.low <= figure.value <= figure.high


def test_overconfident_ratios_have_a_calibration_loss(outcome):
    from dataclasses import replace

    honest = outcome(calibrated=True)
    (found,) = results(replace(honest, llr=4 * honest.llr), {})

    loss = found.figures["calibration_loss"].value
    assert loss is not None
    assert loss > 0.05


@pytest.mark.parametrize(("score", "far"), [(50, 0.1), (80, 0.01), (85, 10**-2.5), (90, 1e-3), (100, 1e-5)])
def test_nominal_far_of_a_score(score, far):
    assert nominal_far(score) == pytest.approx(far)


def test_unsupported_figure_has_a_reason_instead_of_a_number(outcome):
    (found,) = results(outcome(speakers=5, each=20, calibrated=True), {})  # 400 impostors

    for name, need in (("fnmr_at_fmr_0.001", "3,000"), ("min_dcf_0.001", "3,000"), ("far_95", "30,000")):
        assert found.figures[name].value is None
        assert (
            found.figures[name].unsupported_reason
            == f"not supported by 400 comparisons: at least {need} needed"
        )
    assert found.figures["far_80"].value is not None
    assert found.figures["min_dcf_0.01"].rough


def test_rate_without_errors_is_bounded_by_the_rule_of_3(outcome):
    from dataclasses import replace

    plain = outcome(speakers=4, each=25)
    (found,) = results(replace(plain, raw=plain.raw + 100 * plain.genuine), {})  # 100 genuine, 300 impostor

    assert found.figures["eer"] == Figure(value=0.0, low=0.0, high=0.03, rough=True)


def test_probe_without_speech_is_a_rejection_and_no_comparison(outcome):
    (whole,) = results(outcome(calibrated=True), {})
    (found,) = results(outcome(calibrated=True, failed=120), {})  # of 480 genuine ones, those of two speakers

    assert found.genuine == whole.genuine - 120
    assert found.figures["frr_80"].value == pytest.approx((120 + 360 * 0.25) / 480, abs=0.03)
    assert found.figures["eer"].value == pytest.approx(whole.figures["eer"].value, abs=0.02)


def test_threshold_figures_without_calibration_have_a_reason(outcome):
    (found,) = results(outcome(), {})

    assert {name for name in NAMES if found.figures[name].unsupported_reason == NOT_CALIBRATED} == {
        "far_80", "frr_80", "far_90", "frr_90", "far_95", "frr_95", "cllr", "calibration_loss",
    }  # fmt: skip


def test_group_has_only_comparisons_within_it(outcome):
    facts = {
        f"speaker-{number}": SpeakerInfo(gender="F" if number < 5 else "M", channel="mobile")
        for number in range(7)
    }
    found = {result.group: result for result in results(outcome(each=10), facts)}

    assert list(found) == ["all", "gender F", "gender M", "channel mobile"]
    assert [found["gender F"].speakers, found["gender F"].genuine, found["gender F"].impostor] == [5, 50, 200]
    assert [found["gender M"].speakers, found["gender M"].impostor] == [2, 20]
    assert found["gender M"].figures["eer"].low is None  # two speakers have no interval
    assert found["channel mobile"].speakers == 7


def test_group_of_one_speaker_is_left_out(outcome):
    facts = {"speaker-0": SpeakerInfo(gender="F")}

    assert [result.group for result in results(outcome(each=5), facts)] == ["all"]


@pytest.mark.parametrize(
    ("name", "figure", "text"),
    [
        ("eer", Figure(value=0.0131, low=0.004, high=0.0219), "1.3 % (0.4-2.2)"),
        ("eer", Figure(value=0.0, low=0.0, high=0.003, rough=True), "~0 % (0-0.3)"),
        ("frr_90", Figure(value=0.3126), "31 %"),
        ("min_cllr", Figure(value=0.0456, low=0.04, high=0.05), "0.046 (0.040-0.050)"),
        ("eer", Figure(value=None, unsupported_reason="not supported"), "-"),
    ],
)
def test_figures_are_shown_with_significant_digits(name, figure, text):
    assert show(name, figure) == text


def test_text_states_few_speakers_and_missing_figures(outcome):
    text = as_text(report_of(outcome(speakers=5, each=20)))

    assert "5 speakers are few" in text
    assert "FNMR at FMR 0.1 %: not supported by 400 comparisons: at least 3,000 needed." in text
    assert NOT_CALIBRATED in text


def test_json_has_every_figure_with_bounds_or_a_reason(outcome):
    document = json.loads(json.dumps(as_json(report_of(outcome(each=20, calibrated=True))), allow_nan=False))

    (result,) = document["results"]
    assert set(result["figures"]) == set(NAMES)
    assert result["figures"]["eer"].keys() == {"value", "low", "high", "rough"}
    assert result["figures"]["far_95"] == {
        "value": None, "why_not": "not supported by 1,120 comparisons: at least 30,000 needed",
    }  # fmt: skip
    assert (result["genuine"], result["impostor"], result["speakers"]) == (160, 1120, 8)


class Page(HTMLParser):
    """What a page holds: tags, ids, and everything it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href") and not value.startswith("#"):
                self.fetched.append(value)


@pytest.mark.parametrize("calibrated", [True, False])
def test_page_contains_its_plots_and_fetches_nothing(outcome, calibrated):
    text = as_html(
        report_of(outcome(each=20, calibrated=calibrated), outcome(each=20, seed=2, calibrated=calibrated))
    )
    page = Page(text)

    assert page.tags.count("svg") == 1 + 2 * 2  # a DET for the line; histogram and calibration a condition
    assert page.fetched == [] and "script" not in page.tags
    assert not re.search(r"url\((?!#)", text) and "#010203" not in text
    assert "nan" not in re.sub(r"[a-z]*nan[a-z]+|[a-z]+nan[a-z]*", "", text.lower())


def test_text_from_outside_is_escaped(outcome):
    from dataclasses import replace

    hostile = replace(report_of(outcome(each=5)), data="<script>alert(1)</script>")

    assert "script" not in Page(as_html(hostile)).tags


def test_page_without_matplotlib_names_the_package(outcome, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    report = report_of(outcome(each=5))

    assert as_text(report) and as_json(report)
    with pytest.raises(SetupError, match=r"sonant\[evaluate\]"):
        as_html(report)


def test_page_of_constant_scores(outcome):
    from dataclasses import replace

    flat = outcome(each=3)

    assert "<svg" in as_html(report_of(replace(flat, raw=np.zeros_like(flat.raw))))
