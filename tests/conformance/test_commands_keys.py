"""`sonant key`, `sonant access` and `sonant object`, as processes beside a running service."""

from __future__ import annotations

import configparser
import re
import uuid
from pathlib import Path

import pytest
from service_process import ACCOUNT, KEY_ALIAS, REGION, ServiceProcess
from tampering import altered


def fields(text: str) -> dict[str, str]:
    """`Label   value` lines."""
    return dict(re.findall(r"^(\w+) +(.*)$", text, re.MULTILINE))


@pytest.fixture
def key_id(service: ServiceProcess) -> str:
    return fields(service.sonant("key", "create").out)["KeyId"]


# --- keys ---------------------------------------------------------------------------------------------


def test_a_new_key_is_shown_listed_and_described(service: ServiceProcess) -> None:
    alias = f"alias/{uuid.uuid4()}"
    made = service.sonant("key", "create", "--alias", alias, "--description", "for tests")
    assert (made.code, made.err) == (0, "")
    shown = fields(made.out)
    assert shown["Arn"] == f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{shown['KeyId']}"
    assert (shown["State"], shown["Aliases"], shown["Description"]) == ("Enabled", alias, "for tests")
    for name in (alias, shown["KeyId"], shown["Arn"]):
        assert service.sonant("key", "describe", name).out == made.out
    lines = [line.split() for line in service.sonant("key", "list").out.splitlines()]
    assert [shown["KeyId"], "Enabled", alias] in lines
    assert any(line[1:] == ["Enabled", KEY_ALIAS] for line in lines)


def test_a_key_goes_through_its_states(service: ServiceProcess, key_id: str) -> None:
    states = []
    for step in (
        ("disable", key_id),
        ("enable", key_id),
        ("schedule-deletion", key_id, "--days", "7", "--yes"),
        ("cancel-deletion", key_id),
        ("enable", key_id),
    ):
        done = service.sonant("key", *step)
        assert (done.code, done.err) == (0, "")
        shown = fields(done.out)
        states.append(shown["State"])
        assert ("DeletionDate" in shown) == (shown["State"] == "PendingDeletion")
    assert states == ["Disabled", "Enabled", "PendingDeletion", "Disabled", "Enabled"]


def test_key_has_several_aliases_until_deleted(service: ServiceProcess, key_id: str) -> None:
    one, other = f"alias/one-{key_id}", f"alias/two-{key_id}"
    service.sonant("key", "alias", one, key_id)
    assert fields(service.sonant("key", "alias", other, one).out)["Aliases"] == f"{one}, {other}"
    assert service.sonant("key", "alias", one, "--delete").code == 0
    assert fields(service.sonant("key", "describe", other).out)["Aliases"] == other


# --- access keys --------------------------------------------------------------------------------------


def test_access_key_list_has_no_secrets(service: ServiceProcess) -> None:
    made = service.sonant("access", "create")
    shown = fields(made.out)
    assert set(shown) == {"aws_access_key_id", "aws_secret_access_key"}
    listed = service.sonant("access", "list")
    assert shown["aws_secret_access_key"] not in listed.out
    (line,) = [line for line in listed.out.splitlines() if shown["aws_access_key_id"] in line]
    assert "active" in line
    assert line.endswith(f"arn:aws:iam::{ACCOUNT}:user/sonant")

    service.sonant("access", "disable", shown["aws_access_key_id"])
    (line,) = [
        line
        for line in service.sonant("access", "list").out.splitlines()
        if shown["aws_access_key_id"] in line
    ]
    assert "disabled" in line


def test_access_key_profile_works_with_the_aws_cli(service: ServiceProcess) -> None:
    file = service.data / "credentials"
    before = file.read_text()
    shown = fields(service.sonant("access", "create", "--profile", "second").out)

    parser = configparser.ConfigParser()
    parser.read(file)

    assert parser["second"]["aws_access_key_id"] == shown["aws_access_key_id"]
    assert parser["second"]["aws_secret_access_key"] == shown["aws_secret_access_key"]
    assert file.read_text().startswith(before.strip())
    assert file.stat().st_mode & 0o777 == 0o600
    done = service.aws(
        *("voice-id", "list-domains", "--max-items", "1", "--profile", "second"),
        AWS_SHARED_CREDENTIALS_FILE=str(file),
    )
    assert (done.code, done.err) == (0, "")


