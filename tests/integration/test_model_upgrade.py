"""A domain's change from one voice model to another: kept audio, shadows, switch, way back, end."""

from __future__ import annotations

import hashlib
import re
from functools import partial

import numpy as np
import pytest
from batch_testbed import Testbed
from batch_values import entry
from click.testing import CliRunner
from made_networks import calibration_text, speaker_network
from made_samples import made_sample
from sqlalchemy import func, select, update
from voice_models import voice_models

from sonant.assembly import jobs as app_jobs
from sonant.assembly.installation import DEFAULT_ALIAS, role_arn
from sonant.cli import main
from sonant.cli.model import new_manifest
from sonant.cli.model_check import Findings
from sonant.errors import SetupError, Validation
from sonant.ids import new_generated_id
from sonant.jobs import model_upgrade as change
from sonant.jobs.model_registry import model_calibration, open_model
from sonant.settings import Enrollment, Jobs, Quotas, Settings
from sonant.storage.crypto.vault import open_vault
from sonant.storage.database import schema
from sonant.storage.database.schema import jobs as job_rows
from sonant.storage.model_files import ModelFiles
from sonant.storage.repositories import (
    domains,
    fraud_voices,
    jobs,
    model_upgrades,
    shadow_voiceprints,
    speakers,
    templates,
)
from sonant.voice.audio.flac import decode_flac, encode_flac
from sonant.voice.audio.test_signal import voice_like_signal
from sonant.voice.calibration.model import Normal, Tail
from sonant.voice.models import shipped_encoder_id
from sonant.voice.models.embedding import embed
from sonant.voice.models.packaged import packaged_encoder_ids

NETWORK = speaker_network()
PEOPLE = ("anna", "bert", "cleo", "dora")


def add_model(testbed: Testbed, content: bytes = NETWORK, *, calibrated: bool = True) -> str:
    """Without the trial in another process, which has tests of its own."""
    findings = Findings(
        rate_hz=16000, mels=80, output="embs", dimensions=64, ms_a_second=1.0, shipped_ms_a_second=1.0,
        level_similarity=1.0, other_similarity=0.5,
    )  # fmt: skip
    digest = hashlib.sha256(content).hexdigest()
    manifest = new_manifest(findings, "wespeaker", "made.onnx", digest, len(content), "made", None)
    text = calibration_text(manifest.model_id) if calibrated else None
    ModelFiles(testbed.settings.data).add(manifest, content, text)
    return manifest.model_id


@pytest.fixture(scope="module")
def testbed(tmp_path_factory):
    settings = Settings(
        data=tmp_path_factory.mktemp("upgrade") / "data",
        encoder="ge2e",
        enrollment=Enrollment(net_speech_s=6.0),
        jobs=Jobs(workers=1),
        quotas=Quotas(domains_per_account=1000),
    )
    opened = Testbed.open(settings)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def model_id(testbed):
    return add_model(testbed)


