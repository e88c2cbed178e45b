"""The folder of keys: permissions, crashes, damage, and secrecy of the material."""

import base64
import json
import os
import stat
import traceback
from datetime import UTC, datetime

import pytest

from sonant.errors import KeyNotFound, KeysUnreachable, SetupError, SonantError
from sonant.storage.keys.stores.local import LocalKeyStore

CONTEXT = {"sonant:object": "s3://calls/one.wav"}


def opened(folder):
    return LocalKeyStore(
        folder, region="us-east-1", account="000000000000", clock=lambda: datetime(2026, 3, 1, tzinfo=UTC)
    )


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "keys"


@pytest.fixture
def store(folder):
    return opened(folder)


def file_of(folder, key):
    return folder / f"{key.key_id}.json"


def altered(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_folder_and_files_belong_to_the_owner_alone(store, folder):
    old = os.umask(0)
    try:
        store.create(alias="alias/sonant")
        opened(folder / "deeper").create()
    finally:
        os.umask(old)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "deeper").stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir() if path.is_file()}
    assert set(modes.values()) == {0o600}
    assert len(modes) == 3  # key, aliases, lock


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o770, 0o704])
def test_a_folder_open_to_others_is_refused_with_the_cure(store, folder, mode):
    wrapped = store.generate_data_key(store.create().key_id, CONTEXT).wrapped
    folder.chmod(mode)
    uses = [lambda: opened(folder), lambda: store.decrypt(wrapped, CONTEXT), lambda: store.create()]
    for use in uses:
        with pytest.raises(SetupError, match=f"chmod 700 {folder}"):
            use()
    folder.chmod(0o700)
    store.decrypt(wrapped, CONTEXT)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_file_open_to_others_is_refused_with_the_cure(store, folder, mode):
    key = store.create()
    wrapped = store.generate_data_key(key.key_id, CONTEXT).wrapped
    file_of(folder, key).chmod(mode)
    for instance in (store, opened(folder)):
        with pytest.raises(SetupError, match=f"chmod 600 {file_of(folder, key)}"):
            instance.decrypt(wrapped, CONTEXT)


def test_an_alias_file_open_to_others_is_refused(store, folder):
    store.create(alias="alias/sonant")
    (folder / "aliases.json").chmod(0o644)
    with pytest.raises(SetupError, match=r"chmod 600 .*aliases\.json"):
        store.describe("alias/sonant")


def test_a_path_with_spaces_is_quoted_in_the_cure(tmp_path):
    folder = tmp_path / "my keys"
    opened(folder).create()
    folder.chmod(0o755)
    with pytest.raises(SetupError, match=r"chmod 700 '.*my keys'"):
        opened(folder)


def test_a_key_file_that_is_a_link_or_a_pipe_is_refused(store, folder, tmp_path):
    linked, piped = store.create(), store.create()
    file_of(folder, linked).rename(tmp_path / "elsewhere.json")
    file_of(folder, linked).symlink_to(tmp_path / "elsewhere.json")
    file_of(folder, piped).unlink()
    os.mkfifo(file_of(folder, piped), 0o600)
    for key in (linked, piped):
        with pytest.raises(SetupError, match="not a regular file"):
            store.describe(key.key_id)


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "not JSON": lambda path: path.write_bytes(b"\0" * 100),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "nested without end": lambda path: path.write_bytes(b"[" * 60_000),
    "too large": lambda path: path.write_bytes(b" " * 70_000),
    "a list": lambda path: path.write_bytes(b"[]"),
    "another version": lambda path: altered(path, version=3),
    "another key": lambda path: altered(path, key_id="00000000-0000-4000-8000-000000000000"),
    "unknown state": lambda path: altered(path, state="Imported"),
    "no date": lambda path: altered(path, created_at=None),
    "a date without time zone": lambda path: altered(path, created_at="2026-03-01T00:00:00"),
    "pending without a date": lambda path: altered(path, state="PendingDeletion"),
    "short material": lambda path: altered(path, material=base64.b64encode(bytes(16)).decode()),
    "other material": lambda path: altered(path, material=base64.b64encode(bytes(32)).decode()),
    "no material": lambda path: altered(path, material=None),
    "bad base64": lambda path: altered(path, material="*" * 44),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_key_file_is_reported_with_advice_without_content(store, folder, damage):
    key = store.create()
    wrapped = store.generate_data_key(key.key_id, CONTEXT).wrapped
    material = json.loads(file_of(folder, key).read_text())["material"]
    damage(file_of(folder, key))
    for use in (lambda: store.decrypt(wrapped, CONTEXT), lambda: opened(folder).list()):
        with pytest.raises(SetupError) as fault:
            use()
        assert str(file_of(folder, key)) in str(fault.value)
        assert material not in "".join(traceback.format_exception(fault.value))


