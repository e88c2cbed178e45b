"""Cancellable templates: what is stored of a voice is protected, renewable, and unrelated in two domains."""

from __future__ import annotations

import base64
import json
from importlib import import_module

import numpy as np
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from click.testing import CliRunner
from limited_callers import OWNER, call_as, compare
from sessions_testbed import written
from sqlalchemy import LargeBinary, select, text
from template_testbed import (
    dry_run,
    everything_stored,
    fill,
    is_open,
    renewer,
    rows_before,
    stored_vector,
    unprotected_domain,
    versions,
)
from voices_testbed import enroll, like, strangers

from sonant.assembly import jobs as app_jobs
from sonant.cli.checks.database import check_integrity
from sonant.cli.main import main
from sonant.errors import DomainNotActive, IntegrityFault, SetupError
from sonant.jobs.report import make_report
from sonant.jobs.report_line import FORMER_VOICE, PROTECTED_VOICE
from sonant.jobs.types import dry_run as dry_runs
from sonant.retention import housekeeping
from sonant.storage import template_renewal
from sonant.storage.database.schema import job_entries, metadata, voiceprints
from sonant.storage.repositories import session_samples, sessions, shadow_voiceprints, templates
from sonant.storage.repositories.template_rows import EMBEDDINGS
from sonant.voice.models import load_models

VOICES = strangers(3, seed=11)
ANNA, BERT, CLEO = VOICES
PROBE = like(ANNA, 0.7)
EXACT = 1e-4
"""What the scores of renewed templates may differ by."""

#: Migrations of after the release whose vectors were not transformed, newest first.
LATER = (
    "0025_speaker_consents",
    "0024_decisions",
    "0023_turns_of_jobs",
    "0022_later_looks",
    "0021_fraudster_probes",
    "0020_template_spaces",
)


@pytest.fixture
def domain_id(testbed):
    made = testbed.new_domain()
    fill(testbed, made, VOICES)
    return made


@pytest.fixture
def former(testbed, monkeypatch):
    """A domain of a release without template spaces."""
    made = unprotected_domain(testbed, monkeypatch)
    fill(testbed, made, VOICES)
    return made


def similarities(testbed, domain_id, probe=PROBE):
    """The exact similarities of a recording's voice to both speakers."""
    found = compare(testbed, OWNER, domain_id, probe, "caller-0", "caller-1")
    return [one["Similarity"] for one in found]


def evaluated(testbed, domain_id, name="call"):
    """The exact score of a call, made anew, and its risk of a known fraudster."""
    with written(testbed, domain_id) as (connection, _domain, _vault):
        connection.execute(text("DELETE FROM session_results"))
    told = call_as(testbed, OWNER, "EvaluateSession", DomainId=domain_id, SessionNameOrId=name)
    risks = told["FraudDetectionResult"]["RiskDetails"]["KnownFraudsterRisk"]
    return told["AuthenticationResult"]["Score"], risks["RiskScore"], risks["GeneratedFraudsterId"]


def exported(testbed, domain_id, speaker="caller-0"):
    answer = testbed.call("ExportSpeaker", DomainId=domain_id, SpeakerId=speaker)
    return np.frombuffer(answer["Voiceprint"]["Vector"], "<f4")


def answers(testbed, domain_id):
    """All that a caller can learn about the voices of a domain."""
    return similarities(testbed, domain_id), evaluated(testbed, domain_id), exported(testbed, domain_id)


def same(one, other):
    assert one[0] == pytest.approx(other[0], abs=EXACT)
    assert one[1] == other[1]
    assert np.abs(one[2] - other[2]).max() < 1e-5


# --- what is stored


def test_stored_voices_are_not_the_models_embeddings(testbed, domain_id):
    stored = stored_vector(testbed, domain_id, "caller-0")
    assert abs(stored @ ANNA) < 0.4
    assert np.linalg.norm(stored) == pytest.approx(1.0, abs=1e-5)
    assert exported(testbed, domain_id) @ ANNA == pytest.approx(1.0, abs=1e-5)


