"""The robustness table: what is compared under each condition, and how it is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sonant.errors import SetupError
from sonant.evaluation.embedding import PieceTemplates, run_tasks
from sonant.evaluation.robustness import (
    CLEAN_CONDITION,
    CONDITIONS,
    Condition,
    Row,
    Sizes,
    rows_of,
    tasks_of,
)
from sonant.evaluation.robustness_report import RobustnessReport, as_html, as_json, text_lines
from sonant.evaluation.scorer import Scored, calibrated
from sonant.settings import Audio
from sonant.voice.calibration.file import shipped_calibration
from sonant.voice.quality import Quality
from sonant.voice.sample import VoiceSample

HUM = Condition(name="hum", channel="hum:50:10")
TABLE = (CLEAN_CONDITION, HUM)


def sample(value):
    """A template whose scores are `value` with itself and 10 with others."""
    vector = np.array([value, 1], np.float32)
    return VoiceSample(model_id="m", vector=vector, quality=Quality(net_speech_s=10))


def scorer(reference, probe):
    one, two = float(reference.vector[0]), float(probe.vector[0])
    return Scored(raw=0.0, score=95.7 if one == two else 10.2)


def piece(speaker, use, clean, hum, why="not enough speech: 0.0 s of net speech, at least 1.6 s needed"):
    return PieceTemplates(
        speaker=speaker,
        use=use,
        requested_s=10.0,
        sources=frozenset([f"{speaker}-{use}"]),
        templates={CLEAN_CONDITION.line: clean, HUM.line: hum},
        refusals={} if hum is not None else {HUM.line: why},
    )


@pytest.fixture
def rows():
    pieces = [
        piece("ann", "reference", sample(1), sample(3)),
        piece("ann", "probe", sample(1), sample(3)),
        piece("bob", "reference", sample(2), sample(3)),
        piece("bob", "probe", sample(2), None),
    ]
    return rows_of(pieces, TABLE, scorer)


def test_calls_alone_are_compared_with_clean_enrollments(rows):
    clean, call, _ = rows

    assert (clean.genuine, clean.strangers) == ((95, 95), (10, 10))
    assert (call.side, call.genuine, call.strangers) == ("call", (10,), (10,))
    assert (call.lowest, call.median, call.rejected) == (10, 10, 1)


def test_fault_on_both_sides_makes_strangers_alike(rows):
    both = rows[2]

    assert (both.side, both.genuine, both.strangers) == ("both", (95,), (95,))
    assert both.accepted_impostors(90) == 1


def test_calls_without_a_score_are_counted_with_their_reason(rows):
    assert [row.refusals for row in rows] == [{}, {"not enough speech": 1}, {"not enough speech": 1}]


def test_row_without_a_score_has_no_figures():
    row = Row(condition=HUM, side="both", genuine=(), strangers=())
    assert (row.lowest, row.median, row.rejected, row.accepted_impostors(90)) == (None, None, 0, 0)


def test_report_has_every_figure_as_text_json_and_page(rows):
    report = RobustnessReport(
        data="2 people", model_id="m", version="1", sizes=Sizes(), unreadable=1, rows=rows
    )

    text = "\n".join(text_lines(report))
    assert " ".join(text.splitlines()[4].split()) == "hum call 1 10 10 1 1 0 0 10 1 not enough speech"
    assert "1 of 4 comparisons of strangers reach 90 (25.00%)" in text
    assert "1 recordings could not be read" in text
    document = as_json(report)
    assert document["rows"][2]["strangers"] == {
        "count": 1,
        "at_80": 1,
        "at_90": 1,
        "highest": 95,
        "scores": [95],
    }
    assert document["rows"][1]["not_scored"] == {"not enough speech": 1}
    assert "both sides" in as_html(report)


def test_enrollment_and_calls_come_from_different_recordings():
    recordings = {name: [Path(f"{name}{number}.wav") for number in range(5)] for name in ("ann", "bob")}

    tasks = tasks_of(recordings, TABLE, Sizes(), audio=Audio())

    for name in recordings:
        one, two = (set(task.recordings) for task in tasks if task.speaker == name)
        assert not one & two
        assert one | two == set(recordings[name])


@pytest.mark.parametrize("files", [{"ann": 5}, {"ann": 5, "bob": 1}])
def test_too_few_people_or_recordings_are_refused(files):
    recordings = {name: [Path(f"{number}.wav") for number in range(count)] for name, count in files.items()}
    with pytest.raises(SetupError, match="at least"):
        tasks_of(recordings, TABLE, Sizes(), audio=Audio())


def test_names_and_channels_of_the_table_are_unique():
    assert len({one.name for one in CONDITIONS}) == len({one.line for one in CONDITIONS}) == len(CONDITIONS)


@pytest.mark.slow
def test_offset_hum_and_tilt_change_no_decision_between_real_voices(voices):
    # Given: three telephone voices, and faults that made callers strangers and strangers alike
    recordings = {name: voices[name][:30] for name in ("english", "italian", "russian")}
    faults = [Condition(name=one, channel=one) for one in ("offset:0.05", "hum:50:10", "tilt:-6", "tilt:6")]
    conditions = (CLEAN_CONDITION, *faults)
    sizes = Sizes(enroll_s=15.0, call_s=8.0)

    # When
    tasks = tasks_of(recordings, conditions, sizes, audio=Audio())
    pieces = [
        one
        for result in run_tasks(tasks, workers=1, progress=lambda _done, _total: None)
        for one in result.templates
    ]
    rows = rows_of(pieces, conditions, calibrated(shipped_calibration()))

    # Then
    for row in rows:
        assert len(row.genuine) == 3 and not row.refusals, row.condition.name
        assert row.rejected == 0, (row.condition.name, row.side, row.genuine)
        assert row.accepted_impostors(90) == 0, (row.condition.name, row.side, row.strangers)
