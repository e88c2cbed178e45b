"""`sonant access …` and `sonant key …` beside a service that runs on the same data folder."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from sqlite_template import put_tables

from sonant.assembly import installation, service
from sonant.cli.main import main
from sonant.errors import KeyNotFound, SetupError
from sonant.settings import Settings
from sonant.storage.times import now as real_now

ACCOUNT, OTHER = "0" * 12, "1" * 12


@pytest.fixture
def store(tmp_path):
    """The store as a running service has it open."""
    put_tables(tmp_path / "data" / "sonant.db")
    made = installation.open_store(Settings(data=tmp_path / "data"), create=True)
    installation.first_start(made)
    yield made
    made.database.close()


@pytest.fixture
def sonant(store, tmp_path, monkeypatch):
    """Run a command on the store's folder: what it printed. Faults are raised, `exits` is the code."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, exits=0):
        outcome = CliRunner().invoke(main, [*arguments, "--data", str(store.settings.data)])
        if isinstance(outcome.exception, Exception):
            raise outcome.exception
        assert outcome.exit_code == exits, outcome.output
        return outcome.output

    return run


@pytest.fixture
def find(store):
    """How the running service looks access keys up, with what it remembers."""
    return service.credential_finder(store)


def policy(tmp_path, name, *statements):
    path = tmp_path / name
    path.write_text(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))
    return str(path)


def allow(action, resource="*", **more):
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def new_key(sonant, *arguments):
    lines = dict(line.split() for line in sonant("access", "create", *arguments).splitlines())
    return lines["aws_access_key_id"], lines["aws_secret_access_key"]


# --- users, roles, keys


def test_a_user_is_made_listed_shown_and_removed(sonant, tmp_path):
    arn = f"arn:aws:iam::{ACCOUNT}:user/anna"
    reads = policy(tmp_path, "p.json", allow("voiceid:List*"))
    assert sonant("access", "user", "put", "anna", "--policy", reads, "--tag", "desk=7") == f"{arn}\n"
    assert sonant("access", "user", "list").splitlines() == [
        arn,
        f"arn:aws:iam::{ACCOUNT}:user/application",
        f"arn:aws:iam::{ACCOUNT}:user/sonant",
    ]
    assert (
        json.loads(sonant("access", "user", "policies", "anna"))["Statement"][0]["Action"] == "voiceid:List*"
    )
    assert sonant("access", "user", "delete", "anna", "--yes") == f"{arn} and its access keys are gone\n"
    with pytest.raises(SetupError, match=f"there is no {arn}"):
        sonant("access", "user", "policies", "anna")
    with pytest.raises(SetupError, match=f"there is no {arn}"):
        sonant("access", "user", "delete", "anna", "--yes")


def test_former_name_of_an_own_action_is_named_when_stored_and_by_doctor(sonant, tmp_path):
    exports = policy(tmp_path, "p.json", allow("voiceid:ExportSpeaker"))
    advice = "policy 1, statement 1 names voiceid:ExportSpeaker; write sonant:ExportSpeaker"
    assert advice in sonant("access", "user", "put", "anna", "--policy", exports)
    report = sonant("doctor", exits=1)
    assert f"arn:aws:iam::{ACCOUNT}:user/anna: {advice}" in report
    current = policy(tmp_path, "p.json", allow("sonant:ExportSpeaker"))
    assert "warning" not in sonant("access", "user", "put", "anna", "--policy", current)
    assert "user/anna" not in sonant("doctor", exits=1)  # a folder without an audit trail


def test_new_policy_with_a_wildcard_for_the_service_is_refused(sonant, tmp_path):
    broad = policy(tmp_path, "p.json", allow("voice*:*"))
    with pytest.raises(SetupError, match="policy statement 1: the service of action"):
        sonant("access", "user", "put", "anna", "--policy", broad)


def test_users_and_roles_of_the_same_name_are_two(sonant):
    sonant("access", "user", "put", "anna")
    sonant("access", "role", "put", "anna")
    sonant("access", "user", "delete", "anna", "--yes")
    assert f"arn:aws:iam::{ACCOUNT}:role/anna" in sonant("access", "role", "list")