def test_scores_are_those_of_unprotected_templates(testbed, domain_id):
    expected = [float(PROBE @ ANNA), float(PROBE @ BERT)]
    assert similarities(testbed, domain_id) == pytest.approx(expected, abs=EXACT)
    score, risk, fraudster = evaluated(testbed, domain_id)
    assert score == 100
    assert risk == 100
    assert fraudster is not None


def test_templates_of_one_voice_in_two_domains_are_unlinkable(testbed, domain_id):
    other = testbed.new_domain()
    enroll(testbed, other, [ANNA])
    one, two = (stored_vector(testbed, domain, "caller-0") for domain in (domain_id, other))
    assert abs(one @ two) < 5 / np.sqrt(len(ANNA))


def test_no_flow_stores_an_embedding_that_is_open(testbed, monkeypatch):
    """Enrollment, calls, fraudsters, shadows, dry runs, comparisons and renewals: nothing that is encrypted,
    and no parameter of a statement, holds an embedding as the voice model made it."""
    domain_id = testbed.new_domain()
    with everything_stored(testbed, monkeypatch) as stored:
        fill(testbed, domain_id, VOICES)
        dry_run(testbed, domain_id, ANNA)
        similarities(testbed, domain_id, ANNA)
        evaluated(testbed, domain_id)
        renewer(testbed).renew(domain_id)
    assert len(stored) > 100
    model = load_models().encoder_id
    assert any(model.encode() in one for one in stored), "parameters are seen"
    protected = stored_vector(testbed, domain_id, "caller-0")
    assert any(is_open(one, protected) for one in stored), "a vector is recognized"
    assert not [one[:40] for one in stored if is_open(one, ANNA) or is_open(one, ANNA[:64])]


#: Columns of bytes that hold no embedding, with the reason.
NO_EMBEDDING = {
    "wrapped": "a data key",
    "sealed": "a fingerprint of a recording, or a key",
    "audio_sealed": "speech",
    "exact_sealed": "scores",
    "fingerprint_sealed": "a fingerprint of a recording",
    "customer_id_hash": "a keyed hash",
    "customer_id_sealed": "an id",
    "name_sealed": "a name",
    "description_sealed": "a text",
    "tags_sealed": "texts",
    "data_key_wrapped": "a data key",
    "secret_sealed": "a secret",
    "token_sealed": "a token",
    "request_sealed": "a request of a manifest",
    "outcome_sealed": "a line of a result; of a dry run with a voice in the space of the job",
    "speaker_hash": "a keyed hash",
    "probe": "a keyed hash",
    "mark": "a hash",
    "mac": "a MAC",
    "row_mac": "a MAC",
}


def test_every_column_that_could_hold_an_embedding_is_declared():
    """A new column of bytes belongs to `EMBEDDINGS`, or here with the reason why it holds no embedding."""
    listed = {
        (place.table.name, name)
        for place in EMBEDDINGS
        for name in ("vector_sealed", "other_vector_sealed", *(["parts_sealed"] if place.has_parts else []))
        if name in place.table.c
    }
    found = {
        (table.name, column.name)
        for table in metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, LargeBinary)
    }
    assert {name for _, name in found - listed} == set(NO_EMBEDDING)
    assert listed <= found
    assert {place.table.name for place in EMBEDDINGS} == {
        table.name for table in metadata.sorted_tables if "model_id" in table.c and "vector_sealed" in table.c
    }
    assert all("template_version" in place.table.c for place in EMBEDDINGS)


# --- renewal


def test_renewal_moves_every_row_and_changes_no_answer(testbed, domain_id):
    before, stored = answers(testbed, domain_id), stored_vector(testbed, domain_id, "caller-0")
    done = renewer(testbed).renew(domain_id)
    assert (done.old_version, done.new_version, done.finished, done.damaged) == (1, 2, True, 0)
    assert done.moved == 2 + 1 + 2 + 1 + 2  # voiceprints, fraudster, shadows of both, samples of the call
    assert versions(testbed, domain_id) == (2, 2, [2])
    same(answers(testbed, domain_id), before)
    assert abs(stored @ stored_vector(testbed, domain_id, "caller-0")) < 0.4


