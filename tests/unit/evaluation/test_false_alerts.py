"""False alerts of the known-fraudster risk: how they are counted, and the command on real voices."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from sonant.cli.evaluate_fraudsters import fraudsters
from sonant.errors import SetupError
from sonant.evaluation.false_alerts import PersonVoice, false_alerts
from sonant.voice.calibration.fit import fit_upper
from sonant.voice.calibration.model import Calibration, Node, Tail
from sonant.voice.quality import Quality
from sonant.voice.sample import VoiceSample

DIMENSIONS = 20


def units(rng, count):
    rows = rng.standard_normal((count, DIMENSIONS))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def voice(person, vector, group=None):
    sample = VoiceSample(model_id="test", vector=vector, quality=Quality(net_speech_s=10.0, snr_db=30.0))
    return PersonVoice(person=person, group=person if group is None else group, sample=sample)


@pytest.fixture(scope="module")
def calibration():
    """What similarities mean among people whose voices lie anywhere in 20 dimensions."""
    rng = np.random.default_rng(0)
    strangers = np.sum(units(rng, 200_000) * units(rng, 200_000), axis=1).astype(np.float64)
    tail = Tail(z=fit_upper(np.arctanh(strangers)))
    return Calibration(model_id="test", nodes=(Node(speech_s=10.0, snr_db=30.0, tail=tail),))


@pytest.mark.slow
def test_true_calibration_flags_one_call_in_a_hundred_for_any_list_length(calibration):
    rng = np.random.default_rng(1)
    people = range(80)
    calls = [voice(person, one) for person in people for one in units(rng, 5)]
    known = [voice(person, one) for person in people for one in units(rng, 2)]

    found = false_alerts(calls, known, calibration, (1, 10, 100, 500), seed=1, replicates=20)

    assert [(one.size, one.calls, one.lists, one.people) for one in found] == [
        (size, 400, 8000, 80) for size in (1, 10, 100, 500)
    ]
    assert [one.real_on_list for one in found] == [1, 10, 79, 79]
    for one in found:
        assert 0.003 < one.share < 0.03
        assert one.interval is not None
        assert one.interval.low < one.share < one.interval.high
    assert found[0].real_share == pytest.approx(0.01, abs=0.004)
    assert found[0].made_share == pytest.approx(0.01, abs=0.004)


def test_wrong_calibration_shows_in_the_shares(calibration):
    too_strict = calibration.adapted(shift=0.0, scale=0.6, supported_log10_far=-3.0)
    rng = np.random.default_rng(1)
    calls, known = ([voice(person, *units(rng, 1)) for person in range(40)] for _ in range(2))

    (one,) = false_alerts(calls, known, too_strict, (10,), seed=1, replicates=20)

    assert one.share > 0.05
    assert one.real_share > 0.03


def test_people_of_one_group_are_not_compared(calibration):
    rng = np.random.default_rng(2)
    rows = units(rng, 8)
    own = [voice(person, row) for person, row in enumerate(rows)]
    twins = [voice(person + 8, row, group=person) for person, row in enumerate(rows)]
    strangers = [voice(person + 8, row) for person, row in enumerate(rows)]

    (apart,) = false_alerts(own, [*own, *twins], calibration, (14,), seed=1, replicates=5)
    (known,) = false_alerts(own, [*own, *strangers], calibration, (15,), seed=1, replicates=5)

    assert apart.share < 0.5
    assert known.share == 1


def test_too_few_people_for_a_list_are_refused(calibration):
    people = [voice(person, row) for person, row in enumerate(units(np.random.default_rng(3), 3))]

    with pytest.raises(SetupError, match="lists need 3 people besides the caller, there are 2"):
        false_alerts(people, people, calibration, (10,), seed=1)


def test_equal_seeds_give_equal_figures(calibration):
    people = [voice(person, row) for person, row in enumerate(units(np.random.default_rng(4), 12))]

    one, two = (false_alerts(people, people, calibration, (10, 50), seed=5, replicates=10) for _ in range(2))

    assert one == two


def test_command_measures_a_folder_and_counts_real_voices(voices, tmp_path: Path):
    for name in ("english", "french", "italian", "russian"):
        (tmp_path / "people" / name).mkdir(parents=True)
        for clip in voices[name][:10]:
            shutil.copy(clip, tmp_path / "people" / name)
    written = tmp_path / "alerts.json"

    done = CliRunner().invoke(
        fraudsters,
        [
            *(str(tmp_path / "people"), "--call-s", "3", "--list-s", "3", "--calls", "1", "--size", "2"),
            *("--size", "20", "--json", str(written), "--workers", "1", "--data", str(tmp_path / "data")),
        ],
        catch_exceptions=False,
    )

    assert done.exit_code == 0, done.output
    assert "4 callers, 4 people to be on lists" in done.output
    document = json.loads(written.read_text())
    assert [(one["size"], one["real_on_list"]) for one in document["lists"]] == [(2, 2), (20, 3)]
    for one in document["lists"]:
        assert one["share"] == one["flagged"] / one["lists"]
        assert one["lists"] == 20 * one["calls"]
