"""An installation that works through a year in minutes: real parts, a clock that is moved, a scaled load.

Each day the service is started again, calls are made over HTTP, sessions hold speech, a job enrolls speakers
and others are deleted, events are delivered, and what is due with time is done. What an operator has to do,
and no more, is done by the documented commands, in processes of their own with the same clock.
"""

from __future__ import annotations

import configparser
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from batch_testbed import Testbed
from batch_values import entry
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from instant_runner import work
from service_process import Ended, ended, environment
from sessions_testbed import store_speech
from signed_http import JSON_1_0, Signer
from sqlalchemy import func, select
from starlette.testclient import TestClient
from waiting import wait_until

from sonant.assembly import jobs as app_jobs
from sonant.assembly.installation import Store
from sonant.assembly.service import build_app
from sonant.events import outbox
from sonant.jobs.workers.engines.local import MESSAGE_MOST, LocalEngine
from sonant.settings import Settings
from sonant.storage import times
from sonant.storage.database.schema import events, sessions, speakers

CLOCK = Path(__file__).with_name("chaos_clock")
PASSPHRASE = "a passphrase of several words"
HOST = "http://127.0.0.1:8180"
#: What happens each day.
ENROLLED, DELETED, SESSIONS, READS = 3, 2, 4, 8
#: Speakers are deleted after so many days.
STAYS = timedelta(days=10)
#: What an operator does every so many days: the command, and every when.
CHORES: tuple[tuple[int, tuple[str, ...]], ...] = (
    (7, ("backup",)),
    (30, ("audit", "verify")),
    (30, ("key", "rotate", "alias/sonant")),
    (91, ("key", "rotate", "alias/sonant", "--forget-earlier", "--yes")),
    (91, ("key", "rotate-service")),
    (182, ("key", "renew-templates", "--all")),
    (30, ("audit", "remove", "--reason", "retention: 90 days", "--yes", "--before")),
)
AUDIT_STAYS, BACKUPS_STAY = timedelta(days=90), 5


@dataclass(slots=True)
class MovedClock:
    """The real clock, moved ahead."""

    ahead: timedelta = timedelta()

    def __call__(self) -> datetime:
        return times.now() + self.ahead


