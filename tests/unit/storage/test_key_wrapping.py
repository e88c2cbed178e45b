"""Key files that are encrypted under a secret which is not beside them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from click.testing import CliRunner
from operations_testbed import MovedClock
from sqlite_template import put_tables

from sonant.assembly import installation
from sonant.assembly.installation.key_wrapping import (
    change_secret,
    describe_key_files,
    key_files,
    unwrap_keys,
    wrap_keys,
)
from sonant.assembly.installation.service_key_rotation import rotate
from sonant.cli.main import main
from sonant.errors import SetupError
from sonant.settings import KeyWrapping, Settings
from sonant.storage.keys import wrapping
from sonant.storage.keys.wrapping import MAGIC, RECORD_FILE

PASSPHRASE = "correct horse battery"
OTHER = "111111111111"
BY_PASSPHRASE = KeyWrapping(passphrase=PASSPHRASE)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Scrypt costs half a second, on purpose."""
    monkeypatch.setattr(wrapping, "COST", 2**4)


@pytest.fixture
def settings(tmp_path):
    """A settings' data folder with keys of two accounts."""
    made = Settings(data=tmp_path / "data", key_wrapping=BY_PASSPHRASE)
    put_tables(made.data / "sonant.db")
    store = opened(made, create=True)
    installation.first_start(store)
    store.accounts.keys(OTHER).create(alias="alias/other")
    store.database.close()
    return made


