"""The access keys of a new installation: an application's with few rights, and the administrator's."""

from __future__ import annotations

import configparser

import pytest
from sqlite_template import put_tables

from sonant.assembly import installation, service
from sonant.assembly.installation.bootstrap import APPLICATION_ACTIONS
from sonant.carriers.authorizer import STREAM_AUDIO
from sonant.cli.credentials import chosen_profile, read_credentials
from sonant.gateway.models import load_models
from sonant.iam import parse
from sonant.iam.evaluation import PolicyEvaluator
from sonant.settings import Settings

DOMAIN = "arn:aws:voiceid:us-east-1:000000000000:domain/AbCdEfGhIjKlMnOpQrStUv"
EVERYTHING = {f"{one.service}:{one.name}" for one in load_models().operations.values()} | {
    "sonant:StreamAudio",
    "sonant:ReadExactScores",
}


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A new installation."""
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    settings = Settings(data=tmp_path / "data")
    put_tables(settings.data / "sonant.db")
    made = installation.open_store(settings, create=True)
    yield made
    made.database.close()


def keys_of(path):
    parser = configparser.ConfigParser()
    parser.read(path)
    return {name: parser[name]["aws_access_key_id"] for name in parser.sections()}


@pytest.fixture
def application():
    """What the application's user may do."""
    return PolicyEvaluator([parse(installation.application_policy(Settings()))])


def test_application_may_do_what_voice_id_did_and_hold_calls(application):
    allowed = {action for action in EVERYTHING if application.allows(action, DOMAIN, {})}
    assert allowed == {one for one in EVERYTHING if one.startswith("voiceid:")} | set(APPLICATION_ACTIONS)
    assert STREAM_AUDIO.name == "StreamAudio"


@pytest.mark.parametrize(
    "action",
    [
        *("sonant:ReadExactScores", "sonant:ExportSpeaker", "sonant:ListVoiceDuplicates"),
        *("sonant:UnlockSpeaker", "sonant:ImportOptOuts", "sonant:RestoreDomain"),
        *("sonant:PutConsent", "sonant:WithdrawConsent", "sonant:PutPrivacyRules"),
        *("s3:GetObject", "kms:DisableKey", "iam:CreateUser"),
    ],
)
def test_application_may_give_no_voice_away_and_change_no_keys_or_rights(application, action):
    assert not application.allows(action, "*", {})


def test_application_may_pass_roles_of_its_account_only(application):
    assert application.allows("iam:PassRole", f"arn:aws:iam::{Settings().account}:role/jobs", {})
    assert not application.allows("iam:PassRole", "arn:aws:iam::999999999999:role/jobs", {})


def test_decisions_of_the_applications_policy_are_cached(application):
    assert application.unconditional


def test_first_key_that_aws_tools_find_is_the_applications(store):
    made = installation.first_start(store)
    assert made is not None
    first, administrator = (
        installation.credentials_file(store.settings),
        installation.administrator_file(store.settings),
    )
    assert keys_of(first) == {"default": made.application}
    assert keys_of(administrator) == {"administrator": made.administrator}
    assert {path.stat().st_mode & 0o777 for path in (first, administrator)} == {0o600}
    find = service.credential_finder(store)
    found = find(made.application)
    assert found is not None
    assert found.principal.arn == installation.application_arn(store.settings)
    assert not found.principal.evaluator.allows("sonant:ExportSpeaker", DOMAIN)


def test_commands_on_the_data_folder_sign_as_the_administrator(store, monkeypatch):
    made = installation.first_start(store)
    assert made is not None
    assert read_credentials(store.settings)[0] == made.administrator
    monkeypatch.setenv("AWS_PROFILE", "default")
    assert read_credentials(store.settings)[0] == made.application
    monkeypatch.setenv("AWS_PROFILE", "of-my-own-for-aws")
    assert chosen_profile(store.settings).name == "administrator"


def test_installation_of_an_earlier_release_keeps_its_key(store, tmp_path):
    file = installation.credentials_file(store.settings)
    file.write_text("[default]\naws_access_key_id = AKIDOLD\naws_secret_access_key = secret\n")
    assert read_credentials(store.settings) == ("AKIDOLD", "secret")
    assert chosen_profile(store.settings).file == file