@dataclass(frozen=True, slots=True)
class _Clocked:
    """What `store_speech` needs of an installation."""

    store: Store
    clock: MovedClock


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Bytes of the parts of the data folder, and what is in the database."""

    database: int
    audit: int
    events: int
    ledger: int
    speakers: int
    sessions: int
    waiting_events: int


@dataclass(slots=True)
class Year:
    """One installation through its year."""

    settings: Settings
    folder: Path
    """For backups and the clock, beside the data folder."""
    clock: MovedClock = field(default_factory=MovedClock)
    engine: LocalEngine = field(init=False)
    testbed: Testbed = field(init=False)
    domain_id: str = ""
    day: int = 0
    done: Counter[str] = field(default_factory=Counter)
    """How often what was done."""

    def __post_init__(self) -> None:
        os.umask(0o077)  # as all commands do
        self.engine = LocalEngine(work, (), workers=1, time_limit_s=60.0, message_most=MESSAGE_MOST)
        with self._open() as testbed:
            self.domain_id = testbed.new_domain()

    @contextmanager
    def _open(self) -> Iterator[Testbed]:
        """Open the installation, as a start of its processes does."""
        testbed = Testbed.open(self.settings, clock=self.clock, engine=self.engine)
        try:
            self.testbed = testbed
            yield testbed
        finally:
            testbed.store.database.close()

    def close(self) -> None:
        self.engine.close()

    # --- a day

    def live_a_day(self) -> None:
        """Do all that is done in a day."""
        self.day += 1
        self.clock.ahead = timedelta(days=self.day)
        (self.folder / "clock").write_text(str(self.clock.ahead.total_seconds()))
        with self._open() as testbed, closing(build_app(testbed.store)) as app:
            self.done["starts"] += 1
            client = TestClient(app.asgi, base_url=HOST)
            self._enroll()
            self._call(client)
            self._keep_house()
        for every, command in CHORES:
            if self.day % every == 0:
                self.chore(command)

    def _enroll(self) -> None:
        names = [f"customer-{self.day}-{number}" for number in range(ENROLLED)]
        requests = [entry(name, name, f"s3://calls/{name}.wav") for name in names]
        outcome = self.testbed.enroll(self.domain_id, requests)
        assert set(outcome.successes.values()) == {"NEW_ENROLLMENT"}, outcome
        self.done["jobs"] += 1
        self.done["enrollments"] += len(names)

    def _call(self, client: TestClient) -> None:
        gone = self.day - STAYS.days
        for number in range(DELETED if gone > 0 else 0):
            self._ask(client, "DeleteSpeaker", SpeakerId=f"customer-{gone}-{number}")
        for number in range(READS):
            speaker = f"customer-{self.day}-{number % ENROLLED}"
            self._ask(client, "DescribeSpeaker", SpeakerId=speaker)
        vectors = np.random.default_rng(self.day)
        for number in range(SESSIONS):
            name = f"call-{self.day}-{number}"
            speaker = f"customer-{self.day}-{number % ENROLLED}"
            self._ask(client, "StartSession", SessionName=name, SpeakerId=speaker)
            store_speech(
                _Clocked(self.testbed.store, self.clock),
                self.domain_id,
                name,
                unit_vector(vectors),
            )
            self._ask(client, "EvaluateSession", SessionNameOrId=name)

    def _ask(self, client: TestClient, operation: str, **request: Any) -> None:
        own = operation == "StartSession"
        body = json.dumps({"DomainId": self.domain_id, **request}).encode()
        target = f"{'Sonant' if own else 'VoiceID'}.{operation}"
        headers = self._headers(target, body)
        answer = client.post("/", content=body, headers=headers)
        assert answer.status_code == 200, (operation, answer.text)
        self.done[operation] += 1

    def _headers(self, target: str, body: bytes) -> dict[str, str]:
        given = {"Host": "127.0.0.1:8180", "X-Amz-Target": target, "Content-Type": JSON_1_0}
        request = AWSRequest(method="POST", url=f"{HOST}/", data=body, headers=given)
        Signer(self._credentials(), age_s=-self.clock.ahead.total_seconds()).add_auth(request)
        return dict(request.headers.items())

    def _credentials(self) -> Credentials:
        parser = configparser.ConfigParser()
        parser.read(self.settings.data / "credentials.administrator")
        key = parser["administrator"]
        return Credentials(key["aws_access_key_id"], key["aws_secret_access_key"])

    def _keep_house(self) -> None:
        """Deliver events and do what is due, as the runner's threads do."""
        store = self.testbed.store
        dispatcher = app_jobs.build_dispatcher(store, f"day-{self.day}")
        dispatcher.start()
        try:
            wait_until("all events are delivered", lambda: self._waiting_events() == 0)
        finally:
            dispatcher.stop()
        for step in app_jobs.build_housekeeper(store).steps():
            step.run()

    def _waiting_events(self) -> int:
        with self.testbed.store.database.read() as connection:
            return sum(outbox.waiting(connection).values())

    def sizes(self) -> Sizes:
        """Measure the data folder, with the database's log emptied."""
        data = self.settings.data
        with self._open() as testbed:
            testbed.store.database.truncate_wal()
            with testbed.store.database.read() as connection:
                counts = [
                    connection.execute(select(func.count()).select_from(table)).scalar_one()
                    for table in (speakers, sessions, events)
                ]
        folders = [
            sum(file.stat().st_size for file in (data / name).rglob("*") if file.is_file())
            for name in ("audit", "events", "deletions")
        ]
        database = sum(file.stat().st_size for file in data.glob("sonant.db*"))
        return Sizes(
            database=database,
            audit=folders[0],
            events=folders[1],
            ledger=folders[2],
            speakers=counts[0],
            sessions=counts[1],
            waiting_events=counts[2],
        )

    # --- by hand

    def chore(self, command: tuple[str, ...]) -> None:
        """Do what the documents ask an operator to do."""
        name = " ".join(command[:2])
        if command[0] == "backup":
            command = (*command, str(self.folder / f"day-{self.day:03}.backup"))
            for old in sorted(self.folder.glob("day-*.backup"))[: -BACKUPS_STAY + 1]:
                old.unlink()
        if command[-1] == "--before":
            command = (*command, f"{self.clock() - AUDIT_STAYS:%Y-%m-%d}")
        done = self.command(*command)
        assert done.code == 0, (self.day, command, done.out, done.err)
        self.done[name] += 1

    def command(self, *arguments: str) -> Ended:
        """Run a command in a process that has the moved clock."""
        env = environment(
            SONANT_DATA=str(self.settings.data),
            SONANT_EVENTS_SINKS=self.settings.events.sinks,
            SONANT_BACKUP_PASSPHRASE=PASSPHRASE,
            CHAOS_CLOCK=str(self.folder / "clock"),
            PYTHONPATH=str(CLOCK),
        )
        return ended([sys.executable, "-m", "sonant", *arguments], env, self.folder)


def unit_vector(draws: np.random.Generator) -> Any:
    """Draw a voice."""
    vector = draws.normal(size=256).astype(np.float32)
    return vector / np.linalg.norm(vector)