# --- objects ------------------------------------------------------------------------------------------


@pytest.fixture
def bucket() -> str:
    return f"bucket-{uuid.uuid4()}"


def test_an_object_is_put_listed_and_got(service: ServiceProcess, bucket: str, tmp_path: Path) -> None:
    file = tmp_path / "call.wav"
    file.write_bytes(bytes(range(256)) * 9000)  # more than a piece
    put = service.sonant("object", "put", str(file), f"s3://{bucket}/calls/")
    assert (put.code, put.out, put.err) == (0, f"s3://{bucket}/calls/call.wav\n", "")

    assert f"s3://{bucket}" in service.sonant("object", "ls").out.splitlines()
    listed = service.sonant("object", "ls", f"s3://{bucket}/calls").out.splitlines()
    assert [line.split()[2:] for line in listed[1:]] == [
        [str(file.stat().st_size), "-", f"s3://{bucket}/calls/call.wav"]
    ]
    copy = tmp_path / "copy.wav"
    got = service.sonant("object", "get", f"s3://{bucket}/calls/call.wav", str(copy))
    assert (got.code, got.out, got.err) == (0, "", "")
    assert copy.read_bytes() == file.read_bytes()
    assert copy.stat().st_mode & 0o777 == 0o600
    assert sorted(tmp_path.iterdir()) == [file, copy]


def test_encrypted_object_is_decrypted_by_get_only(
    service: ServiceProcess, bucket: str, tmp_path: Path, key_id: str
) -> None:
    file = tmp_path / "secret.txt"
    file.write_text("a secret that must not lie on the disk")
    assert service.sonant("object", "put", str(file), f"s3://{bucket}", "--kms-key", key_id).code == 0

    stored = service.data / "buckets" / bucket / "secret.txt"
    assert b"secret" not in stored.read_bytes()
    assert "sealed" in service.sonant("object", "ls", f"s3://{bucket}/").out
    assert service.sonant("object", "get", f"s3://{bucket}/secret.txt").out == file.read_text()

    service.sonant("key", "disable", key_id)
    refused = service.sonant("object", "get", f"s3://{bucket}/secret.txt")
    assert (refused.code, refused.out) == (1, "")
    assert "disabled" in refused.err
    stored.write_bytes(altered(stored.read_bytes()))
    service.sonant("key", "enable", key_id)
    refused = service.sonant("object", "get", f"s3://{bucket}/secret.txt")
    assert (refused.code, refused.out) == (1, "")


def test_object_names_cannot_leave_the_bucket(service: ServiceProcess, bucket: str, tmp_path: Path) -> None:
    file = tmp_path / "harmless.txt"
    file.write_text("harmless")
    # To S3 these are keys like any others, so they are stored, inside the bucket.
    for key in ("../escaped", "a/../../../escaped", "/escaped"):
        assert service.sonant("object", "put", str(file), f"s3://{bucket}/{key}").code == 0
        assert service.sonant("object", "get", f"s3://{bucket}/{key}").out == "harmless"
    outside = [path for path in service.data.parent.rglob("*escaped*") if bucket not in path.parts]
    assert outside == []
    # A link in the bucket is never followed, to read or to write.
    folder = service.data / "buckets" / bucket
    secret = tmp_path / "outside.txt"
    secret.write_text("secret")
    (folder / "link").symlink_to(secret)
    (folder / "folder").symlink_to(tmp_path)
    for uri in ("link", "folder/outside.txt"):
        got = service.sonant("object", "get", f"s3://{bucket}/{uri}")
        assert (got.code, got.out, "never followed" in got.err) == (1, "", True)
        put = service.sonant("object", "put", str(file), f"s3://{bucket}/{uri}")
        assert put.code == 1
    assert secret.read_text() == "secret"
    for name in ("..", "UPPER", "a", "../keys"):
        assert service.sonant("object", "put", str(file), f"s3://{name}/x").code == 1
