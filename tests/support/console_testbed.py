"""The console in the test's own process, and its users: a service without a port, asked by a test client."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Protocol

from made_samples import made_sample
from operations_testbed import ACCOUNT, REGION, MovedClock, Operations, operations_on
from sqlalchemy import Connection
from starlette.testclient import TestClient

from sonant.assembly import installation
from sonant.assembly.service import App, build_app
from sonant.iam import ALLOW_ALL
from sonant.ids import new_generated_id
from sonant.jobs.result import output_name, result_file
from sonant.settings import Console, Rates
from sonant.storage.crypto.vault import Vault
from sonant.storage.database.schema import jobs as jobs_table
from sonant.storage.objects.store import ObjectUri
from sonant.storage.opening import vault_of
from sonant.storage.repositories import access, domains, jobs, speakers, watchlists
from sonant.voice.models import shipped_encoder_id

ROLE = f"arn:aws:iam::{ACCOUNT}:role/calls"
RESULTS = "s3://calls/results/"
#: Where a job reads and writes.
FILES = {
    "DataAccessRoleArn": ROLE,
    "InputDataConfig": {"S3Uri": "s3://calls/manifest.json"},
    "OutputDataConfig": {"S3Uri": RESULTS},
}
#: Any vector of this size would do.
VECTOR = (1 / 16,) * 256

#: Everything but what destroys.
READ_ONLY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": [
                    "voiceid:Describe*",
                    "voiceid:List*",
                    "sonant:Describe*",
                    "sonant:List*",
                    "kms:Decrypt",
                ],
                "Resource": "*",
            }
        ],
    }
)
NOTHING = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}
)


class WebPage(Protocol):
    """An answer to a browser."""

    status_code: int

    @property
    def text(self) -> str: ...

    @property
    def headers(self) -> Mapping[str, str]: ...


@dataclass(slots=True)
class Person:
    """A user with an access key and a browser."""

    web: TestClient
    key_id: str
    secret: str
    base: str
    """Beginning of the paths of the domain's pages."""

    def sign_in(self, path: str = "") -> WebPage:
        form = {"access-key-id": self.key_id, "secret-access-key": self.secret}
        return self.web.post("/sign-in", params={"next": path}, data=form)

    def get(self, path: str = "", **query: str) -> WebPage:
        """Open a page of the domain; a path of its own begins with `/console/` or `/sign-`."""
        return self.web.get(self._path(path), params=query)

    def post(
        self,
        path: str,
        fields: Mapping[str, str] | None = None,
        *,
        page: str | None = None,
        secret: bool = False,
        **more: str,
    ) -> WebPage:
        """Send a form as the page has it, which is the form's path without its last part."""
        shown = self.web.get(self._path(path).rpartition("/")[0] if page is None else self._path(page))
        token = re.search(r'name="token" value="([0-9a-f]+)"', shown.text)
        form = {"token": token[1] if token else "", **(fields or {}), **more}
        if secret:
            form["secret-access-key"] = self.secret
        return self.web.post(self._path(path), data=form)

    def _path(self, path: str) -> str:
        return path if path.startswith(("/console", "/sign-")) else self.base + path


