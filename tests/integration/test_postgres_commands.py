"""Commands on PostgreSQL: `sonant migrate`, and audit trails of several processes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner
from cluster_testbed import Cluster

from sonant.assembly.installation import open_store, own_audit_folder
from sonant.cli.main import main
from sonant.errors import SetupError
from sonant.settings import Settings


@pytest.fixture
def sonant(tmp_path, monkeypatch):
    """Runs a command on a data folder: its exit code, and what it printed or was ended by."""
    monkeypatch.setenv("SONANT_DATA", str(tmp_path / "data"))

    def run(*words):
        done = CliRunner().invoke(main, words)
        return done.exit_code, str(done.exception or done.stdout) if done.exit_code else done.stdout

    return run


def test_a_service_waits_for_the_tables_that_migrate_makes(sonant, postgres_server, monkeypatch):
    with postgres_server.empty() as url:
        monkeypatch.setenv("SONANT_DATABASE", url)
        for command in ("serve", "worker"):
            code, told = sonant(command)
            assert code == 1
            assert "sonant migrate" in told or "not a Sonant data folder" in told
        assert sonant("migrate") == (0, "the database is up to date\n")
        assert sonant("migrate") == (0, "the database is up to date\n")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_data_folder_of_another_database_is_refused(kept, tmp_path):
    other = replace(kept.settings, data=tmp_path / "elsewhere")
    with pytest.raises(SetupError, match=r"service\.key is missing"):
        open_store(other, create=True)
    (other.data / "keys").mkdir(mode=0o700)
    (other.data / "keys" / "service.key").touch(0o600)
    (other.data / "keys" / "service.key").write_bytes(bytes(32))
    with pytest.raises(SetupError, match="not the one that this database was made with"):
        open_store(other, create=True)
    open_store(kept.settings).database.close()


def test_migrate_is_good_for_sqlite_too(sonant, tmp_path):
    assert sonant("migrate") == (0, "the database is up to date\n")
    assert (tmp_path / "data" / "sonant.db").exists()


def test_each_process_has_an_audit_chain_and_continues_it(tmp_path):
    settings = Settings(data=tmp_path, database="postgresql://nobody@127.0.0.1:1/none")
    with own_audit_folder(settings) as first, own_audit_folder(settings) as second:
        assert first == tmp_path / "audit"
        assert second == tmp_path / "audit" / "process-2"
    with own_audit_folder(settings) as again:
        assert again == first


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_the_trails_of_two_services_are_shown_and_checked_together(kept, sonant, monkeypatch, database_url):
    monkeypatch.setenv("SONANT_DATABASE", database_url)
    cluster = Cluster(kept, SONANT_RATES_FACTOR="0")
    try:
        one, other = cluster.service(), cluster.service()
        domain_id = kept.new_domain()
        for client, customer in ((one, "customer-1"), (other, "customer-2"), (one, "customer-3")):
            client.opt_out_speaker(DomainId=domain_id, SpeakerId=customer)
        with pytest.raises(ClientError):
            other.describe_speaker(DomainId=domain_id, SpeakerId="nobody")
    finally:
        cluster.close()
    code, told = sonant("audit", "verify")
    assert code == 0
    assert told.count("whole: ") == 2
    heads = [line.rpartition(" ")[2] for line in told.splitlines()]
    assert sonant("audit", "verify", "--head", heads[1])[0] == 0
    assert sonant("audit", "verify", "--head", "f" * 64)[0] == 1
    shown = [json.loads(line) for line in sonant("audit", "show", "--json")[1].splitlines()]
    assert [record["eventName"] for record in shown].count("OptOutSpeaker") == 3
    assert [record["eventTime"] for record in shown] == sorted(record["eventTime"] for record in shown)
    trail = next((kept.settings.data / "audit" / "process-2").glob("*.jsonl"))
    trail.write_bytes(trail.read_bytes().replace(b"OptOutSpeaker", b"OptInSpeaker!"))
    assert sonant("audit", "verify")[0] == 1


def test_too_many_processes_are_reported(tmp_path, monkeypatch):
    monkeypatch.setattr("sonant.assembly.installation.folders.MOST_PROCESSES", 1)
    settings = Settings(data=tmp_path, database="postgresql://nobody@127.0.0.1:1/none")
    with (
        own_audit_folder(settings),
        pytest.raises(SetupError, match="1 processes write audit trails"),
        own_audit_folder(settings),
    ):
        pass