class Domain:
    """A domain with people, and the change of its model."""

    def __init__(self, testbed: Testbed) -> None:
        self.testbed = testbed
        self.domain_id = testbed.new_domain()
        files = ModelFiles(testbed.settings.data)
        self.calibrations = partial(model_calibration, files)
        self.upgrades = app_jobs.upgrades(testbed.store, testbed.engine, "tester")

    def vault(self, connection):
        domain = self.kept(connection)
        keys = self.testbed.store.accounts.keys(domain.account_id)
        return open_vault(keys, domain.domain_id, domain.arn, domain.data_key_wrapped)

    def kept(self, connection):
        domain = domains.find_by_id(connection, self.domain_id)
        assert domain is not None
        return domain

    def enroll(self, name: str, *, audio: bool = True) -> str:
        voice = voice_like_signal(8000, 6.0, pitch_hz=90 + 25 * (1 + list("abcdefgh").index(name[0])))
        found = embed(voice, voice_models())
        sample = made_sample(found.vector, model_id=found.model_id, net_speech_s=6.0)
        stored_audio = encode_flac(voice) if audio else None
        now = self.testbed.store.clock()
        with self.testbed.store.database.write() as connection:
            vault = self.vault(connection)
            known = speakers.find(connection, vault, self.domain_id, name)
            speaker_id = new_generated_id() if known is None else known.speaker_id
            seal = (
                speakers.add(
                    connection, vault, domain_id=self.domain_id, speaker_id=speaker_id, customer_id=name,
                    status="PENDING", now=now,
                )
                if known is None
                else known.seal(vault)
            )  # fmt: skip
            speakers.enroll(connection, seal, speaker_id, sample, now, audio=stored_audio)
        return speaker_id

    def register(self, *, audio: bool = True) -> str:
        voice = voice_like_signal(8000, 6.0, pitch_hz=300)
        found = embed(voice, voice_models())
        fraudster_id = new_generated_id()
        with self.testbed.store.database.write() as connection:
            domain = self.kept(connection)
            fraud_voices.register(
                connection,
                self.vault(connection),
                domain_id=self.domain_id,
                fraudster_id=fraudster_id,
                watchlist_id=domain.default_watchlist_id,
                sample=made_sample(found.vector, model_id=found.model_id, net_speech_s=6.0),
                audio=encode_flac(voice) if audio else None,
                now=self.testbed.store.clock(),
            )
        return fraudster_id

    def do(self, step, *arguments):
        with self.testbed.store.database.write() as connection:
            return step(connection, domains.find_by_id(connection, self.domain_id), *arguments)

    def begin(self, model_id):
        self.do(change.begin, model_id, self.calibrations, self.testbed.store.clock())

    def make(self, most: int = 50) -> None:
        while most and self.upgrades.run_batch():
            most -= 1

    def switch(self):
        self.do(change.switch, self.testbed.store.clock())

    def roll_back(self):
        self.do(change.roll_back, self.testbed.store.clock())

    def finish(self):
        self.do(change.finish)

    @property
    def state(self):
        with self.testbed.store.database.read() as connection:
            return model_upgrades.find(connection, self.domain_id)

    def counts(self, model_id, who="speaker"):
        with self.testbed.store.database.read() as connection:
            found = shadow_voiceprints.counts(connection, self.domain_id, model_id, who)
        return found.pending, found.made, found.impossible

    def makers(self) -> dict[str, str]:
        """The maker of each speaker's voiceprint, opened."""
        with self.testbed.store.database.read() as connection:
            vault = self.vault(connection)
            people = [(name, speakers.find(connection, vault, self.domain_id, name)) for name in PEOPLE]
            samples = [
                (name, speakers.load_sample(connection, vault, person))
                for name, person in people
                if person is not None
            ]
        return {name: sample.model_id for name, sample in samples if sample is not None}


@pytest.fixture
def domain(testbed):
    return Domain(testbed)


SHIPPED = shipped_encoder_id()


def test_a_domain_is_brought_to_the_other_encoder_that_ships_and_back(domain):
    (other,) = set(packaged_encoder_ids()) - {SHIPPED}
    domain.enroll("anna")
    domain.enroll("bert")
    domain.begin(other)
    domain.make()
    assert set(domain.makers().values()) == {SHIPPED}, "nothing has changed before the switch"

    domain.switch()
    assert set(domain.makers().values()) == {other}

    domain.roll_back()
    assert set(domain.makers().values()) == {SHIPPED}
    domain.switch()
    domain.finish()


def test_a_domain_is_brought_to_another_model_and_back_and_to_its_end(domain, model_id):
    for name in PEOPLE:
        domain.enroll(name)
    fraudster = domain.register()
    domain.begin(model_id)
    domain.make()

    assert domain.state.status == "READY"
    assert domain.state.report["speakers"] == 4
    assert -1 <= domain.state.report["rank_correlation"] <= 1
    assert domain.counts(model_id) == (0, 4, 0)
    assert set(domain.makers().values()) == {SHIPPED}, "nothing has changed before the switch"

    domain.switch()
    assert set(domain.makers().values()) == {model_id}
    with domain.testbed.store.database.read() as connection:
        assert domain.kept(connection).model_id == model_id
        vault = domain.vault(connection)
        spaces = templates.open_spaces(connection, vault.templates)
        ((_, voice),) = fraud_voices.load(connection, vault, spaces, [fraudster])
        assert voice.model_id == model_id

    domain.roll_back()
    assert set(domain.makers().values()) == {SHIPPED}
    domain.switch()
    domain.finish()
    assert domain.state is None
    assert set(domain.makers().values()) == {model_id}
    with domain.testbed.store.database.read() as connection:
        for table in (schema.shadow_voiceprints, schema.fraudster_shadow_voiceprints):
            assert connection.execute(select(func.count()).select_from(table)).scalar_one() == 0