@pytest.mark.parametrize("content", [b"", b"[]", b'{"alias/x": 1}', b'{"x": "y"}', b'{"alias/x": "../key"}'])
def test_a_damaged_alias_file_is_named_with_what_to_do(store, folder, content):
    key = store.create(alias="alias/sonant")
    (folder / "aliases.json").write_bytes(content)
    with pytest.raises(SetupError, match=r"aliases\.json is damaged"):
        store.describe("alias/sonant")
    (folder / "aliases.json").unlink()
    assert store.describe(key.key_id).aliases == ()


def test_one_damaged_key_does_not_save_others_from_their_deletion(store, folder, tmp_path):
    damaged, due = store.create(), store.create()
    store.schedule_deletion(due.key_id, 7)
    file_of(folder, damaged).write_bytes(b"")
    later = LocalKeyStore(
        folder, region="us-east-1", account="000000000000", clock=lambda: datetime(2026, 4, 1, tzinfo=UTC)
    )
    with pytest.raises(SetupError, match=damaged.key_id):
        later.purge_due()
    assert not file_of(folder, due).exists()


def test_a_key_file_taken_away_is_a_key_that_does_not_exist(store, folder):
    key = store.create()
    wrapped = store.generate_data_key(key.key_id, CONTEXT).wrapped
    file_of(folder, key).unlink()
    with pytest.raises(KeyNotFound):
        store.decrypt(wrapped, CONTEXT)


def test_files_of_a_crash_are_removed_by_the_next_writer(store, folder):
    store.create()
    left = folder / ".tmp-0123456789abcdef"
    left.write_text("half a key")
    left.chmod(0o600)
    store.list()
    assert left.exists()
    store.create()
    assert not left.exists()


def test_a_write_that_fails_leaves_the_key_as_it_was(store, folder, monkeypatch):
    key = store.create(alias="alias/sonant")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SetupError, match="No space left"):
            store.disable(key.key_id)
    assert opened(folder).describe("alias/sonant") == key
    assert {path.name for path in folder.iterdir()} == {".lock", "aliases.json", f"{key.key_id}.json"}


def test_a_folder_that_vanished_or_cannot_be_made_is_a_setup_error(store, folder, tmp_path):
    key = store.create()
    folder.rename(tmp_path / "moved")
    for use in (store.check, store.create, store.list, lambda: store.describe(key.key_id)):
        with pytest.raises(KeysUnreachable, match="is gone: put it back"):
            use()
    assert not folder.exists()
    (tmp_path / "moved").rename(folder)
    assert store.describe(key.key_id) == key
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot be used"):
        opened(tmp_path / "file" / "keys")


def test_missing_folder_counts_as_empty_until_the_first_write(folder):
    store = opened(folder)
    assert store.list() == []
    with pytest.raises(KeyNotFound):
        store.describe("alias/sonant")
    assert not folder.exists()
    store.create()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_material_shows_in_no_representation_and_no_error(store, folder):
    key = store.create(alias="alias/sonant")
    data_key = store.generate_data_key(key.key_id, CONTEXT)
    material = base64.b64decode(json.loads(file_of(folder, key).read_text())["material"])
    shown = [repr(value) for value in (store, key, data_key, store.list(), vars(store))]
    store.disable(key.key_id)
    for use in (
        lambda: store.decrypt(data_key.wrapped, CONTEXT),
        lambda: store.decrypt(data_key.wrapped[:-1], CONTEXT),
        lambda: store.generate_data_key(key.key_id, {}),
    ):
        with pytest.raises(SonantError) as fault:
            use()
        shown.append("".join(traceback.format_exception(fault.value)))
    for secret in (material, data_key.plaintext):
        for form in (secret.hex(), base64.b64encode(secret).decode(), repr(secret)[2:-1]):
            assert not [text for text in shown if form in text]