@pytest.fixture
def credential(tmp_path, monkeypatch):
    """The folder in which systemd hands over credentials, and the credential in it."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "sonant-keys").write_bytes(bytes(range(32)))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return folder / "sonant-keys"


def opened(settings, *, create=False):
    return installation.open_store(settings, create=create, clock=MovedClock())


def with_store(settings, use):
    """Use the store as another process does that starts now."""
    wrapping.wrapping_in.cache_clear()
    store = opened(settings)
    try:
        return use(store)
    finally:
        store.database.close()


def wrapped(settings, by="passphrase"):
    return with_store(settings, lambda store: wrap_keys(store, by))


def material_of(settings):
    """Every key in the clear, as somebody finds them who reads the disk."""
    found = []
    for path in key_files([settings.account, OTHER], settings):
        content = path.read_bytes()
        if path.name.startswith("service.key"):
            found.append(content)
        else:
            found.append(json.loads(content)["material"].encode())
    return found


def all_bytes(folder):
    """Everything that is on the disk beside the database."""
    return b"".join(
        path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("sonant.db")
    )


def test_no_key_is_on_the_disk_in_the_clear_after_wrapping(settings):
    keys = material_of(settings)
    assert len(keys) == 3
    assert all(key in all_bytes(settings.data) for key in keys)
    assert wrapped(settings) == 3
    assert not any(key in all_bytes(settings.data) for key in keys)


def test_everything_opens_with_the_passphrase_in_another_process(settings):
    before = with_store(settings, lambda store: store.keys.generate_data_key("alias/sonant", {}))
    wrapped(settings)
    for account in (settings.account, OTHER):
        with_store(settings, lambda store, of=account: store.accounts.keys(of).create())
    assert with_store(settings, lambda store: store.keys.decrypt(before.wrapped, {})) == before.plaintext


def test_keys_made_after_wrapping_are_encrypted_too(settings):
    wrapped(settings)
    with_store(settings, lambda store: rotate(store, leaked=False))
    with_store(settings, lambda store: store.keys.create())
    files = key_files([settings.account, OTHER], settings)
    assert {path.name for path in files} >= {"service.key", "service.key.former"}
    assert len(files) == 5
    assert all(path.read_bytes().startswith(MAGIC) for path in files)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (KeyWrapping(), "set key_wrapping.passphrase_file, or SONANT_KEY_WRAPPING_PASSPHRASE"),
        (KeyWrapping(passphrase="correct horse batteri"), "the passphrase is not the one that the keys"),
        (KeyWrapping(passphrase="short"), "must have 12 characters or more"),
        (KeyWrapping(passphrase_file="/nowhere/secret"), "/nowhere/secret, which opens the keys, cannot be"),
    ],
)
def test_nothing_opens_without_the_passphrase(settings, given, message):
    wrapped(settings)
    with pytest.raises(SetupError, match=message):
        with_store(replace(settings, key_wrapping=given), lambda store: store)


def test_process_that_was_there_before_goes_on(settings):
    store = opened(settings)
    try:
        data_key = store.keys.generate_data_key("alias/sonant", {})
        wrap_keys(store, "passphrase")
        assert store.keys.decrypt(data_key.wrapped, {}) == data_key.plaintext
    finally:
        store.database.close()


def test_credential_of_systemd_opens_the_keys(settings, credential):
    wrapped(settings, "credential")
    assert with_store(settings, lambda store: store.keys.describe("alias/sonant").state) == "Enabled"
    credential.write_bytes(bytes(range(1, 33)))
    with pytest.raises(SetupError, match="the credential is not the one"):
        with_store(settings, lambda store: store)


def test_credential_that_is_missing_or_short_is_named(settings, credential, monkeypatch):
    credential.write_bytes(b"short")
    with pytest.raises(SetupError, match="credential sonant-keys has 5 bytes, must have 32 or more"):
        wrapped(settings, "credential")
    assert not (settings.data / "keys" / RECORD_FILE).exists()
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(SetupError, match="LoadCredential=sonant-keys:FILE"):
        wrapped(settings, "credential")


def test_secret_is_changed_without_touching_keys(settings):
    wrapped(settings)
    files = {path: path.read_bytes() for path in key_files([settings.account, OTHER], settings)}
    changed = replace(settings, key_wrapping=KeyWrapping(passphrase="another good passphrase"))
    wrapping.wrapping_in.cache_clear()
    change_secret(changed, "passphrase", PASSPHRASE.encode())
    assert {path: path.read_bytes() for path in files} == files
    with_store(changed, lambda store: store.keys.describe("alias/sonant"))
    with pytest.raises(SetupError, match="not the one"):
        with_store(settings, lambda store: store)


def test_file_under_another_ones_name_does_not_open(settings):
    wrapped(settings)
    folder = settings.data / "keys"
    (one,) = folder.glob("????????-*.json")
    (other,) = (settings.data / "accounts" / OTHER / "keys").glob("????????-*.json")
    shutil.copy(other, one)
    with pytest.raises(SetupError, match="damaged, or another file's"):
        with_store(settings, lambda store: store.keys.list())


def test_unwrapped_keys_need_no_secret(settings):
    keys = material_of(settings)
    wrapped(settings)
    assert with_store(settings, unwrap_keys) == 3
    assert material_of(settings) == keys
    with_store(replace(settings, key_wrapping=KeyWrapping()), lambda store: store.keys.list())


def test_doctor_says_how_keys_lie(settings, credential):
    accounts = [settings.account, OTHER]
    assert "3 files, not encrypted: whoever reads" in describe_key_files(accounts, settings)
    wrapped(settings)
    assert describe_key_files(accounts, settings) == "3 files, encrypted under a passphrase (scrypt, N 16)"
    with_store(settings, unwrap_keys)
    wrapped(settings, "credential")
    assert "TPM only if systemd-creds made it so" in describe_key_files(accounts, settings)
    (settings.data / "keys" / "service.key").write_bytes(bytes(32))
    with pytest.raises(
        SetupError, match=r"1 of 3 key files are not encrypted.*sonant key wrap --by credential"
    ):
        describe_key_files(accounts, settings)


def test_commands_wrap_and_unwrap(settings, monkeypatch):
    monkeypatch.setenv("SONANT_KEY_WRAPPING_PASSPHRASE", PASSPHRASE)
    done = CliRunner().invoke(main, ["--data", str(settings.data), "key", "wrap", "--by", "passphrase"])
    assert (done.exit_code, "3 key files are encrypted under the passphrase" in done.output) == (0, True)
    again = CliRunner().invoke(main, ["--data", str(settings.data), "key", "unwrap", "--yes"])
    assert (again.exit_code, "3 key files are not encrypted any more" in again.output) == (0, True)