def test_the_new_voiceprint_is_what_the_new_model_makes_of_the_kept_speech(domain, model_id):
    speaker_id = domain.enroll("anna")
    domain.begin(model_id)
    domain.make()
    domain.switch()
    with domain.testbed.store.database.read() as connection:
        vault = domain.vault(connection)
        speaker = speakers.find(connection, vault, domain.domain_id, speaker_id)
        assert speaker is not None
        kept = speakers.load_voiceprint(connection, vault, speaker)
        spaces = templates.open_spaces(connection, vault.templates)
    assert kept is not None
    assert kept.audio is not None
    wanted = open_model(ModelFiles(domain.testbed.settings.data), model_id).embed(decode_flac(kept.audio))
    assert np.allclose(spaces.original(kept.sample).vector, wanted.vector, atol=1e-6)


def test_people_without_kept_audio_are_named_and_keep_their_old_voiceprint(domain, model_id):
    domain.enroll("anna")
    without = domain.enroll("bert", audio=False)
    domain.begin(model_id)
    domain.make()
    assert domain.counts(model_id) == (0, 1, 1)
    with domain.testbed.store.database.read() as connection:
        assert shadow_voiceprints.impossible(connection, domain.domain_id, "speaker") == [
            (without, change.NO_AUDIO)
        ]
    domain.switch()
    assert domain.makers() == {"anna": model_id, "bert": SHIPPED}
    with domain.testbed.store.database.read() as connection:
        assert shadow_voiceprints.list_other_model(connection, domain.domain_id, model_id, "speaker") == [
            without
        ]


def test_speakers_enrolled_meanwhile_are_embedded_before_the_switch(domain, model_id):
    domain.enroll("anna")
    domain.begin(model_id)
    domain.make()
    domain.enroll("bert")
    domain.enroll("anna")  # anew: the shadow of the old voice has gone
    assert domain.counts(model_id) == (2, 0, 0)
    with pytest.raises(Validation, match="2 voiceprints were made since"):
        domain.switch()
    domain.begin(model_id)
    domain.make()
    domain.switch()
    assert domain.makers() == {"anna": model_id, "bert": model_id}


def test_a_speaker_who_is_deleted_or_opts_out_leaves_no_shadow(domain, model_id):
    domain.enroll("anna")
    domain.enroll("bert")
    domain.begin(model_id)
    domain.make()
    domain.testbed.call("DeleteSpeaker", DomainId=domain.domain_id, SpeakerId="anna")
    domain.testbed.call("OptOutSpeaker", DomainId=domain.domain_id, SpeakerId="bert")
    assert domain.counts(model_id) == (0, 0, 0)


def test_a_change_that_was_begun_goes_on_where_it_was_left(domain, model_id, monkeypatch):
    monkeypatch.setattr(change, "BATCH", 1)
    for name in PEOPLE:
        domain.enroll(name)
    domain.begin(model_id)
    domain.make(most=2)
    assert domain.counts(model_id) == (2, 2, 0)
    later = Domain.__new__(Domain)
    later.__dict__ = domain.__dict__ | {
        "upgrades": app_jobs.upgrades(domain.testbed.store, domain.testbed.engine, "other")
    }
    later.make()
    assert later.state.status == "READY"


def test_a_switch_waits_for_the_domains_jobs(domain, model_id):
    domain.enroll("anna")
    domain.begin(model_id)
    domain.make()
    with domain.testbed.store.database.write() as connection:
        jobs.insert_job(
            connection, job_id="j" * 22, kind=jobs.ENROLLMENT, domain_id=domain.domain_id, name_sealed=None,
            role_arn="r", input_uri="s3://a/b", output_uri="s3://a/c", output_kms_key=None, config={},
            now=domain.testbed.store.clock(),
        )  # fmt: skip
    with pytest.raises(Validation, match="jobs under way"):
        domain.switch()
    with domain.testbed.store.database.write() as connection:
        connection.execute(update(job_rows).values(status="FAILED"))
    domain.switch()


def test_a_model_without_calibration_is_refused_with_what_mends_it(domain, testbed):
    bare = add_model(testbed, speaker_network(seed=8), calibrated=False)
    domain.enroll("anna")
    with pytest.raises(SetupError, match=f"sonant model calibration {bare}"):
        domain.begin(bare)
    with pytest.raises(SetupError, match="sonant model calibration"):
        domain.do(change.use, bare, domain.calibrations)
    with pytest.raises(SetupError, match="no voice model"):
        ModelFiles(testbed.settings.data).get("never-added")


def test_model_of_a_domain_with_voices_is_changed_only_by_an_upgrade(domain, model_id):
    domain.do(change.use, model_id, domain.calibrations)
    with domain.testbed.store.database.read() as connection:
        assert domain.kept(connection).model_id == model_id
    domain.enroll("anna")
    with pytest.raises(Validation, match="sonant model upgrade"):
        domain.do(change.use, None, domain.calibrations)


