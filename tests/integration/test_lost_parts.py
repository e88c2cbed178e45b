"""Parts of an installation are lost: nothing that cannot be replaced is made in their place.

Every file and folder that a used installation leaves is taken away once, and the service started. A part
that no row of `PARTS` speaks of fails the test: decide what its loss means, and say so there.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from batch_testbed import Testbed
from click.testing import CliRunner
from sqlalchemy import delete, text

from sonant.assembly import installation
from sonant.assembly.installation import DEFAULT_ALIAS, first_start, open_store
from sonant.assembly.readiness import Readiness
from sonant.audit.findings import Finding, FindingsTrail
from sonant.audit.trail import Trail
from sonant.backup import create as backup_create
from sonant.backup import restore as backup_restore
from sonant.cli import main
from sonant.errors import KeysUnreachable, SetupError
from sonant.iam import ALLOW_ALL
from sonant.operations import OPERATIONS
from sonant.operations.service import Caller
from sonant.settings import Jobs, Settings
from sonant.storage import backends
from sonant.storage.database.engine import Database
from sonant.storage.database.schema import access_keys, principals
from sonant.storage.repositories import access, domains, key_checks
from sonant.storage.row_binding import RECORD_FILE
from sonant.storage.times import now

VERSIONS = Path(backends.__file__).parent / "database" / "migrations" / "versions"
REFUSES, STARTS = "refuses to start", "starts without it, and makes no other"
MADE_AGAIN = "is made again, with nothing in it"
UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
#: What a start does without a part, by its path in the data folder.
PARTS = {
    r"keys": REFUSES,
    r"keys/service\.key": REFUSES,
    rf"keys/{UUID}\.json": REFUSES,
    r"keys/aliases\.json": STARTS,  # domains name keys by id; an alias of that name would be another key's
    r"keys/destroyed\.json": REFUSES,  # a key is missing then, and nothing says that it should be
    r"keys/rows\.bound": MADE_AGAIN,  # the database has the record, too
    r"keys/\.lock": MADE_AGAIN,
    r"accounts": REFUSES,
    rf"accounts/\d+(/keys(/{UUID}\.json)?)?": REFUSES,
    r"accounts/\d+/keys/aliases\.json": STARTS,
    r"accounts/\d+/keys/\.lock": MADE_AGAIN,
    r"sonant\.db": REFUSES,
    r"credentials(\.administrator)?": STARTS,  # `sonant access create` makes others
    r"audit(/.*)?": STARTS,  # `sonant doctor` tells; a trail may be moved away, and begins anew
    r"buckets": MADE_AGAIN,  # the user's own
    r"buckets/.*": STARTS,
}
SERVED = Settings(data=Path("data"), jobs=Jobs(workers=1))
OTHER_ACCOUNT = "222222222222"


def settings_of(data: Path) -> Settings:
    return replace(SERVED, data=data)


def start(settings: Settings) -> None:
    """What `sonant serve` does before it listens."""
    store = open_store(settings, create=True)
    with closing(store.database):
        first_start(store)
        store.backends.clean_up()


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with everything that an installation ever leaves in it, no process on it."""
    data = tmp_path_factory.mktemp("used") / "data"
    testbed = Testbed.open(settings_of(data))
    try:
        testbed.new_domain()
        _add_account(testbed)
        _destroy_a_key(testbed)
        testbed.put("s3://calls/note.txt", b"x")
        store = testbed.store
        trail = Trail(data / "audit", store.settings.audit, region="eu-west-1", clock=store.clock)
        trail.close()
        FindingsTrail(data / "audit", store.settings.audit).add(_domain(testbed), [_finding()], store.clock())
    finally:
        testbed.close()
    _checkpoint(data)
    return data


def _add_account(testbed: Testbed) -> None:
    """A domain of a second account, under a key of its own."""
    store = testbed.store
    store.accounts.keys(OTHER_ACCOUNT).create("theirs", alias="alias/theirs")
    arn = f"arn:aws:iam::{OTHER_ACCOUNT}:user/other"
    with store.database.write() as connection:
        access.put_principal(connection, arn, OTHER_ACCOUNT, [ALLOW_ALL], now())
        principal = access.find_principal(connection, arn)
    assert principal is not None
    OPERATIONS["CreateDomain"](
        testbed.service,
        Caller(principal=principal, region=store.settings.region),
        {"Name": "theirs", "ServerSideEncryptionConfiguration": {"KmsKeyId": "alias/theirs"}},
    )


