"""Wrong use of every command: one sentence on standard error, the right exit code, never a traceback."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from service_process import BIN, Ended, ServiceProcess, ended, environment
from tampering import altered

import sonant

NOBODY = "AbCdEfGhIjKlMnOpQrStUv"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("key describe alias/nobody", "key 'alias/nobody' does not exist"),
        ("key describe ../../credentials", "does not exist"),
        ("key create --alias no-alias", "'no-alias' is not an alias"),
        ("key create --alias alias/aws/mine", "alias/aws/ is reserved"),
        ("key create --alias alias/sonant", "alias alias/sonant is taken"),
        ("key alias alias/new", "name the key that the alias is for"),
        ("key alias alias/nobody --delete", "alias 'alias/nobody' does not exist"),
        ("key disable nobody", "does not exist"),
        ("key schedule-deletion alias/sonant --days 6 --yes", "7 to 30 days, not 6"),
        ("key schedule-deletion alias/sonant --days 31 --yes", "7 to 30 days, not 31"),
        ("key cancel-deletion alias/sonant", "is not pending deletion"),
        ("access disable AKIANOBODY", "there is no access key AKIANOBODY"),
        ("access create --profile a]b", "a profile's name"),
        ("access create --profile DEFAULT", "a profile's name"),
        ("object ls nonsense", "does not begin with s3://"),
        ("object ls s3://absent-bucket/", "there is no such bucket"),
        ("object get s3://absent-bucket/x", "there is no such bucket"),
        ("object get s3://calls/absent", "there is no such object"),
        ("object put /dev/null s3://calls/x", "/dev/null is not a file"),
        ("object put {python} s3://calls/x --kms-key alias/nobody", "key 'alias/nobody' does not exist"),
        (f"job watch {NOBODY}", f"no domain has a job {NOBODY}"),
        (f"job watch {NOBODY} --domain-id short", "Invalid length for parameter DomainId"),
        (f"job watch {NOBODY} --domain-id {NOBODY}", f"the domain {NOBODY} has no job {NOBODY}"),
        ("key list --data {python}", "is not a Sonant data folder"),
        ("key list --data /nowhere/at/all", "is not a Sonant data folder"),
        ("key list --config /nowhere/sonant.toml", "settings file /nowhere/sonant.toml does not exist"),
        ("key list --config {python}", "cannot be read"),
        ("serve --port 99999 --data {new}", "gateway.port is 99999, must be a whole number from 0 to 65,535"),
        ("serve --host not.a.host.invalid --data {new}", "would serve plain HTTP on not.a.host.invalid"),
        ("serve --data {python}", "cannot be made"),
    ],
)
def test_fault_prints_one_sentence_and_exits_1(
    service: ServiceProcess, tmp_path: Path, command: str, told: str
) -> None:
    words = command.format(python=sys.executable, new=tmp_path / "new").split()
    done = service.sonant(*words)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("sonant: ")
    assert told in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    "command",
    [
        "nonsense",
        "--nonsense",
        "serve --port many",
        "serve somewhere",
        "key",
        "key nonsense",
        "key describe",
        "key schedule-deletion x --days soon",
        "object put",
        "object put /nowhere/file s3://calls/x",
        "job watch",
        "access disable",
    ],
)
def test_wrong_usage_exits_2(service: ServiceProcess, command: str) -> None:
    done = service.sonant(*command.split())
    assert (done.code, done.out) == (2, "")
    assert "Usage: sonant" in done.err


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("SONANT_GATEWAY_PORT", "abc", "gateway.port is 'abc', must be a whole number from 0 to 65,535"),
        ("SONANT_OBJECTS", "tape", "SONANT_OBJECTS: objects is 'tape', must be one of: local"),
        ("SONANT_ACCOUNT", "12", "must be 12 digits"),
        ("SONANT_GATEWAY_PROT", "1", "did you mean SONANT_GATEWAY_PORT?"),
        ("SONANT_CONFIG", "/nowhere.toml", "/nowhere.toml does not exist"),
    ],
)
def test_wrong_setting_error_names_its_source(
    service: ServiceProcess, variable: str, value: str, told: str
) -> None:
    for command in (["key", "list"], ["voice-id", "list-domains"]):
        done = service.sonant(*command, **{variable: value})
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith("sonant: ")
        assert told in done.err


# --- version and doctor -------------------------------------------------------------------------------


def test_version_is_printed(service: ServiceProcess) -> None:
    for command in ("version", "--version"):
        done = service.sonant(command)
        assert (done.code, done.out, done.err) == (0, f"sonant {sonant.__version__}\n", "")


def checks(done: Ended) -> dict[str, str]:
    """What `sonant doctor` says of each thing that it looks at."""
    assert done.err == ""
    lines = [line.partition(":") for line in done.out.splitlines()]
    return {name.partition(" ")[2].strip(): name.partition(" ")[0] for name, _, _ in lines}


def test_a_healthy_installation(service: ServiceProcess) -> None:
    done = service.sonant("doctor")
    assert done.code == 0
    assert set(checks(done).values()) == {"ok"}
    for name in ("settings", "service model", "voice models", "data folder", "database", "keys", "buckets"):
        assert name in checks(done)


@pytest.fixture
def data_copy(service: ServiceProcess, tmp_path: Path) -> Path:
    """A data folder to break."""
    copy = tmp_path / "data"
    ignored = shutil.ignore_patterns("*.lock", "endpoint", "sonant.db*", "buckets")
    shutil.copytree(service.data, copy, ignore=ignored)
    with (
        closing(sqlite3.connect(service.data / "sonant.db")) as running,
        closing(sqlite3.connect(copy / "sonant.db")) as copied,
    ):
        running.backup(copied)
    (copy / "buckets").mkdir()
    (copy / "buckets").chmod(0o700)
    return copy


def open_keys(data: Path) -> None:
    (data / "keys").chmod(0o755)


def damage_secret(data: Path) -> None:
    (data / "keys" / "service.key").write_bytes(b"short")


def damage_database(data: Path) -> None:
    (data / "sonant.db").write_bytes(b"this is no database")


def damage_page(data: Path) -> None:
    """One page of a table in the middle of the file."""
    path = data / "sonant.db"
    with closing(sqlite3.connect(path)) as database:
        (page,) = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'principals'").fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


def lose_keys(data: Path) -> None:
    shutil.rmtree(data / "keys")


def empty_database(data: Path) -> None:
    (data / "sonant.db").write_bytes(b"")


def lose_database(data: Path) -> None:
    (data / "sonant.db").unlink()


def damage_keys(data: Path) -> None:
    for file in (data / "keys").glob("*-*.json"):
        file.write_text("{")


def replace_buckets(data: Path) -> None:
    (data / "buckets").rmdir()
    (data / "buckets").write_text("")


@pytest.mark.parametrize(
    ("breaking", "failing", "told"),
    [
        (open_keys, "keys", "run chmod 700"),
        (damage_secret, "database", "service.key is damaged: restore it from a backup"),
        (damage_database, "database", "file is not a database; restore a backup into another data folder"),
        (damage_page, "database", "the database is damaged"),
        (lose_keys, "database", "service.key is missing, and this database cannot be used without it"),
        (empty_database, "database", "is missing, but"),
        (lose_database, "database", "put the database back, or restore a backup into another folder"),
        (damage_keys, "keys", "is damaged (not JSON): restore it from a backup"),
        (replace_buckets, "buckets", "is not a folder"),
    ],
)
def test_doctor_reports_damage_and_repair(
    service: ServiceProcess, data_copy: Path, breaking: Callable[[Path], None], failing: str, told: str
) -> None:
    breaking(data_copy)
    done = service.sonant("doctor", "--data", str(data_copy))
    assert done.code == 1
    assert checks(done)[failing] == "FAIL"
    assert told in done.out


@pytest.mark.parametrize("command", [("doctor",), ("access", "list"), ("worker",)], ids=" ".join)
def test_lost_database_is_reported_and_not_replaced(
    service: ServiceProcess, data_copy: Path, command: tuple[str, ...]
) -> None:
    lose_database(data_copy)
    done = service.sonant(*command, "--data", str(data_copy))
    assert done.code == 1
    assert f"the database {data_copy / 'sonant.db'} is missing" in done.out + done.err
    assert "sonant serve" not in done.out + done.err
    assert list(data_copy.glob("sonant.db*")) == []


def test_doctor_continues_with_wrong_settings(service: ServiceProcess) -> None:
    done = service.sonant("doctor", SONANT_JOBS_WORKERS="-1")
    assert done.code == 1
    found = checks(done)
    assert found.pop("settings") == "FAIL"
    assert found
    assert set(found.values()) == {"ok"}


@pytest.mark.slow
def test_doctor_finds_a_damaged_voice_model(service: ServiceProcess, tmp_path: Path) -> None:
    package = tmp_path / "package" / "sonant"
    assert sonant.__file__
    shutil.copytree(Path(sonant.__file__).parent, package)
    model = package / "voice" / "models" / "ge2e.onnx"
    model.write_bytes(altered(model.read_bytes()))

    done = ended(
        [sys.executable, "-m", "sonant", "doctor"],
        environment(SONANT_DATA=str(service.data), PYTHONPATH=str(package.parent)),
        cwd=tmp_path,
    )

    assert done.code == 1
    assert checks(done)["voice models"] == "FAIL"
    assert "ge2e.onnx has sha256" in done.out
    assert "reinstall sonant" in done.out


def test_nothing_is_written_outside_the_data_folder(service: ServiceProcess, tmp_path: Path) -> None:
    # The voice models' runtime would note an id of the machine in the home folder, and report under it.
    done = ended(
        [str(BIN / "sonant"), "doctor"],
        {**environment(SONANT_DATA=str(service.data)), "HOME": str(tmp_path), "CI": ""},
        cwd=tmp_path,
    )
    assert checks(done)["voice models"] == "ok"
    assert list(tmp_path.rglob("*")) == []


def test_closed_pipe_prints_no_error(service: ServiceProcess) -> None:
    done = ended(
        ["bash", "-c", f"set -o pipefail; {BIN / 'sonant'} doctor | head -1"],
        environment(SONANT_DATA=str(service.data)),
        cwd=service.data.parent,
    )
    assert done.out.startswith("ok ")
    assert done.err == ""