def test_steps_out_of_turn_are_refused(domain, model_id):
    for step in (domain.switch, domain.roll_back, domain.finish):
        with pytest.raises(Validation, match="no change"):
            step()
    domain.enroll("anna")
    domain.begin(model_id)
    with pytest.raises(Validation, match="not ready: it is RUNNING"):
        domain.switch()
    with pytest.raises(Validation, match="another change"):
        domain.begin(None)
    domain.do(change.cancel)
    assert domain.state is None


def test_a_disabled_key_stops_the_change_until_it_is_enabled(domain, model_id, testbed):
    domain.enroll("anna")
    domain.begin(model_id)
    key = testbed.store.keys.describe(DEFAULT_ALIAS).key_id
    testbed.store.keys.disable(key)
    try:
        domain.make()
        assert "cannot go on" in domain.state.problem
    finally:
        testbed.store.keys.enable(key)
    with testbed.store.database.write() as connection:
        model_upgrades.release(connection, domain.domain_id, "")
    domain.make()
    assert domain.state.status == "READY"


def test_missing_model_stops_the_upgrade_and_marks_no_speaker(domain, testbed):
    gone = add_model(testbed, speaker_network(seed=9))
    domain.enroll("anna")
    domain.begin(gone)
    ModelFiles(testbed.settings.data).remove(gone)
    domain.make()
    assert "no voice model" in domain.state.problem
    assert domain.counts(gone) == (1, 0, 0)
    domain.do(change.cancel)


def test_speaker_enrolled_after_the_switch_is_upgraded_by_a_second_run(domain, model_id):
    domain.enroll("anna")
    domain.begin(model_id)
    domain.make()
    domain.switch()
    domain.enroll("bert")  # by the shipped model, as after a way back
    domain.finish()
    assert domain.makers() == {"anna": model_id, "bert": SHIPPED}
    domain.begin(model_id)
    domain.make()
    domain.switch()
    domain.finish()
    assert domain.makers() == {"anna": model_id, "bert": model_id}


def test_a_model_in_use_is_known_to_be_in_use(domain, model_id):
    with domain.testbed.store.database.read() as connection:
        assert not model_upgrades.model_used(connection, "never-added")
    domain.enroll("anna")
    domain.begin(model_id)
    with domain.testbed.store.database.read() as connection:
        assert model_upgrades.model_used(connection, model_id)