def test_parts_of_calls_and_shadows_are_moved_with_their_rows(testbed, domain_id):
    def shadows():
        with written(testbed, domain_id) as (connection, _domain, vault):
            return shadow_voiceprints.pairs(connection, vault, domain_id, 10)

    def parts():
        with written(testbed, domain_id) as (connection, _domain, vault):
            session = sessions.find(connection, domain_id, "call", testbed.clock())
            assert session is not None
            found = session_samples.load_samples(connection, session.seal(vault), session)["AUTHENTICATION"]
            return [found.sample.similarity(part) for part in found.parts]

    before = shadows(), parts()
    renewer(testbed).renew(domain_id)
    after = shadows(), parts()
    for (old, old_shadow), (new, new_shadow) in zip(before[0], after[0], strict=True):
        assert len(old_shadow) == len(new_shadow) == 64
        assert abs(old @ new) < 0.4
        assert abs(old_shadow @ new_shadow) < 0.7
    assert after[1] == pytest.approx(before[1], abs=1e-5)
    assert after[1] == pytest.approx([0.9, 0.8], abs=1e-3)


def test_row_of_before_a_renewal_is_useless(testbed, domain_id):
    """Put back with its MAC of that time: the key of its space was destroyed."""
    row = select(voiceprints).order_by(voiceprints.c.speaker_id).limit(1)
    with testbed.store.database.engine.connect() as connection:
        kept = dict(connection.execute(row).mappings().one())
    renewer(testbed).renew(domain_id)
    with testbed.store.database.write() as connection:
        names = ", ".join(f"{name} = :{name}" for name in kept)
        connection.execute(text(f"UPDATE voiceprints SET {names} WHERE speaker_id = :speaker_id"), kept)
    with pytest.raises(IntegrityFault, match="keys of the speaker and of the domain's templates"):
        testbed.call("ExportSpeaker", DomainId=domain_id, SpeakerId=kept["speaker_id"])


class Killed(Exception):
    """Stands for the death of the process between two transactions."""


def killed_after(transactions):
    left = [transactions]

    def pause():
        left[0] -= 1
        if left[0] <= 0:
            raise Killed

    return pause


@pytest.mark.parametrize("transactions", [1, 5, 12])
def test_renewal_that_was_killed_is_finished_by_the_next(testbed, domain_id, monkeypatch, transactions):
    monkeypatch.setattr(template_renewal, "BATCH", 1)
    before = answers(testbed, domain_id)
    with pytest.raises(Killed):
        renewer(testbed, pause=killed_after(transactions)).renew(domain_id)
    assert versions(testbed, domain_id) == (2, 1, [1, 2])
    same(answers(testbed, domain_id), before)  # readers of either version
    enroll(testbed, domain_id, [CLEO], prefix="new")  # writers write in the new one
    left = rows_before(testbed, domain_id, 2)
    done = renewer(testbed).renew(domain_id)
    assert (done.resumed, done.moved, done.new_version) == (True, left, 2)
    assert versions(testbed, domain_id) == (2, 2, [2])
    same(answers(testbed, domain_id), before)


def test_gallery_in_memory_follows_a_renewal(testbed, domain_id, monkeypatch):
    """The voices of fraudsters that a service holds are in one space, whatever the renewal has done."""
    monkeypatch.setattr(template_renewal, "BATCH", 1)
    before = evaluated(testbed, domain_id)
    for transactions in (1, 2, 4):
        with pytest.raises(Killed):
            renewer(testbed, pause=killed_after(transactions)).renew(domain_id)
        assert evaluated(testbed, domain_id) == before
    renewer(testbed).renew(domain_id)
    assert evaluated(testbed, domain_id) == before


