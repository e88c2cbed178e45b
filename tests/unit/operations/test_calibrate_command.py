"""`sonant calibrate`: shows before and after, refuses what the data cannot support, can be undone."""

from __future__ import annotations

import numpy as np
import pytest
from made_networks import calibration_text
from voices_testbed import enroll, strangers

from sonant.cli import calibrate as command
from sonant.cli.calibrate_model import calibrate_model
from sonant.cli.context import CliContext
from sonant.errors import SetupError
from sonant.jobs.calibration_cache import domain_calibration
from sonant.storage.model_files import ModelFiles, ModelManifest
from sonant.storage.repositories import domains
from sonant.storage.repositories.calibrations import (
    OwnCalibration,
    RepeatedEnrollment,
    add,
    add_repeated_enrollment,
    delete_old_repeated_enrollments,
    list_repeated_enrollments,
)
from sonant.voice.calibration.model import log10_far_of
from sonant.voice.models import shipped_encoder_id


@pytest.fixture
def domain_id(testbed):
    return testbed.new_domain()


def scale(testbed, domain_id):
    with testbed.store.database.read() as connection:
        return domain_calibration(connection, domain_id, shipped_encoder_id())


def run(testbed, domain_id, **how):
    how = {"speech": None, "apply": False, **how}
    command.calibrate_scores(CliContext(), testbed.settings, domain_id=domain_id, **how)


def test_domains_own_calibration_counts_once_it_is_applied(testbed, domain_id, capsys):
    voices = strangers(150, spread=0.2)
    enroll(testbed, domain_id, voices)
    before = scale(testbed, domain_id)
    run(testbed, domain_id)
    assert "nothing was changed" in capsys.readouterr().out
    assert scale(testbed, domain_id) == before
    run(testbed, domain_id, apply=True)
    own = scale(testbed, domain_id)
    similarities = (voices @ voices.T)[np.triu_indices(150, 1)]
    reached = [own.log10_far(float(one), speech_s=30, snr_db=25) <= log10_far_of(80) for one in similarities]
    assert 0.003 < np.mean(reached) < 0.03
    # Another domain keeps the shipped scale.
    assert scale(testbed, testbed.new_domain()) == before


def test_it_can_be_taken_back_step_by_step(testbed, domain_id, capsys):
    enroll(testbed, domain_id, strangers(150, spread=0.2))
    shipped = scale(testbed, domain_id)
    run(testbed, domain_id, apply=True)
    first = scale(testbed, domain_id)
    enroll(testbed, domain_id, strangers(100, seed=5, spread=0.1), prefix="more")
    run(testbed, domain_id, apply=True)
    assert scale(testbed, domain_id) not in (first, shipped)
    command.undo_calibration(CliContext(), testbed.settings, domain_id)
    assert scale(testbed, domain_id) == first
    capsys.readouterr()
    command.show_calibrations(CliContext(), testbed.settings, domain_id)
    shown = capsys.readouterr().out
    assert "150" in shown
    assert "shipped" in shown
    command.undo_calibration(CliContext(), testbed.settings, domain_id)
    assert scale(testbed, domain_id) == shipped
    with pytest.raises(SetupError, match="no own calibration"):
        command.undo_calibration(CliContext(), testbed.settings, domain_id)


def test_too_few_speakers_are_refused(testbed, domain_id):
    enroll(testbed, domain_id, strangers(19))
    with pytest.raises(SetupError, match="19 speakers are too few"):
        run(testbed, domain_id)


def test_what_the_data_cannot_support_is_refused_and_nothing_is_stored(testbed, domain_id, capsys):
    enroll(testbed, domain_id, strangers(21, spread=0.2))
    before = scale(testbed, domain_id)
    with pytest.raises(SetupError, match="calibrate on more speakers"):
        run(testbed, domain_id, apply=True)
    assert "not supported" in capsys.readouterr().out
    assert scale(testbed, domain_id) == before


def test_repeated_enrollments_tell_how_many_are_rejected(testbed, domain_id, capsys):
    enroll(testbed, domain_id, strangers(150, spread=0.2))
    with testbed.store.database.write() as connection:
        for similarity in (0.95, 0.96, 0.97, 0.0):
            made = RepeatedEnrollment(similarity=similarity, speech_s=30.0, snr_db=25.0)
            add_repeated_enrollment(connection, domain_id, shipped_encoder_id(), made, testbed.clock())
    run(testbed, domain_id)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("80"))
    assert line.count("25.0%") == 2


def test_it_needs_to_know_what_to_calibrate_on(testbed):
    with pytest.raises(SetupError, match="name what to calibrate on"):
        run(testbed, None)
    with pytest.raises(SetupError, match="no active domain"):
        run(testbed, "A" * 22)


def test_an_empty_domain_is_refused(testbed, domain_id):
    with pytest.raises(SetupError, match="no enrolled speakers"):
        run(testbed, domain_id)


def test_only_the_newest_comparisons_of_each_domain_and_model_are_kept(testbed, domain_id):
    other = testbed.new_domain()
    with testbed.store.database.write() as connection:
        for number in range(5):
            for place, model in ((domain_id, "one"), (domain_id, "two"), (other, "one")):
                made = RepeatedEnrollment(similarity=number / 10, speech_s=10, snr_db=30)
                add_repeated_enrollment(connection, place, model, made, testbed.clock())
        add_repeated_enrollment(connection, other, "one", made, testbed.clock())
        assert delete_old_repeated_enrollments(connection, 3) == 2 + 2 + 3
        kept = list_repeated_enrollments(connection, domain_id, "two", 10)
        assert sorted(one.similarity for one in kept) == [0.2, 0.3, 0.4]
        assert len(list_repeated_enrollments(connection, other, "one", 10)) == 3
        assert delete_old_repeated_enrollments(connection, 3) == 0


@pytest.fixture
def brought(testbed) -> str:
    """A model with a calibration."""
    files = ModelFiles(testbed.settings.data)
    manifest = ModelManifest(
        model_id="made-00000000", kind="wespeaker", rate_hz=16000, mels=80, output="embs", dimensions=64,
        sha256="0" * 64, size_bytes=1, licence="CC0", source="made", added_at="2026-01-01T00:00:00Z",
        ms_a_second=1.0, shipped_ms_a_second=1.0,
    )  # fmt: skip
    files.add(manifest, b"0", calibration_text(manifest.model_id))
    return manifest.model_id


def test_the_calibration_under_a_domains_own_is_not_replaced(testbed, domain_id, brought, tmp_path):
    own = OwnCalibration(
        model_id=brought, shift=1.0, scale=1.0, supported_log10_far=-2.0, evidence={},
        created_at=testbed.clock(),
    )  # fmt: skip
    with testbed.store.database.write() as connection:
        add(connection, domain_id, own)
    with pytest.raises(SetupError, match=f"sonant calibrate --domain {domain_id} --undo"):
        calibrate_model(CliContext(), testbed.settings, brought, tmp_path, apply=True)


def test_recordings_of_a_folder_are_embedded_with_the_domains_own_model(
    testbed, domain_id, brought, tmp_path
):
    for number in range(20):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "call.wav").write_bytes(b"")
    with testbed.store.database.write() as connection:
        domain = domains.find_by_id(connection, domain_id)
        assert domain is not None
        domains.set_model(connection, domain, brought)
    # Its network is damaged, which is found out when it is opened.
    with pytest.raises(SetupError, match=f"{brought}/model.onnx has sha256"):
        run(testbed, domain_id, speech=tmp_path)