def _destroy_a_key(testbed: Testbed) -> None:
    """A key that a domain had, destroyed by its owner's will."""
    keys = testbed.store.accounts.keys(testbed.settings.account)
    keys.create("weak", alias="alias/weak")
    testbed.new_domain("shredded", key="alias/weak")
    keys.schedule_deletion("alias/weak", 7)
    later = backends.local_accounts(testbed.settings, lambda: now() + timedelta(days=8))
    assert len(later.keys(testbed.settings.account).purge_due()) == 1


def _domain(testbed: Testbed) -> domains.Domain:
    with testbed.store.database.read() as connection:
        return domains.list_all(connection)[0]


def _finding():
    return Finding(
        job_id="j", request_number=1, outcome="ERROR_400", details={"decision": "HIGH_RISK", "reasons": []}
    )


def _checkpoint(data: Path) -> None:
    """The database as one file."""
    with closing(Database(f"sqlite:///{data / 'sonant.db'}")) as database:
        database.truncate_wal()
    for left in data.glob("sonant.db-*"):
        left.unlink()


@pytest.fixture
def copy(used: Path, tmp_path: Path) -> Path:
    shutil.copytree(used, tmp_path / "data")
    return tmp_path / "data"


def content(data: Path) -> dict[str, bytes]:
    """Files but those of running processes, and SQLite's log beside its file."""
    return {
        path.relative_to(data).as_posix(): path.read_bytes()
        for path in data.rglob("*")
        if path.is_file() and path.suffix != ".lock" and path.name not in (".lock", "lock")
        and not path.name.startswith("sonant.db")
    }  # fmt: skip


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def expected(part: str) -> str:
    found = [outcome for pattern, outcome in PARTS.items() if re.fullmatch(pattern, part)]
    assert found, f"an installation has {part}: say in PARTS what its loss means"
    return found[0]


def test_every_part_that_is_lost_is_refused_or_done_without(used: Path, tmp_path: Path) -> None:
    parts = sorted(path.relative_to(used).as_posix() for path in used.rglob("*"))
    assert {"keys", "sonant.db", "credentials", "audit", "buckets", "accounts"} <= set(parts)
    for number, part in enumerate(parts):
        data = tmp_path / str(number) / "data"
        shutil.copytree(used, data)
        remove(data / part)
        before, outcome = content(data), expected(part)
        if outcome == REFUSES:
            with pytest.raises(SetupError) as told:
                start(settings_of(data))
            assert "backup" in str(told.value), part
            assert "\n" not in str(told.value), part
        else:
            start(settings_of(data))
        after = content(data)
        if outcome == MADE_AGAIN:
            after.pop(part, None)
        assert after == before, part
        if outcome != MADE_AGAIN:
            assert not (data / part).exists(), part


def test_parts_that_are_put_back_start_again(copy: Path) -> None:
    for part in ("keys", "accounts", "sonant.db"):
        away = copy.with_name("away")
        (copy / part).rename(away)
        with pytest.raises(SetupError):
            start(settings_of(copy))
        assert not (copy / part).exists()
        away.rename(copy / part)
        start(settings_of(copy))


def test_keys_and_database_lost_together_are_reported_by_what_is_left(copy: Path) -> None:
    remove(copy / "keys")
    remove(copy / "sonant.db")
    before = content(copy)
    for name in ("credentials", "audit"):
        with pytest.raises(SetupError, match="shows that this data folder is in use"):
            start(settings_of(copy))
        assert content(copy) == before
        remove(copy / name)
        before = content(copy)
    start(settings_of(copy))  # buckets alone may be there before the first start


def test_a_log_without_its_database_is_not_thrown_away(copy: Path) -> None:
    for name in ("keys", "sonant.db", "credentials", "audit"):
        remove(copy / name)
    (copy / "sonant.db-wal").write_bytes(b"the last calls")
    with pytest.raises(SetupError, match=r"sonant\.db-wal shows"):
        start(settings_of(copy))
    with pytest.raises(SetupError, match=r"sonant\.db-wal shows"):
        installation.migrate(settings_of(copy))
    assert (copy / "sonant.db-wal").read_bytes() == b"the last calls"