def test_rows_that_are_stored_in_an_earlier_space_meanwhile_are_moved_too(testbed, domain_id, monkeypatch):
    """As by a transaction on PostgreSQL that had begun before the renewal and ends after the first round."""
    late: list[bool] = []

    def store_late():
        if not late:
            late.append(True)
            with monkeypatch.context() as earlier:
                opened = templates.open_spaces

                def of_before(connection, keys):
                    spaces = opened(connection, keys)
                    spaces.present = 1
                    return spaces

                earlier.setattr(templates, "open_spaces", of_before)
                enroll(testbed, domain_id, [CLEO], prefix="late")

    done = renewer(testbed, pause=store_late).renew(domain_id)
    assert done.finished
    assert rows_before(testbed, domain_id, 2) == 0
    assert exported(testbed, domain_id, "late-0") @ CLEO == pytest.approx(1.0, abs=1e-5)


def test_damaged_row_keeps_the_earlier_key_and_is_named(testbed, domain_id):
    with testbed.store.database.write() as connection:
        connection.execute(text("UPDATE fraudster_voiceprints SET net_speech_s = 1.5"))
    done = renewer(testbed).renew(domain_id)
    assert (done.finished, done.left, done.damaged) == (False, 1, 1)
    assert versions(testbed, domain_id) == (2, 1, [1, 2])
    with pytest.raises(SetupError, match="fraudster_voiceprints"):
        check_integrity(testbed.settings)


def test_suspended_domain_is_not_renewed(testbed, domain_id):
    testbed.call("DeleteDomain", DomainId=domain_id)
    with pytest.raises(DomainNotActive):
        renewer(testbed).renew(domain_id)
    assert versions(testbed, domain_id) == (1, 1, [1])


def test_domains_template_key_is_found_missing(testbed, domain_id):
    with testbed.store.database.write() as connection:
        connection.execute(text("DELETE FROM template_keys"))
    with pytest.raises(IntegrityFault, match="template_keys"):
        testbed.call("ExportSpeaker", DomainId=domain_id, SpeakerId="caller-0")
    with pytest.raises(SetupError, match="template_keys"):
        check_integrity(testbed.settings)


def test_space_of_a_domain_cannot_be_set_back(testbed, domain_id):
    """Or what is enrolled from then on would be stored unprotected."""
    with testbed.store.database.write() as connection:
        connection.execute(text("UPDATE domains SET template_version = 0, oldest_template_version = 0"))
    with pytest.raises(IntegrityFault, match="domains"):
        testbed.call("ExportSpeaker", DomainId=domain_id, SpeakerId="caller-0")


# --- the command


COMMAND = ("key", "renew-templates")


def run(testbed, *arguments):
    environment = {"SONANT_DATABASE": testbed.settings.database}
    return CliRunner(env=environment).invoke(
        main, [*COMMAND, *arguments, "--data", str(testbed.settings.data)]
    )


def records(testbed):
    """Records of renewals in the audit trail."""
    found = []
    for path in sorted((testbed.settings.data / "audit").rglob("*.jsonl")):
        found += [json.loads(line) for line in path.read_text().splitlines()]
    return [one for one in found if one["eventName"] == "RenewTemplates"]


def test_command_renews_the_named_domains(testbed, domain_id):
    other = testbed.new_domain()
    done = run(testbed, domain_id, "--output", "json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output) == {
        "Renewals": [
            {
                "DomainId": domain_id,
                "FormerVersion": 1,
                "Version": 2,
                "Resumed": False,
                "RowsMoved": 8,
                "RowsLeft": 0,
                "Finished": True,
            }
        ]
    }
    assert versions(testbed, other) == (1, 1, [1])
    details = [one["serviceEventDetails"] for one in records(testbed)]
    assert [one["status"] for one in details] == ["BEGUN", "FINISHED"]
    assert {(one["formerVersion"], one["version"]) for one in details} == {(1, 2)}
    assert all(domain_id in one["resources"][0]["ARN"] for one in records(testbed))


def test_command_renews_all_domains(testbed, domain_id):
    other = testbed.new_domain()
    assert run(testbed, "--all").exit_code == 0
    assert [versions(testbed, one)[0] for one in (domain_id, other)] == [2, 2]


