"""Things broken by hand: `sonant doctor` names each, says what to do, and leaves nothing behind."""

from __future__ import annotations

import http.server
import itertools
import json
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from aws_servers import certificate, free_port
from click.testing import CliRunner
from operations_testbed import MovedClock, Operations
from sqlite_template import put_tables
from starlette.applications import Starlette
from starlette.testclient import TestClient
from waiting import wait_until

from sonant.assembly.readiness import Readiness
from sonant.backup.create import create
from sonant.cli import main
from sonant.cli.checks import asking_once, database, keys, people, places, running, upkeep
from sonant.errors import SetupError, SonantError
from sonant.events import outbox
from sonant.events.documents import fraudster_protection_event
from sonant.events.outbox import Outbox
from sonant.gateway.health import Health
from sonant.settings import S3, Backup, Events, Gateway, Jobs, Kms, Metrics, Ray, Settings
from sonant.storage.repositories import access, domains, jobs
from sonant.storage.times import now


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "data", jobs=Jobs(workers=1))


@pytest.fixture
def testbed(settings: Settings) -> Iterator[Operations]:
    put_tables(settings.data / "sonant.db")
    made = Operations(settings, MovedClock(now()))
    yield made
    made.close()


def names(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if not path.name.startswith("sonant.db-")}


# --- places


def test_every_place_is_written_and_nothing_stays(testbed: Operations) -> None:
    before = names(testbed.settings.data)
    assert places.check_writing(testbed.settings).startswith("a file written and read in ")
    assert names(testbed.settings.data) == before


@pytest.mark.parametrize(("least", "told"), [(1 << 60, "less than"), (0, " free")])
def test_a_full_disk_needs_a_hand(testbed: Operations, least: int, told: str) -> None:
    if not least:
        assert told in places.check_data_folder(testbed.settings, least)
        return
    with pytest.raises(SetupError, match=told) as found:
        places.check_data_folder(testbed.settings, least)
    assert "remove" not in str(found.value), "no advice that destroys evidence"