@pytest.mark.parametrize("name", ["", "a b", "ä", "x" * 65, "a:b", "arn:aws:iam::000000000000:role/anna"])
def test_a_name_that_iam_would_refuse_is_refused(sonant, name):
    with pytest.raises(SetupError):
        sonant("access", "user", "put", name)


def test_a_policy_that_does_not_parse_makes_no_user(sonant, tmp_path):
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(SetupError):
        sonant("access", "user", "put", "anna", "--policy", str(tmp_path / "bad.json"))
    assert "anna" not in sonant("access", "user", "list")


def test_a_running_service_knows_a_new_key_at_once(sonant, find):
    sonant("access", "user", "put", "anna")
    key_id, secret = new_key(sonant, "--user", "anna")
    found = find(key_id)
    assert (found.secret, found.principal.name) == (secret, "anna")
    assert secret not in sonant("access", "list")


def test_a_running_service_takes_no_key_of_a_principal_that_was_removed(sonant, find):
    sonant("access", "user", "put", "anna")
    keys = [new_key(sonant, "--user", "anna")[0] for _ in range(2)]
    assert all(find(key_id) is not None for key_id in keys)
    sonant("access", "user", "delete", "anna", "--yes")
    assert [find(key_id) for key_id in keys] == [None, None]


def test_a_running_service_follows_every_other_change_at_once(sonant, find, tmp_path):
    sonant("access", "user", "put", "anna")
    key_id, _ = new_key(sonant, "--user", "anna")
    assert find(key_id).principal.policies == ()
    sonant("access", "user", "put", "anna", "--policy", policy(tmp_path, "p.json", allow("voiceid:*")))
    assert len(find(key_id).principal.policies) == 1
    sonant("access", "disable", key_id)
    assert find(key_id) is None
    sonant("access", "enable", key_id)
    assert find(key_id) is not None
    sonant("access", "delete", key_id, "--yes")
    assert find(key_id) is None


def test_key_of_an_unknown_user_is_refused_with_the_command_to_create_one(sonant):
    with pytest.raises(SetupError, match="make it with `sonant access user put`"):
        sonant("access", "create", "--user", "nobody")
    assert sonant("access", "user", "put", "nobody")


# --- temporary credentials


def exported(output):
    lines = [line.removeprefix("export ") for line in output.splitlines() if line.startswith("export ")]
    return dict(line.split("=", 1) for line in lines)


def test_temporary_credentials_are_those_of_the_role_and_end(sonant, find):
    role = f"arn:aws:iam::{ACCOUNT}:role/sonant"
    before = real_now()
    output = sonant("access", "assume-role", role, "--duration", "900")
    made = exported(output)
    found = find(made["AWS_ACCESS_KEY_ID"])
    assert found.principal.arn == role
    assert (found.secret, found.session_token) == (made["AWS_SECRET_ACCESS_KEY"], made["AWS_SESSION_TOKEN"])
    assert before + timedelta(seconds=900) <= found.expires_at <= real_now() + timedelta(seconds=900)
    shown = datetime.strptime(output.splitlines()[-1], "# until %Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert shown == found.expires_at.replace(microsecond=0)
    assert made["AWS_ACCESS_KEY_ID"] in sonant("access", "list")


@pytest.mark.parametrize("life_s", ["899", "43201", "0", "-1"])
def test_a_life_that_sts_would_refuse_is_refused(sonant, life_s):
    with pytest.raises(SetupError, match="temporary credentials live 900 to 43200 seconds"):
        sonant("access", "assume-role", f"arn:aws:iam::{ACCOUNT}:role/sonant", "--duration", life_s)


@pytest.mark.parametrize(
    "arn", [f"arn:aws:iam::{ACCOUNT}:user/sonant", f"arn:aws:iam::{ACCOUNT}:role/none", "x"]
)
def test_only_a_role_that_is_there_can_be_assumed(sonant, arn):
    with pytest.raises(SetupError, match="there is no role"):
        sonant("access", "assume-role", arn)


# --- simulate


def test_simulate_shows_what_decides_and_exits_accordingly(sonant, tmp_path):
    office = allow("voiceid:List*", Sid="Office", Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})
    never = {"Sid": "Never", "Effect": "Deny", "Action": "voiceid:DeleteDomain", "Resource": "*"}
    sonant("access", "user", "put", "anna", "--policy", policy(tmp_path, "p.json", office, never))
    ask = ("access", "simulate", "anna")
    there = sonant(*ask, "voiceid:ListDomains", "*", "--context", "aws:SourceIp=10.1.1.1")
    assert there.startswith("allowed: ")
    assert "policy 1, statement Office (Allow): applies" in there
    away = sonant(*ask, "voiceid:ListDomains", "*", "--context", "aws:SourceIp=192.0.2.1", exits=1)
    assert away.startswith("denied: ")
    assert "statement Office (Allow): applies" not in away
    denied = sonant(*ask, "voiceid:DeleteDomain", "*", exits=1)
    assert "policy 1, statement Never (Deny): applies" in denied
    assert sonant(*ask, "voiceid:CreateDomain", "*", exits=1).startswith("denied: ")
    with pytest.raises(SetupError, match="there is no"):
        sonant("access", "simulate", "nobody", "voiceid:ListDomains", "*")
    with pytest.raises(SetupError, match="is not KEY=VALUE"):
        sonant(*ask, "voiceid:ListDomains", "*", "--context", "aws:SourceIp")