def test_both_models_agree_with_themselves():
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((40, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    tail = Tail(z=Normal(mean=0.0, deviation=0.3))
    report = change.agreement(rows, rows, tail, tail)
    assert report["comparisons"] == 780
    assert report["rank_correlation"] == 1.0
    assert report["alike_old"] == report["alike_new"] == report["alike_both"]
    unlike = change.agreement(rows, rows[::-1], tail, tail)
    assert abs(unlike["rank_correlation"]) < 0.3
    assert change.agreement(rows[:2], rows[:2], tail, tail) == {"speakers": 2, "comparisons": 1}


def test_enrollment_job_uses_the_domains_model(domain, model_id, make_call):
    """Through the manifest, the worker process and the commit; the fraud check has the model's own tail."""
    domain.do(change.use, model_id, domain.calibrations)
    testbed = domain.testbed
    uri = testbed.put("s3://calls/anna.wav", make_call("english", 1, net_speech_s=12.0))
    outcome = testbed.enroll(domain.domain_id, [entry("r1", "anna", uri)])
    assert outcome.successes
    assert domain.makers() == {"anna": model_id}
    compared = testbed.call(
        "CompareRecording",
        DomainId=domain.domain_id,
        SpeakerIds=["anna"],
        DataAccessRoleArn=role_arn(testbed.settings),
        AudioSpecification={"S3Uri": uri, "ChannelId": 0},
        MinimumNetSpeech=6.0,
    )
    assert compared["Comparisons"][0]["Similarity"] > 0.99


def test_a_recording_is_not_compared_with_a_voiceprint_of_another_maker(domain, model_id, make_call):
    domain.enroll("anna")
    testbed = domain.testbed
    with testbed.store.database.write() as connection:
        domains.set_model(connection, domain.kept(connection), model_id)
    with pytest.raises(Validation, match=f"enroll the speaker again.*sonant model upgrade DOMAIN {model_id}"):
        testbed.call(
            "CompareRecording",
            DomainId=domain.domain_id,
            SpeakerIds=["anna"],
            DataAccessRoleArn=role_arn(testbed.settings),
            AudioSpecification={
                "S3Uri": testbed.put("s3://calls/x.wav", make_call("english", 1, net_speech_s=12.0)),
                "ChannelId": 0,
            },
            MinimumNetSpeech=6.0,
        )


@pytest.fixture
def stale(domain, model_id):
    """A domain of another model than that of its one speaker, as after a release with a new encoder."""
    domain.enroll("anna")
    with domain.testbed.store.database.write() as connection:
        domains.set_model(connection, domain.kept(connection), model_id)
    return domain


def test_skip_enrolls_anew_who_could_be_compared_with_nothing(stale, model_id, make_call):
    testbed = stale.testbed
    uri = testbed.put("s3://calls/again.wav", make_call("english", 1, net_speech_s=12.0))
    entries = [entry("r1", "anna", uri), entry("r2", "anna", uri)]
    outcome = testbed.enroll(stale.domain_id, entries, action="SKIP")
    assert outcome.successes == {"r1": "ENROLLMENT_OVERWRITE", "r2": "DUPLICATE_SKIPPED"}
    assert stale.makers() == {"anna": model_id}


def test_skip_with_a_recording_that_is_no_good_leaves_the_old_voiceprint(stale, make_call):
    testbed = stale.testbed
    uri = testbed.put("s3://calls/short.wav", make_call("english", 3, net_speech_s=3, duration_s=8))
    outcome = testbed.enroll(stale.domain_id, [entry("r1", "anna", uri)], action="SKIP")
    assert outcome.errors and not outcome.successes
    assert stale.makers() == {"anna": SHIPPED}


def test_the_doctor_counts_who_cannot_be_compared_and_names_the_cure(stale, model_id):
    command = ["doctor", "--data", str(stale.testbed.settings.data)]
    cure = f"sonant model upgrade {stale.domain_id} {model_id}"
    before = CliRunner().invoke(main.main, command).output
    counted = re.search(
        r"FAIL  voiceprints: (\d+) speakers and (\d+) fraudsters have voiceprints of another", before
    )
    assert counted is not None, before
    assert int(counted[1]) >= 1
    assert f"`{cure}`" in before

    shown = told(stale.testbed, stale.domain_id)
    assert f"`{cure}` brings them over" in shown
    begun = told(stale.testbed, *cure.split()[3:], "--quiet")
    assert f"change from voiceprints of other models to {model_id}: READY" in begun
    assert f"from {model_id} to {model_id}" not in begun
    told(stale.testbed, stale.domain_id, "--switch")

    after = CliRunner().invoke(main.main, command).output
    assert stale.domain_id not in after
    assert stale.makers() == {"anna": model_id}


def told(testbed: Testbed, *arguments: str) -> str:
    """What `sonant model upgrade …` prints; raises what it raised."""
    command = ["model", "upgrade", *arguments, "--data", str(testbed.settings.data)]
    result = CliRunner().invoke(main.main, command, catch_exceptions=False, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.output


def test_command_embeds_the_kept_audio_and_names_each_next_step(domain, model_id):
    domain.enroll("anna")
    without = domain.enroll("bert", audio=False)
    domain_id, testbed = domain.domain_id, domain.testbed
    ready = told(testbed, domain_id, model_id)
    assert f"change from {SHIPPED} to {model_id}: READY" in ready
    assert "speakers: 1 with both, 0 to do, 1 impossible" in ready
    assert f"{without} must be enrolled again: {change.NO_AUDIO}" in ready
    assert f"next: sonant model upgrade {domain_id} --switch" in ready
    assert f"{domain_id} has the voice model {SHIPPED}" in ready

    switched = told(testbed, domain_id, "--switch")
    assert f"{domain_id} has the voice model {model_id}" in switched
    assert "1 speakers have voiceprints of another model" in switched
    assert f"has the voice model {SHIPPED}" in told(testbed, domain_id, "--rollback")
    told(testbed, domain_id, "--switch")
    assert "next" not in told(testbed, domain_id, "--finish", "--yes")
    assert domain.makers() == {"anna": model_id, "bert": SHIPPED}


def test_the_command_refuses_two_wishes_at_once_and_an_unknown_domain(domain, model_id):
    with pytest.raises(SetupError, match="leave the model out"):
        told(domain.testbed, domain.domain_id, model_id, "--switch")
    with pytest.raises(SetupError, match="no active domain"):
        told(domain.testbed, "x" * 22)