def test_a_place_that_cannot_be_written_is_named(
    testbed: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = testbed.settings.data / "audit"
    audit.mkdir(mode=0o700)
    # Root writes through every mode, so the folder is taken away under the check's feet.
    monkeypatch.setattr(places, "places", lambda _: [audit / "gone"])
    with pytest.raises(SetupError, match="cannot be written: No such file or directory"):
        places.check_writing(testbed.settings)


@pytest.mark.parametrize(
    ("opened", "mode"),
    [(".", 0o755), ("sonant.db", 0o640), ("credentials.administrator", 0o604), ("keys/service.key", 0o660)],
)
def test_open_modes_are_named_with_what_to_do(testbed: Operations, opened: str, mode: int) -> None:
    data = testbed.settings.data
    assert places.check_modes(testbed.settings) == "the owner's alone"
    (data / opened).chmod(mode)
    with pytest.raises(SetupError, match="run chmod -R go= ") as found:
        places.check_modes(testbed.settings)
    assert str((data / opened).resolve()) in str(found.value)


def test_the_group_of_a_mounted_folder_is_no_fault(testbed: Operations) -> None:
    testbed.settings.data.chmod(0o770)
    assert places.check_modes(testbed.settings) == "the owner's alone"


# --- database and keys


def test_the_database_is_written_on_trial_and_stays_the_same(testbed: Operations) -> None:
    testbed.new_domain()
    assert database.check_database(testbed.settings) == "1 domains, 0 speakers"
    with testbed.store.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM counters").scalar() == 0


def test_every_domain_is_opened(testbed: Operations) -> None:
    testbed.new_domain()
    assert keys.check_domain_keys(testbed.settings) == "1 of 1 domains opened with their keys"


def test_a_key_that_was_disabled_is_counted_and_no_fault(testbed: Operations) -> None:
    testbed.new_domain()
    testbed.store.accounts.keys(testbed.settings.account).disable("alias/sonant")
    told = keys.check_domain_keys(testbed.settings)
    assert told.startswith("0 of 1 domains opened with their keys; 1 have a key that was disabled")


def test_a_damaged_data_key_is_named_with_its_domain(testbed: Operations) -> None:
    domain_id = testbed.new_domain()
    with testbed.store.database.write() as connection:
        domain = domains.find_by_id(connection, domain_id)
        assert domain is not None
        wrapped = bytearray(domain.data_key_wrapped)
        wrapped[-1] ^= 1
        assert domains.set_wrapped_key(connection, domain, bytes(wrapped))
    with pytest.raises(SetupError, match=f"domain {domain_id} cannot be opened: .*restore a backup"):
        keys.check_domain_keys(testbed.settings)


def test_readiness_and_doctor_agree_about_lost_keys(testbed: Operations) -> None:
    testbed.new_domain()
    ready = Readiness(testbed.store, None, lambda: 0.0)
    ready()
    for file in (testbed.settings.data / "keys").glob("*-*.json"):
        file.unlink()
    with pytest.raises(SetupError, match="is missing from"):
        Readiness(testbed.store, None, lambda: 0.0)()
    with pytest.raises(SonantError, match="is missing from"):
        keys.check_key_store(testbed.settings)


def test_readiness_tells_of_a_full_disk(testbed: Operations) -> None:
    ready = Readiness(testbed.store, None, lambda: 0.0, least_free_bytes=1 << 60)
    with pytest.raises(SetupError, match="MiB free: give it more space"):
        ready()


# --- users


def test_a_held_lock_for_writing_is_not_ready(testbed: Operations) -> None:
    clock = itertools.count(0.0, 60.0)  # so that no answer is kept
    health = Health(Readiness(testbed.store, None, lambda: 0.0), clock.__next__, answer_s=0.2)
    with TestClient(Starlette(routes=health.routes())) as client:
        with closing(sqlite3.connect(testbed.settings.data / "sonant.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert client.get("/health/ready").status_code == 503
            other.execute("ROLLBACK")
        wait_until("it is ready again", lambda: client.get("/health/ready").status_code == 200)


def test_a_lost_administrator_is_missed(testbed: Operations) -> None:
    assert (
        people.check_administrators(testbed.settings) == "1 of the users with an access key may do everything"
    )
    with testbed.store.database.write() as connection:
        arn = f"arn:aws:iam::{testbed.settings.account}:user/sonant"
        for key in access.list_access_keys(connection):
            if key.principal_arn == arn:
                access.set_active(connection, key.access_key_id, False)
    with pytest.raises(SetupError, match="no user with an active access key may do everything"):
        people.check_administrators(testbed.settings)


def test_an_access_key_of_a_file_that_is_gone_is_named(testbed: Operations) -> None:
    with testbed.store.database.write() as connection:
        (key,) = [
            key for key in access.list_access_keys(connection) if key.principal_arn.endswith("application")
        ]
        access.delete_access_key(connection, key.access_key_id)
    with pytest.raises(SetupError, match=f"{key.access_key_id} of the profile default in .* does not exist"):
        people.check_administrators(testbed.settings)


# --- upkeep


def test_an_old_backup_is_named(testbed: Operations, tmp_path: Path) -> None:
    settings = testbed.settings
    assert upkeep.check_backup(settings) == "there is nothing to back up yet"
    testbed.new_domain()
    assert upkeep.check_backup(settings) == "`sonant backup` has made none"
    made = now() - timedelta(days=8)
    create(settings, tmp_path / "backup", b"a passphrase", lambda: made)
    with pytest.raises(SetupError, match=f"the last backup was made on {made:%Y-%m-%d}.*make one with"):
        upkeep.check_backup(settings)
    assert upkeep.check_backup(replace(settings, backup=Backup(most_days=0))).startswith("the last backup")
    create(settings, tmp_path / "newer", b"a passphrase", now)
    assert upkeep.check_backup(settings).startswith("the last backup was made on")


@pytest.mark.parametrize(
    ("submitted_ago", "lease_ends_in", "late"),
    [
        (timedelta(minutes=1), None, False),
        (timedelta(minutes=11), None, True),
        (timedelta(hours=2), timedelta(seconds=10), False),
        (timedelta(hours=2), -timedelta(minutes=11), True),
        (timedelta(hours=2), timedelta(days=30), True),  # a clock that was wrong
    ],
)
def test_a_job_without_a_runner_is_named(
    testbed: Operations, submitted_ago: timedelta, lease_ends_in: timedelta | None, late: bool
) -> None:
    domain_id, job_id = testbed.new_domain(), "J" * 22
    with testbed.store.database.write() as connection:
        jobs.insert_job(
            connection,
            job_id=job_id,
            kind=jobs.ENROLLMENT,
            domain_id=domain_id,
            name_sealed=None,
            role_arn="arn:aws:iam::000000000000:role/sonant",
            input_uri="s3://jobs/manifest.json",
            output_uri="s3://results",
            output_kms_key=None,
            config={},
            now=now() - submitted_ago,
        )
        if lease_ends_in is not None:
            lease = timedelta(seconds=20)
            jobs.claim(connection, [jobs.ENROLLMENT], "gone", now() + lease_ends_in - lease, lease)
    if late:
        with pytest.raises(SetupError, match=f"jobs without a runner: {job_id} since .*sonant worker"):
            upkeep.check_jobs(testbed.settings)
    else:
        assert upkeep.check_jobs(testbed.settings).endswith("jobs wait for a runner")


def test_jobs_that_wait_while_runners_are_busy_need_no_hand(testbed: Operations) -> None:
    domain_id = testbed.new_domain()
    with testbed.store.database.write() as connection:
        for number, job_id in enumerate(("L" * 22, "M" * 22)):
            jobs.insert_job(
                connection,
                job_id=job_id,
                kind=jobs.ENROLLMENT,
                domain_id=domain_id,
                name_sealed=None,
                role_arn="arn:aws:iam::000000000000:role/sonant",
                input_uri="s3://jobs/manifest.json",
                output_uri="s3://results",
                output_kms_key=None,
                config={},
                now=now() - timedelta(hours=2, minutes=-number),
            )
        jobs.claim(connection, [jobs.ENROLLMENT], "busy", now(), timedelta(seconds=20))
    assert upkeep.check_jobs(testbed.settings) == "1 jobs wait while runners work on 1"


@pytest.mark.parametrize(("age", "late"), [(timedelta(minutes=5), False), (timedelta(hours=2), True)])
def test_events_that_wait_for_a_sink_are_named(testbed: Operations, age: timedelta, late: bool) -> None:
    settings = replace(testbed.settings, events=Events(sinks="webhook"))
    domain_id = testbed.new_domain()
    with testbed.store.database.write() as connection:
        domain = domains.find_by_id(connection, domain_id)
        assert domain is not None
        outbox.add_sink(connection, "webhook")
        event = fraudster_protection_event(
            domain, "UNLOCK_FRAUDSTER", fraudster_id="id#" + "F" * 22, principal_arn=None
        )
        Outbox(enabled=True).put(connection, [event], now() - age)
    if late:
        with pytest.raises(SetupError, match="1 events wait for the sink webhook, the oldest since"):
            upkeep.check_events(settings)
    else:
        assert upkeep.check_events(settings) == "1 wait for webhook"
    assert upkeep.check_events(testbed.settings) == "no sinks"


# --- what runs


@pytest.mark.parametrize(
    ("begins_in", "ends_in", "told"),
    [
        (-timedelta(days=90), -timedelta(days=1), "has expired on"),
        (timedelta(days=1), timedelta(days=90), "is not valid before"),
        (-timedelta(days=80), timedelta(days=10), "expires on .*put its successor in its place"),
        (-timedelta(days=1), timedelta(days=89), None),
    ],
)
def test_a_certificate_is_looked_at(
    settings: Settings, tmp_path: Path, begins_in: timedelta, ends_in: timedelta, told: str | None
) -> None:
    file = certificate(tmp_path / "certificate.pem", now() + begins_in, now() + ends_in)
    served = replace(settings, gateway=Gateway(tls_certificate=str(file), tls_key=str(file)))
    if told is None:
        assert "valid until" in running.check_certificate(served)
        return
    with pytest.raises(SetupError, match=told):
        running.check_certificate(served)


def test_a_clock_behind_what_is_stored_is_skewed(settings: Settings) -> None:
    put_tables(settings.data / "sonant.db")
    testbed = Operations(settings, MovedClock(now() + timedelta(hours=3)))
    with closing(testbed.store.database):
        assert running.check_clock(settings).endswith("not before anything stored")
        testbed.new_domain()
        with pytest.raises(SetupError, match="s behind the newest entry of the database: set it"):
            running.check_clock(settings)


@contextmanager
def answering(status: int, document: dict[str, str], date: datetime | None = None) -> Iterator[str]:
    """Serve one answer to every GET; gives the URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(document).encode()
            self.send_response_only(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Date", format_datetime(date or datetime.now(UTC), usegmt=True))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()
            seen.append(self.headers.get("Authorization", ""))

        def log_message(self, *_: object) -> None:
            pass

    seen: list[str] = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def test_s3_that_answers_is_reached_whatever_it_says(settings: Settings) -> None:
    with answering(403, {}) as url:
        remote = replace(settings, objects="s3", s3=S3(endpoint=url), keys="aws-kms", kms=Kms(endpoint=url))
        assert running.check_remote(remote) == "s3 and kms answer"
    assert running.check_remote(settings) == "none in use"


def test_s3_out_of_reach_is_named(settings: Settings) -> None:
    remote = replace(settings, objects="s3", s3=S3(endpoint=f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(SetupError, match=r"does not answer within 5 s: check s3\.endpoint"):
        running.check_remote(remote)


def test_a_cluster_out_of_reach_is_named(settings: Settings) -> None:
    assert running.check_cluster(settings) == "none in use"
    away = replace(settings, engine="ray", ray=Ray(address=f"127.0.0.1:{free_port()}"))
    with pytest.raises(SetupError, match=r"takes no connection \(.*refused\).*check ray\.address"):
        running.check_cluster(away)
    with socket.create_server(("127.0.0.1", 0)) as head:
        there = replace(settings, engine="ray", ray=Ray(address=f"127.0.0.1:{head.getsockname()[1]}"))
        assert running.check_cluster(there).endswith("takes connections")
    assert running.check_cluster(replace(settings, engine="ray", ray=Ray(address="auto")))


def test_a_database_that_is_away_is_waited_for_once(settings: Settings) -> None:
    away = replace(settings, database=f"postgresql://sonant@127.0.0.1:{free_port()}/sonant")
    with asking_once():
        with pytest.raises(SonantError, match=r"the database cannot be used: .*refused"):
            database.check_database(away)
        for check in (upkeep.check_jobs, upkeep.check_backup, running.check_clock):
            with pytest.raises(SetupError, match="not checked, because the database cannot be used"):
                check(away)
    with pytest.raises(SonantError, match=r"cannot be used: .*refused"):
        upkeep.check_jobs(away)


def test_a_clock_apart_from_that_of_s3_is_named(settings: Settings) -> None:
    with answering(403, {}, now() - timedelta(hours=1)) as url:
        remote = replace(settings, objects="s3", s3=S3(endpoint=url))
        with pytest.raises(SetupError, match=r"clock is 3,[56]\d\d s ahead of the clock of http"):
            running.check_remote(remote)


def test_a_service_that_is_not_ready_is_asked_why(settings: Settings) -> None:
    settings.data.mkdir()
    assert running.check_service(settings) == "none runs on this folder"
    with answering(503, {"status": "unavailable", "reason": "the keys are gone"}) as url:
        (settings.data / "endpoint").write_text(url + "\n")
        with pytest.raises(SetupError, match="is not ready: the keys are gone"):
            running.check_service(replace(settings, metrics=Metrics(token="t" * 16)))
    with answering(200, {"status": "ready"}) as url:
        (settings.data / "endpoint").write_text(url + "\n")
        assert running.check_service(settings) == f"ready at {url}"
    (settings.data / "endpoint").write_text(f"http://127.0.0.1:{free_port()}\n")
    with pytest.raises(SetupError, match="does not answer within"):
        running.check_service(settings)


# --- the command


def test_the_document_has_each_check_and_the_exit_code_agrees(testbed: Operations) -> None:
    testbed.close()
    (testbed.settings.data / "audit").mkdir(mode=0o700)  # no service has run here
    done = CliRunner().invoke(main.main, ["doctor", "--output", "json", "--data", str(testbed.settings.data)])
    document = json.loads(done.stdout)
    assert done.exit_code == (0 if document["Healthy"] else 1)
    failed = {check["Name"]: check["Message"] for check in document["Checks"] if not check["Passed"]}
    # The machine that runs the tests may have a nearly full disk.
    assert set(failed) <= {"data folder"}, failed
    (testbed.settings.data / "sonant.db").chmod(0o644)
    done = CliRunner().invoke(main.main, ["doctor", "--output", "json", "--data", str(testbed.settings.data)])
    assert done.exit_code == 1
    assert {"Name": "modes", "Passed": False} in [
        {name: check[name] for name in ("Name", "Passed")} for check in json.loads(done.stdout)["Checks"]
    ]