def test_role_of_a_fresh_installation_reads_and_writes_but_calls_nothing(sonant):
    role = ("access", "simulate", "--role", "sonant")
    key = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/any"
    for action, on in (
        ("s3:GetObject", "arn:aws:s3:::calls/anna.wav"),
        ("s3:PutObject", "arn:aws:s3:::results/job.json"),
        ("kms:Decrypt", key),
        ("kms:GenerateDataKey", key),
    ):
        assert sonant(*role, action, on).startswith("allowed: ")
    for action in ("voiceid:ListDomains", "iam:PassRole", "sonant:ExportSpeaker", "kms:CreateGrant"):
        assert sonant(*role, action, "*", exits=1).startswith("denied: ")


# --- accounts


def test_a_user_of_another_account_is_that_accounts(sonant, find):
    sonant("access", "user", "put", "sonant", "--account", OTHER)
    key_id, _ = new_key(sonant, "--user", "sonant", "--account", OTHER)
    assert find(key_id).principal.account_id == OTHER
    sonant("access", "user", "delete", "sonant", "--account", OTHER, "--yes")
    assert find(key_id) is None
    assert f"arn:aws:iam::{ACCOUNT}:user/sonant" in sonant("access", "user", "list")


def test_key_commands_work_on_the_account_that_is_named(sonant, store):
    told = sonant("key", "create", "--account", OTHER, "--alias", "alias/theirs")
    key_id = told.split()[1]
    assert f":{OTHER}:key/{key_id}" in told
    there = ("--account", OTHER)
    assert key_id in sonant("key", "list", *there)
    assert key_id not in sonant("key", "list")
    with pytest.raises(KeyNotFound):
        sonant("key", "describe", key_id)
    sonant("key", "alias", "alias/second", key_id, *there)
    assert "alias/second" in sonant("key", "describe", key_id, *there)
    assert "Disabled" in sonant("key", "disable", key_id, *there)
    assert store.accounts.keys(OTHER).describe(key_id).state == "Disabled"
    assert "Enabled" in sonant("key", "enable", key_id, *there)
    assert "PendingDeletion" in sonant("key", "schedule-deletion", key_id, "--days", "7", "--yes", *there)
    assert "Disabled" in sonant("key", "cancel-deletion", key_id, *there)
    assert sonant("key", "list", "--account", ACCOUNT) == sonant("key", "list")


def test_a_mistyped_account_leaves_no_folder(sonant, store):
    with pytest.raises(SetupError, match="account 222222222222 has no keys; make one with"):
        sonant("key", "list", "--account", "2" * 12)
    for account in ("", "1", "../../x"):
        with pytest.raises(SetupError, match="an account id has 12 digits"):
            sonant("key", "create", "--account", account)
    assert not (store.settings.data / "accounts").exists()