def test_an_emptied_database_is_not_begun_anew(copy: Path) -> None:
    (copy / "sonant.db").write_bytes(b"")
    with pytest.raises(SetupError, match="is missing, but"):
        start(settings_of(copy))
    (copy / "sonant.db").unlink()
    with closing(Database(f"sqlite:///{copy / 'sonant.db'}")) as database:
        database.migrate()
    with pytest.raises(SetupError, match="the database is empty, but"):
        start(settings_of(copy))


def test_another_service_key_is_refused_before_anything_is_written(copy: Path) -> None:
    (copy / "keys" / "service.key").write_bytes(secrets.token_bytes(32))
    before = content(copy)
    for create in (True, False):
        with pytest.raises(SetupError, match="is not the one that this database was made with: put the"):
            open_store(settings_of(copy), create=create)
    assert content(copy) == before


@pytest.mark.parametrize(
    "command", ["key list", "access list", "worker", "doctor", "backup there", "migrate"]
)
def test_no_command_makes_up_for_lost_keys(copy: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    remove(copy / "keys")
    before = content(copy)
    monkeypatch.setenv("SONANT_BACKUP_PASSPHRASE", "a passphrase of some length")
    monkeypatch.chdir(copy.parent)
    done = CliRunner().invoke(main.main, [*command.split(), "--data", str(copy)])
    told = done.output + str(done.exception or "")
    if command != "migrate":  # changes tables and needs no key for that
        assert done.exit_code
        assert "service.key is missing" in told
        assert "put the `keys` folder back from a backup" in told
    assert "sonant serve" not in told
    assert content(copy) == before
    assert not (copy / "keys").exists()
    assert not (copy.parent / "there").exists()


@pytest.mark.parametrize("lost", ["", "keys", "sonant.db", "buckets", "audit", "credentials", "accounts"])
def test_the_doctor_makes_nothing(copy: Path, lost: str) -> None:
    if lost:
        remove(copy / lost)
    before = set(copy.rglob("*"))
    done = CliRunner().invoke(main.main, ["doctor", "--data", str(copy)])
    assert "FAIL" in done.output or lost in ("", "buckets", "credentials"), done.output
    made = {path.name for path in set(copy.rglob("*")) - before}
    assert made <= {"sonant.db-wal", "sonant.db-shm"}, "SQLite's own, while a reader is there"


def test_the_doctor_makes_no_data_folder(tmp_path: Path) -> None:
    done = CliRunner().invoke(main.main, ["doctor", "--data", str(tmp_path / "absent")])
    assert "is not a Sonant data folder; start `sonant serve" in done.output
    assert list(tmp_path.iterdir()) == []


# --- the first start and what it makes


def test_a_first_start_that_is_cut_off_is_carried_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(tmp_path / "data")

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    for step in ("service_key.rename_pending_key", "bootstrap.write_private"):
        with monkeypatch.context() as patched:
            patched.setattr(f"sonant.assembly.installation.{step}", cut_off)
            with pytest.raises(KeyboardInterrupt):
                start(settings)
    start(settings)
    assert (settings.data / "keys" / "service.key").exists()
    assert not (settings.data / "keys" / "service.key.pending").exists()
    assert installation.credentials_file(settings).exists()


def test_a_key_whose_database_does_not_know_it_belongs_to_no_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(tmp_path / "data")
    with monkeypatch.context() as patched:
        patched.setattr(key_checks, "record", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            start(settings)
    pending = settings.data / "keys" / "service.key.pending"
    left = pending.read_bytes()
    start(settings)
    assert (settings.data / "keys" / "service.key").read_bytes() != left
    assert not pending.exists()


def test_a_pending_key_never_takes_the_place_of_one_that_is_there(copy: Path) -> None:
    """Such as one of a start that was cut off, before a backup was copied over it."""
    right = (copy / "keys" / "service.key").read_bytes()
    pending = copy / "keys" / "service.key.pending"
    pending.touch(0o600)
    pending.write_bytes(secrets.token_bytes(32))
    start(settings_of(copy))
    assert (copy / "keys" / "service.key").read_bytes() == right
    (copy / "keys" / "service.key").unlink()
    with pytest.raises(SetupError, match="is not the one that this database was made with"):
        start(settings_of(copy))


def test_users_that_were_deleted_are_not_made_again(copy: Path) -> None:
    with closing(open_store(settings_of(copy)).database) as database, database.write() as connection:
        connection.execute(delete(access_keys))
        connection.execute(delete(principals))
    credentials = (copy / "credentials").read_bytes()
    start(settings_of(copy))
    with closing(open_store(settings_of(copy)).database) as database, database.read() as connection:
        assert access.list_principals(connection) == []
    assert (copy / "credentials").read_bytes() == credentials


def test_a_first_key_without_its_alias_is_not_followed_by_a_second(copy: Path) -> None:
    store = open_store(settings_of(copy))
    with closing(store.database):
        keys = store.accounts.keys(SERVED.account)
        before = [key.key_id for key in keys.list()]
        keys.delete_alias(DEFAULT_ALIAS)
        start(settings_of(copy))
        assert [key.key_id for key in keys.list()] == before


# --- keys of domains


def needed_key(data: Path) -> Path:
    """The file of a key that a domain of the first account has."""
    with closing(open_store(settings_of(data)).database) as database, database.read() as connection:
        found = [
            data / "keys" / f"{one.kms_key_arn.rpartition('/')[2]}.json"
            for one in domains.list_all(connection)
        ]
    return next(path for path in found if path.exists())


def test_a_lost_key_of_a_domain_is_named_with_its_folder(copy: Path) -> None:
    key = needed_key(copy)
    key.unlink()
    with pytest.raises(SetupError) as told:
        start(settings_of(copy))
    assert str(told.value) == (
        f"key {key.stem} is missing from {copy / 'keys'}, and 1 domains cannot be opened without it: put the "
        "`keys` folder back from a backup (`sonant restore` with another --data gives it); if it is lost for "
        f"good, `sonant key accept-loss {key.stem}` lets Sonant start without them"
    )


def test_accepted_key_loss_lasts_until_the_key_is_put_back(copy: Path) -> None:
    key = needed_key(copy)
    saved = key.read_bytes()
    key.unlink()
    done = CliRunner().invoke(main.main, ["key", "accept-loss", key.stem, "--data", str(copy)])
    assert done.exit_code == 0, done.output
    start(settings_of(copy))
    assert not key.exists()
    key.write_bytes(saved)
    key.chmod(0o600)
    store = open_store(settings_of(copy))
    with closing(store.database):
        assert store.keys.describe(key.stem).state == "Enabled"


@pytest.mark.parametrize("ref", ["present", "00000000-0000-4000-8000-000000000000", "nonsense"])
def test_only_a_key_that_was_lost_can_be_given_up(copy: Path, ref: str) -> None:
    before = content(copy)
    wanted = needed_key(copy).stem if ref == "present" else ref
    done = CliRunner().invoke(main.main, ["key", "accept-loss", wanted, "--data", str(copy)])
    assert isinstance(done.exception, SetupError)
    assert "is not one that a domain of this account has lost" in str(done.exception)
    assert content(copy) == before


def test_keys_of_another_kind_are_reported_by_their_setting(copy: Path) -> None:
    with closing(open_store(settings_of(copy)).database) as database, database.write() as connection:
        connection.execute(text("UPDATE domains SET data_key_wrapped = x'0102030405'"))
    with pytest.raises(SetupError, match="have keys of another kind: set `keys` to what it was"):
        start(settings_of(copy))


# --- installations of earlier releases


def make_older(data: Path) -> None:
    """As the release before check values left it: no table of them, no note of destroyed keys, no MACs."""
    with closing(Database(f"sqlite:///{data / 'sonant.db'}")) as database, database.write() as connection:
        with Operations.context(MigrationContext.configure(connection)):
            for name in sorted((path.stem for path in VERSIONS.glob("[0-9]*.py")), reverse=True):
                if name >= "0014":
                    import_module(f"sonant.storage.database.migrations.versions.{name}").downgrade()
        connection.execute(text("UPDATE alembic_version SET version_num = '0013'"))
    for name in ("destroyed.json", RECORD_FILE):
        (data / "keys" / name).unlink()


def test_older_installation_gets_a_check_value_at_its_first_start(copy: Path) -> None:
    make_older(copy)
    start(settings_of(copy))
    store = open_store(settings_of(copy))
    with closing(store.database) as database, database.read() as connection:
        assert key_checks.is_recorded(connection)
        assert key_checks.matches(connection, store.secret)
    assert (copy / "keys" / "destroyed.json").exists(), "what that release destroyed is not taken for lost"


@pytest.mark.parametrize("way", ["serve", "migrate", "doctor"])
@pytest.mark.parametrize("keys", ["lost", "others"])
def test_an_older_installation_with_other_keys_gets_none(copy: Path, keys: str, way: str) -> None:
    make_older(copy)
    if keys == "lost":
        remove(copy / "keys")
    else:
        (copy / "keys" / "service.key").write_bytes(secrets.token_bytes(32))
    done = CliRunner().invoke(main.main, [way, "--data", str(copy)])
    told = done.output + str(done.exception or "")
    assert (way == "migrate" and keys == "lost") or "put the `keys` folder back" in told
    with closing(Database(f"sqlite:///{copy / 'sonant.db'}")) as database, database.read() as connection:
        assert not key_checks.is_recorded(connection)


def test_older_installation_without_domain_keys_gets_no_check_value(copy: Path) -> None:
    make_older(copy)
    for path in (copy / "keys").glob("*.json"):
        path.unlink()
    with pytest.raises(SetupError, match="is missing from"):
        start(settings_of(copy))
    with pytest.raises(SetupError, match="is missing from"):
        start(settings_of(copy))


# --- PostgreSQL, and backups


@pytest.fixture
def on_postgres(tmp_path: Path, postgres_server: Any) -> Iterator[Settings]:
    with postgres_server.migrated() as url:
        settings = replace(settings_of(tmp_path / "data"), database=url)
        testbed = Testbed.open(settings)
        testbed.new_domain()
        testbed.close()
        yield settings


def test_on_postgresql_lost_keys_are_not_made_again(on_postgres: Settings) -> None:
    away = on_postgres.data.with_name("away")
    (on_postgres.data / "keys").rename(away)
    for create in (True, False):
        with pytest.raises(SetupError, match=r"service\.key is missing, and this database cannot be used"):
            open_store(on_postgres, create=create)
    assert not (on_postgres.data / "keys").exists()
    away.rename(on_postgres.data / "keys")
    start(on_postgres)


def test_on_postgresql_another_hosts_folder_is_refused(on_postgres: Settings, tmp_path: Path) -> None:
    other = replace(on_postgres, data=tmp_path / "elsewhere")
    with pytest.raises(SetupError, match=r"service\.key is missing"):
        open_store(other, create=True)
    (other.data / "keys").mkdir(mode=0o700)
    shutil.copy(on_postgres.data / "keys" / "service.key", other.data / "keys")
    with pytest.raises(SetupError, match=r"key .* is missing from .*elsewhere"):
        open_store(other, create=True)


def test_a_lost_postgresql_database_is_not_begun_anew(on_postgres: Settings, postgres_server) -> None:
    with postgres_server.migrated() as empty:
        lost = replace(on_postgres, database=empty)
        before = content(lost.data)
        for create in (True, False):
            with pytest.raises(SetupError, match=r"the database is empty, but .*service.key shows"):
                open_store(lost, create=create)
        assert content(lost.data) == before


def test_a_backup_that_its_keys_do_not_open_is_not_restored(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one of an earlier release, which looked at nothing."""
    (copy / "keys" / "service.key").write_bytes(secrets.token_bytes(32))
    file, new = tmp_path / "file.backup", settings_of(tmp_path / "new")
    with monkeypatch.context() as patched:
        patched.setattr(
            backup_create, "open_store", lambda _: SimpleNamespace(database=SimpleNamespace(close=int))
        )
        backup_create.create(settings_of(copy), file, b"a passphrase", now)
    with pytest.raises(SetupError, match="is not the one that this database was made with"):
        backup_restore.restore(new, file, b"a passphrase")
    assert {path.name for path in tmp_path.iterdir()} == {"data", "file.backup"}


def test_readiness_follows_the_folder_of_the_keys(copy: Path) -> None:
    store = open_store(settings_of(copy))
    with closing(store.database):
        usable = Readiness(store, None, lambda: 0.0)
        usable()
        away = (copy / "keys").rename(copy.with_name("away"))
        with pytest.raises(KeysUnreachable, match="is gone: put it back"):
            usable()
        away.rename(copy / "keys")
        usable()


def test_a_backup_is_not_made_of_what_its_keys_do_not_open(copy: Path, tmp_path: Path) -> None:
    (copy / "keys" / "service.key").write_bytes(secrets.token_bytes(32))
    with pytest.raises(SetupError, match="is not the one that this database was made with"):
        backup_create.create(settings_of(copy), tmp_path / "file.backup", b"a passphrase", now)
    assert not (tmp_path / "file.backup").exists()