@dataclass(slots=True)
class ConsoleTestbed:
    """A service with one domain."""

    operations: Operations
    app: App
    domain_id: str = ""
    _people: int = field(default=0)
    _changes: int = field(default=0)

    @property
    def clock(self) -> MovedClock:
        return self.operations.clock

    @property
    def base(self) -> str:
        return f"/console/{REGION}/{self.domain_id}"

    def person(self, *policies: str, signed_in: bool = True, account: str = ACCOUNT) -> Person:
        """Make a user with these policies, by default with all rights."""
        self._people += 1
        store = self.operations.store
        arn = f"arn:aws:iam::{account}:user/person{self._people}"
        with store.database.write() as connection:
            access.put_principal(connection, arn, account, policies or (ALLOW_ALL,), self.clock())
            key_id, secret = access.create_access_key(connection, store.secret, arn, self.clock())
        web = TestClient(self.app.asgi, base_url="http://127.0.0.1", follow_redirects=False)
        person = Person(web=web, key_id=key_id, secret=secret, base=self.base)
        if signed_in:
            assert person.sign_in().status_code == 303
        return person

    def call(self, operation: str, **request: Any) -> dict[str, Any]:
        return self.operations.call(operation, DomainId=self.domain_id, **request)

    @property
    def store(self) -> installation.Store:
        return self.operations.store

    def enroll(self, customer_id: str) -> str:
        """Store an enrolled speaker, and return the generated id."""
        with self._vault() as (connection, vault):
            speaker_id = new_generated_id()
            seal = speakers.add(
                connection,
                vault,
                domain_id=self.domain_id,
                speaker_id=speaker_id,
                customer_id=customer_id,
                status="PENDING",
                now=self.clock(),
            )
            sample = made_sample(VECTOR, model_id=shipped_encoder_id())
            speakers.enroll(connection, seal, speaker_id, sample, self.clock(), audio=b"fLaC")
            return speaker_id

    def add_fraudster(self, watchlist_id: str) -> str:
        """Store a fraudster, and return the generated id."""
        with self._vault() as (connection, vault):
            fraudster_id = new_generated_id()
            _, wrapped = vault.new_fraudster(fraudster_id)
            watchlists.add_fraudster(
                connection,
                fraudster_id=fraudster_id,
                domain_id=self.domain_id,
                wrapped=wrapped,
                watchlist_id=watchlist_id,
                now=self.clock(),
            )
            return fraudster_id

    def start_dry_run(self) -> str:
        """Submit a dry run, whose role reads and writes the bucket `calls`; nobody runs it."""
        self.grant_role()
        config = {"FraudDetectionConfig": {"FraudDetectionAction": "IGNORE", "RiskThreshold": 50}}
        job = self.call("StartEnrollmentDryRun", JobName="first", EnrollmentConfig=config, **FILES)["Job"]
        return str(job["JobId"])

    def grant_role(self, *actions: str) -> None:
        """Let the role of jobs do these in the bucket `calls`, by default read and write."""
        (self.store.settings.data / "buckets" / "calls").mkdir(parents=True, exist_ok=True)
        statement = {
            "Effect": "Allow",
            "Action": actions or ["s3:GetObject", "s3:PutObject"],
            "Resource": "arn:aws:s3:::calls/*",
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        with self.store.database.write() as connection:
            access.put_principal(connection, ROLE, ACCOUNT, [policy], self.clock())

    def end_job(self, job_id: str, kind: str, lines: Sequence[dict[str, Any]]) -> None:
        """End a job as its runner does: with a result file of these lines."""
        failed = [line for line in lines if "ErrorCode" in line]
        done = [line for line in lines if "ErrorCode" not in line]
        name = {jobs.ENROLLMENT: "SuccessfulEnrollments", jobs.REGISTRATION: "SuccessfulRegistrations"}[kind]
        uri = ObjectUri.parse(RESULTS).child(job_id, output_name("manifest.json"))
        self.store.backends.objects().write(uri, result_file(failed, done, name))
        with self.store.database.write() as connection:
            claimed = jobs.claim(connection, [kind], "runner", self.clock(), timedelta(minutes=1))
            assert claimed is not None and claimed.job_id == job_id
            counts = jobs_table.update().where(jobs_table.c.job_id == job_id)
            total = {"entries_total": len(lines), "entries_done": len(lines), "entries_failed": len(failed)}
            connection.execute(counts.values(**total))
            status = "COMPLETED_WITH_ERRORS" if failed else "COMPLETED"
            assert jobs.finish(connection, job_id, "runner", status, self.clock())

    @contextmanager
    def _vault(self) -> Iterator[tuple[Connection, Vault]]:
        with self.store.database.write() as connection:
            domain = domains.find_by_id(connection, self.domain_id)
            assert domain is not None
            yield connection, vault_of(self.store.backends.keys, domain)

    def write_trail(self, person: Person) -> None:
        """Have every call so far in the audit trail.

        Records are written in the order of their calls, and a call that changes something waits for its own.
        """
        self._changes += 1
        made = person.post("/fraud/create", name=f"written-{self._changes}")
        assert made.status_code == 303

    def pass_time(self, **by: float) -> None:
        self.clock.now += timedelta(**by)


@contextmanager
def console_on(data: Path, console: Console | None = None) -> Iterator[ConsoleTestbed]:
    """Serve a new data folder. No rates: a test asks faster than people do."""
    operations = operations_on(data)
    operations.settings = replace(operations.settings, rates=Rates(factor=0), console=console or Console())
    operations.restart()
    app = build_app(operations.store)
    testbed = ConsoleTestbed(operations=operations, app=app)
    testbed.domain_id = operations.new_domain()
    try:
        yield testbed
    finally:
        app.close()


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in ("script", "style", "title")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style", "title")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)


def text_of(response: WebPage) -> str:
    """Return what a page says, with single spaces."""
    parser = _Text()
    parser.feed(response.text)
    return " ".join("".join(parser.parts).split())
