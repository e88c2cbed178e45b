"""`sonant access import-role`: the role that an existing integration names, and what its account needs."""

from __future__ import annotations

import configparser
import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from sqlite_template import put_tables

from sonant.assembly import installation, service
from sonant.cli.checks.database import check_regions
from sonant.cli.main import main
from sonant.cli.role_import import make_role
from sonant.errors import SetupError
from sonant.settings import S3, Settings
from sonant.storage.crypto.vault import create_vault
from sonant.storage.repositories import access, domains

OURS, THEIRS = "000000000000", "123456789012"
ROLE = f"arn:aws:iam::{THEIRS}:role/service-role/VoiceIdJobs"


@pytest.fixture
def store(tmp_path):
    put_tables(tmp_path / "data" / "sonant.db")
    made = installation.open_store(Settings(data=tmp_path / "data"), create=True)
    installation.first_start(made)
    yield made
    made.database.close()


@pytest.fixture
def sonant(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        outcome = CliRunner().invoke(main, [*arguments, "--data", str(store.settings.data)])
        if isinstance(outcome.exception, Exception):
            raise outcome.exception
        assert outcome.exit_code == 0, outcome.output
        return outcome.output

    return run


def policies(store, arn):
    with store.database.read() as connection:
        return access.policy_texts(connection, arn)


def principals(store):
    with store.database.read() as connection:
        return set(access.list_principals(connection)), len(access.list_access_keys(connection))


def resources(store, arn):
    (policy,) = policies(store, arn)
    return json.loads(policy)["Statement"][0]["Resource"]


def test_role_of_the_first_account_gets_only_the_rights_that_jobs_need(sonant, store):
    before = principals(store)
    arn = f"arn:aws:iam::{OURS}:role/jobs"
    assert sonant("access", "import-role", arn).startswith(f"{arn} made: jobs under it may use all buckets")
    assert policies(store, arn) == (installation.ROLE_POLICY,)
    assert principals(store) == (before[0] | {arn}, before[1])


def test_role_of_another_account_adds_the_account_with_user_and_key(sonant, store):
    told = sonant("access", "import-role", ROLE, "--bucket", "calls")
    credentials = configparser.ConfigParser()
    credentials.read(store.settings.data / "credentials")
    found = service.credential_finder(store)(credentials[THEIRS]["aws_access_key_id"])
    assert found is not None
    assert found.principal.arn == f"arn:aws:iam::{THEIRS}:user/sonant"
    assert found.secret == credentials[THEIRS]["aws_secret_access_key"]
    assert found.secret not in told
    assert credentials["default"]["aws_access_key_id"] != credentials[THEIRS]["aws_access_key_id"]
    assert store.accounts.keys(THEIRS).describe("alias/sonant").state == "Enabled"
    assert (store.settings.data / "accounts" / THEIRS / "buckets" / "calls").is_dir()


def test_importing_again_changes_nothing(sonant, store):
    first = sonant("access", "import-role", ROLE, "--bucket", "results", "--bucket", "calls")
    before = principals(store), (store.settings.data / "credentials").read_text()
    again = sonant("access", "import-role", ROLE, "--bucket", "calls", "--bucket", "results")
    assert (principals(store), (store.settings.data / "credentials").read_text()) == before
    assert len(store.accounts.keys(THEIRS).list()) == 1
    assert "is there already" in again
    assert "is there already" not in first


def test_only_named_buckets_are_allowed(sonant, store):
    sonant("access", "import-role", ROLE, "--bucket", "results", "--bucket", "calls")
    assert resources(store, ROLE) == ["arn:aws:s3:::calls/*", "arn:aws:s3:::results/*"]


def test_other_policies_of_a_role_are_replaced_only_when_asked(sonant, store):
    sonant("access", "role", "put", ROLE)  # without policies there is nothing to lose
    sonant("access", "import-role", ROLE, "--bucket", "calls")
    with pytest.raises(SetupError, match=f"sonant access role policies {ROLE}.*--replace"):
        sonant("access", "import-role", ROLE)
    assert resources(store, ROLE) == ["arn:aws:s3:::calls/*"]
    assert "given new policies" in sonant("access", "import-role", ROLE, "--replace")
    assert resources(store, ROLE) == "arn:aws:s3:::*"


def test_a_user_of_the_account_is_not_joined_by_another(sonant, store):
    sonant("access", "user", "put", "anna", "--account", THEIRS)
    told = sonant("access", "import-role", ROLE)
    assert f"callers of account {THEIRS}: arn:aws:iam::{THEIRS}:user/anna\n" in told
    assert f"arn:aws:iam::{THEIRS}:user/sonant" not in principals(store)[0]


@pytest.mark.parametrize(
    ("arn", "words"),
    [
        ("VoiceIdJobs", "is not the ARN of a role"),
        (f"arn:aws:iam::{THEIRS}:user/anna", "is not the ARN of a role"),
        ("arn:aws:iam::1234:role/jobs", "is not the ARN of a role"),
        ("arn:aws:iam::<account>:role/jobs", "is not the ARN of a role"),
        (f"arn:aws:iam::{THEIRS}:role/a b", "is not the ARN of a role"),
        (f"arn:aws:iam::{THEIRS}:role/", "is not the ARN of a role"),
        (f"arn:aws:sts::{THEIRS}:assumed-role/jobs/me", "give the role's own ARN"),
    ],
)
def test_what_is_no_role_is_refused_and_makes_nothing(sonant, store, arn, words):
    before = principals(store)
    with pytest.raises(SetupError, match=words):
        sonant("access", "import-role", arn)
    assert principals(store) == before


def test_what_is_no_bucket_is_refused_before_anything_is_made(sonant, store):
    before = principals(store)
    with pytest.raises(SetupError, match="--bucket takes the name of a bucket"):
        sonant("access", "import-role", ROLE, "--bucket", "s3://calls")
    assert principals(store) == before


def test_command_with_another_first_account_than_the_service_is_refused(sonant, store, monkeypatch):
    monkeypatch.setenv("SONANT_ACCOUNT", THEIRS)
    with pytest.raises(SetupError, match="give this command the settings of the service"):
        sonant("access", "import-role", ROLE)
    assert policies(store, ROLE) is None
    assert not (store.settings.data / "accounts").exists()


def test_the_doctor_finds_domains_in_regions_that_are_not_served(store):
    moved = replace(store.settings, region="eu-west-2")
    vault, wrapped = create_vault(store.keys, "alias/sonant", "d" * 22, "arn")
    with store.database.write() as connection:
        domains.create(
            connection,
            vault,
            domain_id="d" * 22,
            account_id=OURS,
            region="us-east-1",
            name="calls",
            description=None,
            tags={},
            kms_key_arn=store.keys.describe("alias/sonant").arn,
            data_key_wrapped=wrapped,
            watchlist_id="w" * 22,
            now=store.clock(),
        )
    assert check_regions(store.settings) == "us-east-1"
    with pytest.raises(SetupError, match="1 domains are in us-east-1, where no call reaches them"):
        check_regions(moved)
    assert check_regions(replace(moved, regions="us-east-1")) == "eu-west-2, us-east-1"


def test_roles_that_sts_gives_out_are_not_imported(store):
    settings = replace(store.settings, objects="s3", s3=S3(assume_role=True))
    with pytest.raises(SetupError, match="trust policy must let the principal that Sonant runs as"):
        make_role(settings, ROLE, [], replace=False)


def test_the_alias_that_programs_ask_for_can_be_given_to_a_key(sonant, store):
    sonant("key", "alias", "alias/aws/voiceid", "alias/sonant")
    keys = store.accounts.keys(OURS)
    assert keys.describe("alias/aws/voiceid").key_id == keys.describe("alias/sonant").key_id
