"""`sonant init`: what it makes, what it asks, and that it changes nothing that is there."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
from aws_servers import certificate
from click.testing import CliRunner, Result

from sonant.assembly import installation
from sonant.cli import init as init_command
from sonant.cli import main
from sonant.cli.checks.people import check_administrators
from sonant.cli.checks.places import check_modes
from sonant.cli.checks.upkeep import check_audit_trail
from sonant.cli.init import settings_text
from sonant.settings import loading
from sonant.storage.keys.wrapping import wrapping_of
from sonant.storage.repositories import access


def run(folder: Path, *arguments: str, **how: Any) -> Result:
    named = ("--config", str(folder / "etc.toml"), "--data", str(folder / "data"))
    return CliRunner().invoke(main.main, ["init", *arguments, *named], **how)


def test_it_makes_an_installation_that_its_file_opens(tmp_path: Path) -> None:
    done = run(tmp_path, "--region", "eu-west-2", "--account", "1" * 12, "--port", "0", "--output", "json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    file = tmp_path / "etc.toml"
    assert file.stat().st_mode & 0o777 == 0o600
    settings = loading.load(file=file, environment={})
    assert (settings.data, settings.region, settings.account) == (tmp_path / "data", "eu-west-2", "1" * 12)
    store = installation.open_store(settings)
    with store.database.read() as connection:
        known = {key.access_key_id for key in access.list_access_keys(connection)}
    store.database.close()
    assert known == {document["AdministratorAccessKey"], document["ApplicationAccessKey"]}
    assert Path(document["AdministratorCredentials"]).stat().st_mode & 0o777 == 0o600


def test_defaults_are_left_out_of_the_file(tmp_path: Path) -> None:
    assert run(tmp_path, "--region", "us-east-1").exit_code == 0
    assert tomllib.loads((tmp_path / "etc.toml").read_text()) == {"data": str(tmp_path / "data")}


def test_keys_are_encrypted_under_the_passphrase(tmp_path: Path) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text("a passphrase of some length\n")
    assert run(tmp_path, "--passphrase-file", str(secret)).exit_code == 0
    settings = loading.load(file=tmp_path / "etc.toml", environment={})
    record = wrapping_of(settings).record()
    assert record is not None
    assert record.by == "passphrase"
    installation.open_store(settings).database.close()


def test_nothing_is_missing_afterwards(tmp_path: Path) -> None:
    former = os.umask(0o077)  # as every command has it
    try:
        assert run(tmp_path).exit_code == 0
    finally:
        os.umask(former)
    settings = loading.load(file=tmp_path / "etc.toml", environment={})
    assert check_audit_trail(settings).startswith("0 files")
    assert check_modes(settings) == "the owner's alone"
    assert check_administrators(settings).startswith("1 of the users")


def test_a_certificate_is_tried(tmp_path: Path) -> None:
    file = certificate(tmp_path / "tls.pem")
    tls = ("--tls-certificate", str(file), "--tls-key", str(file))
    assert run(tmp_path, "--host", "0.0.0.0", *tls).exit_code == 0
    assert tomllib.loads((tmp_path / "etc.toml").read_text())["gateway"]["tls_key"] == str(file)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--host", "0.0.0.0"), "would serve plain HTTP on 0.0.0.0"),
        (("--account", "12"), "account is '12', must be 12 digits"),
        (("--port", "99999"), "must be a whole number from 0 to 65,535"),
        (("--passphrase-file", "/nowhere"), "/nowhere"),
        (("--tls-certificate", "/nowhere"), "set both gateway.tls_certificate and gateway.tls_key"),
    ],
)
def test_what_does_not_serve_leaves_no_settings_file(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    done = run(tmp_path, *arguments)
    assert done.exit_code != 0
    assert told in str(done.exception)
    assert not (tmp_path / "etc.toml").exists()


def test_what_exists_is_not_changed(tmp_path: Path) -> None:
    assert run(tmp_path).exit_code == 0
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    again = run(tmp_path)
    assert "exists already" in str(again.exception)
    (tmp_path / "etc.toml").rename(tmp_path / "moved.toml")
    again = run(tmp_path)
    assert "is in use: choose another with --data" in str(again.exception)
    files[tmp_path / "moved.toml"] = files.pop(tmp_path / "etc.toml")
    changed = {path for path, content in files.items() if path.read_bytes() != content}
    assert {path.name for path in changed} <= {"sonant.db-wal", "sonant.db-shm"}


def test_it_asks_for_what_no_flag_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def prompt(question: str, **_: Any) -> Any:
        asked.append(question)
        return {"Account, of 12 digits": "1" * 12, "Port": 8181}.get(question, "127.0.0.1")

    monkeypatch.setattr(click, "prompt", prompt)
    given = {"region": "eu-west-2", "account": None, "host": None, "port": None}
    assert init_command.answers(given, ask=True) == {
        "region": "eu-west-2",
        "account": "1" * 12,
        "gateway.port": 8181,
    }
    assert asked == ["Account, of 12 digits", "Address to listen on", "Port"]


@pytest.mark.parametrize("value", ['a "quoted" \\ path', "tab\tand\x7fdel", "ü\U0001f600", 5, 2.5, True])
def test_the_file_holds_every_value(value: object) -> None:
    values = {"data": value, "gateway.port": value, "gateway.host": "h"}
    assert tomllib.loads(settings_text(values)) == {"data": value, "gateway": {"port": value, "host": "h"}}