def test_command_fails_while_damaged_rows_are_left(testbed, domain_id):
    with testbed.store.database.write() as connection:
        connection.execute(text("UPDATE voiceprints SET net_speech_s = 1.5"))
    done = run(testbed, domain_id)
    assert done.exit_code == 1
    assert "damaged rows are left" in done.output
    assert versions(testbed, domain_id) == (2, 1, [1, 2])


@pytest.mark.parametrize("arguments", [(), ("--all", "dddddddddddddddddddddd")])
def test_command_wants_domains_or_all(testbed, arguments):
    assert run(testbed, *arguments).exit_code == 2


def test_command_names_a_domain_that_is_not_there(testbed):
    done = run(testbed, "dddddddddddddddddddddd")
    assert isinstance(done.exception, SetupError)
    assert "there is no active domain" in str(done.exception)


# --- domains of earlier releases


def test_domain_of_an_earlier_release_is_used_as_it_is(testbed, former):
    assert versions(testbed, former) == (0, 0, [])
    assert stored_vector(testbed, former, "caller-0") @ ANNA == pytest.approx(1.0, abs=1e-5)
    assert similarities(testbed, former) == pytest.approx([PROBE @ ANNA, PROBE @ BERT], abs=EXACT)
    assert evaluated(testbed, former)[:2] == (100, 100)


def test_housekeeping_protects_domains_of_earlier_releases(testbed, former, monkeypatch):
    monkeypatch.setattr(template_renewal, "BATCH", 2)
    monkeypatch.setattr(housekeeping, "MOVED_AT_ONCE", 4)
    before = answers(testbed, former)
    keeper = app_jobs.build_housekeeper(testbed.store)
    moved = []
    while made := keeper.protect_templates():
        moved.append(made)
        same(answers(testbed, former), before)
    assert len(moved) > 1, "a little at a time"
    assert sum(moved) == 8
    assert versions(testbed, former) == (1, 1, [1])
    assert abs(stored_vector(testbed, former, "caller-0") @ ANNA) < 0.4
    assert records(testbed)[-1]["serviceEventDetails"]["status"] == "FINISHED"


def test_housekeeping_leaves_protected_domains_alone(testbed, domain_id):
    assert app_jobs.build_housekeeper(testbed.store).protect_templates() == 0
    assert versions(testbed, domain_id) == (1, 1, [1])


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # which others do not share
def test_database_of_the_release_before_opens_and_is_renewed(testbed, former, database_url):
    before = answers(testbed, former)
    later = [import_module(f"sonant.storage.database.migrations.versions.{name}") for name in LATER]
    with testbed.store.database.engine.begin() as connection:
        with Operations.context(MigrationContext.configure(connection)):
            for migration in later:
                migration.downgrade()
        connection.execute(text("UPDATE alembic_version SET version_num = '0019'"))
    testbed.restart()
    same(answers(testbed, former), before)
    renewer(testbed).renew(former)
    same(answers(testbed, former), before)


def test_dry_run_that_was_under_way_protects_what_it_has_stored(testbed, domain_id):
    """Its report compares voices of before and after the release."""
    job_id = dry_run(testbed, domain_id, ANNA)
    with written(testbed, domain_id) as (connection, _domain, vault):
        place, outcome = f"{job_id}/0", select(job_entries.c.outcome_sealed)
        line = vault.open_json("job outcome", place, connection.execute(outcome).scalar_one())
        new = line.pop(PROTECTED_VOICE)
        line[FORMER_VOICE] = base64.b64encode(ANNA.astype("<f4").tobytes()).decode()
        sealed = vault.seal_json("job outcome", place, line)
        connection.execute(job_entries.update().values(outcome_sealed=sealed))
        dry_runs.protect_lines(connection, vault, job_id)
        changed = vault.open_json("job outcome", place, connection.execute(outcome).scalar_one())
    assert FORMER_VOICE not in changed
    again = {**changed, "RequestId": "r2", "SpeakerId": "other", PROTECTED_VOICE: new}
    report = make_report(lambda: iter(enumerate([changed, again])))
    found = list(report.lines())
    assert found[0]["SameVoiceAs"]["Similarity"] == pytest.approx(1.0, abs=1e-3)
    assert not any(PROTECTED_VOICE in one for one in found)
