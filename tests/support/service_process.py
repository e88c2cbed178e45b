"""A real `sonant serve` for tests, and the official clients pointed at it."""

from __future__ import annotations

import configparser
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import answer_tap
import boto3
import botocore.session
from answer_tap import NOTED, Answers
from botocore.config import Config
from botocore.credentials import Credentials
from forked_commands import run_aws, run_sonant
from forked_processes import ForkedProcess
from sqlite_template import put_tables
from waiting import ASK_S, PATIENCE_S, wait_until

from sonant.assembly.installation import Store, open_store
from sonant.gateway.models import DATA_PATH
from sonant.settings import Settings

BIN = Path(sys.executable).parent
REGION = "us-east-1"
ACCOUNT = "000000000000"
KEY_ALIAS = "alias/sonant"
#: One process that embeds voices for each kind of work: starting it is most of what a few recordings cost.
ONE_WORKER = {"JOBS_WORKERS": "1", "LIVE_WORKERS": "1"}
#: For a service without a runner, a process less: where no jobs are run and no events delivered.
NO_JOBS = {"JOBS_BESIDE_SERVICE": "false"}
ROLE = f"arn:aws:iam::{ACCOUNT}:role/sonant"

#: What the services that run now have answered.
JUDGED: list[Answers] = []

START_S = 60.0
STOP_S = 20.0


def environment(**more: str) -> dict[str, str]:
    """An environment without settings of the machine's own, Sonant's or AWS's."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SONANT_", "AWS_", "BOTO", "PYTEST"))
    }
    # Somebody's ~/.aws must not take part.
    return {**kept, "HOME": os.devnull, "PAGER": "cat", **more}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A process that has ended."""

    code: int
    out: str
    err: str


def ended(
    command: Sequence[str], env: Mapping[str, str], cwd: Path, time_limit_s: float = PATIENCE_S
) -> Ended:
    """Run a command to its end."""
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, timeout=time_limit_s, check=False)
    return _checked(done.returncode, done.stdout.decode(), done.stderr.decode())


def sonant(*arguments: str, env: Mapping[str, str], cwd: Path) -> Ended:
    """Run a `sonant` command to its end."""
    return _checked(*run_sonant(arguments, env, cwd))


def _checked(code: int, out: str, err: str) -> Ended:
    assert "Traceback" not in err, err  # no command may ever end in one
    return Ended(code=code, out=out, err=err)


#: A session has read the models of services that a client was made of; only one thread at a time may use it.
_MAKING_CLIENTS = threading.Lock()


@cache
def _plain_session() -> boto3.Session:
    return boto3.Session()


@cache
def _own_session() -> boto3.Session:
    """A session that knows Sonant's own operations."""
    session = botocore.session.Session()
    session.set_config_variable("data_path", str(DATA_PATH))
    return boto3.Session(botocore_session=session)


@dataclass(frozen=True)
class ServiceProcess:
    """A service on a data folder of its own."""

    data: Path
    process: ForkedProcess
    database: str = ""
    """The setting; empty for the data folder's own."""
    answers: Answers | None = None
    """What it has answered since it was started, whoever asked."""

    @cached_property
    def url(self) -> str:
        return (self.data / "endpoint").read_text().strip()

    @cached_property
    def store(self) -> Store:
        """The service's own store, for rows that no served operation makes; open until the process ends."""
        return open_store(Settings(data=self.data, database=self.database))

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @cached_property
    def credentials(self) -> Credentials:
        """The administrator's."""
        return self.profile("administrator")

    def profile(self, name: str) -> Credentials:
        """The access key of a profile."""
        parser = configparser.ConfigParser()
        parser.read([self.data / "credentials", self.data / "credentials.administrator"])
        return Credentials(parser[name]["aws_access_key_id"], parser[name]["aws_secret_access_key"])

    @cached_property
    def voice_id(self) -> Any:
        """A boto3 client that makes one attempt."""
        return self.client()

    @cached_property
    def unchecked(self) -> Any:
        """A boto3 client that sends what it is given, so that the service must do the checking."""
        return self.client(parameter_validation=False)

    def client(
        self,
        credentials: Credentials | None = None,
        *,
        session: boto3.Session | None = None,
        name: str = "voice-id",
        region: str = REGION,
        attempts: int = 1,
        retry_mode: str = "legacy",
        **config: Any,
    ) -> Any:
        used = credentials or self.credentials
        with _MAKING_CLIENTS:
            return (session or _plain_session()).client(
                name,
                region_name=region,
                endpoint_url=self.url,
                aws_access_key_id=used.access_key,
                aws_secret_access_key=used.secret_key,
                aws_session_token=used.token,
                config=Config(
                    retries={"total_max_attempts": attempts, "mode": retry_mode}, proxies={}, **config
                ),
            )

    def sonant(self, *arguments: str, **env: str) -> Ended:
        """Run a `sonant` command that knows nothing but the data folder."""
        known = environment(SONANT_DATA=str(self.data), **env)
        return sonant(*arguments, env=known, cwd=self.data.parent)

    def aws(self, *arguments: str, forked: bool = True, **env: str) -> Ended:
        """Run the AWS CLI with the endpoint as an option and credentials in the environment.

        `forked` saves its imports, which are most of what a call costs; else it is a whole program.
        """
        known = environment(
            AWS_ACCESS_KEY_ID=self.credentials.access_key,
            AWS_SECRET_ACCESS_KEY=self.credentials.secret_key,
            AWS_DEFAULT_REGION=REGION,
            **env,
        )
        where = ("--endpoint-url", self.url)
        if forked:
            return _checked(*run_aws([*arguments, *where], known, self.data.parent))
        return ended([str(BIN / "aws"), *arguments, *where], known, cwd=self.data.parent)

    def own_client(self, credentials: Credentials | None = None, **config: Any) -> Any:
        """A boto3 client of Sonant's own operations; always the same one unless something is asked of it."""
        if credentials is None and not config:
            return self._own
        return self._make_own(credentials, **config)

    @cached_property
    def _own(self) -> Any:
        return self._make_own(None)

    def _make_own(self, credentials: Credentials | None, **config: Any) -> Any:
        return self.client(credentials, session=_own_session(), name="sonant", **config)

    def user(self, *statements: Mapping[str, Any], account: str = ACCOUNT) -> Credentials:
        """The access key of a new user of the account, with one policy of these statements."""
        name = f"user-{uuid.uuid4()}"
        policy = self.data.parent / f"{name}.json"
        policy.write_text(json.dumps({"Version": "2012-10-17", "Statement": statements}))
        arguments = ("--policy", str(policy)) if statements else ()
        made = self.sonant("access", "user", "put", name, "--account", account, *arguments)
        assert made.code == 0, made.err
        shown = self.sonant("access", "create", "--user", name, "--account", account).out
        key = dict(line.split() for line in shown.splitlines())
        return Credentials(key["aws_access_key_id"], key["aws_secret_access_key"])

    def domain(self, name: str = "calls", key: str = KEY_ALIAS, **more: Any) -> str:
        """The id of a new domain."""
        answer = self.voice_id.create_domain(
            Name=name, ServerSideEncryptionConfiguration={"KmsKeyId": key}, **more
        )
        return str(answer["Domain"]["DomainId"])

    def start_job(
        self, domain_id: str, manifest: str = "s3://calls/absent.json", **more: Any
    ) -> dict[str, Any]:
        """Start an enrollment job; without a manifest it fails as soon as a runner looks at it."""
        started = self.voice_id.start_speaker_enrollment_job(
            DomainId=domain_id,
            DataAccessRoleArn=ROLE,
            InputDataConfig={"S3Uri": manifest},
            OutputDataConfig={"S3Uri": "s3://calls/results"},
            **more,
        )
        return dict(started["Job"])

    def start_registration(
        self, domain_id: str, manifest: str = "s3://calls/absent.json", **more: Any
    ) -> dict[str, Any]:
        """`start_job` for fraudsters."""
        started = self.voice_id.start_fraudster_registration_job(
            DomainId=domain_id,
            DataAccessRoleArn=ROLE,
            InputDataConfig={"S3Uri": manifest},
            OutputDataConfig={"S3Uri": "s3://calls/results"},
            **more,
        )
        return dict(started["Job"])

    def registration(self, domain_id: str, job_id: str) -> dict[str, Any]:
        found = self.voice_id.describe_fraudster_registration_job(DomainId=domain_id, JobId=job_id)
        return dict(found["Job"])

    def ended_registration(self, domain_id: str, job_id: str) -> dict[str, Any]:
        return self._ended(lambda: self.registration(domain_id, job_id))

    def job(self, domain_id: str, job_id: str) -> dict[str, Any]:
        return dict(self.voice_id.describe_speaker_enrollment_job(DomainId=domain_id, JobId=job_id)["Job"])

    def ended_job(self, domain_id: str, job_id: str) -> dict[str, Any]:
        """The job's last description, when a runner is done with it."""
        return self._ended(lambda: self.job(domain_id, job_id))

    @staticmethod
    def _ended(describe: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        def ended() -> dict[str, Any] | None:
            job = describe()
            return job if "EndedAt" in job else None

        return wait_until(lambda: f"the end of {describe()}", ended, look_s=ASK_S) or {}


@contextmanager
def running(data: Path, *flags: str, **settings: str) -> Iterator[ServiceProcess]:
    """As `first_running`, but the service finds its tables made, which saves it the migrations."""
    if not settings.get("DATABASE"):
        put_tables(data / "sonant.db")
    with first_running(data, *flags, **settings) as service:
        yield service


@contextmanager
def running_with_children(data: Path, *flags: str, **settings: str) -> Iterator[ServiceProcess]:
    """As `running`, but runner and workers are the service's children, for tests that look for them.

    They start as everywhere, which takes longer than to fork them.
    """
    put_tables(data / "sonant.db")
    with _started(data, flags, settings, fork_children=False) as service:
        yield service


@contextmanager
def first_running(data: Path, *flags: str, **settings: str) -> Iterator[ServiceProcess]:
    """`sonant serve` on a free port, told to stop at the end by its process id.

    Request rates are off unless the settings ask for them: tests call as fast as they can. Every answer is
    judged by the models: here at the end, and by `conftest` after each test.
    """
    with _started(data, flags, settings, fork_children=True) as service:
        yield service


@contextmanager
def _started(
    data: Path, flags: Sequence[str], settings: Mapping[str, str], *, fork_children: bool
) -> Iterator[ServiceProcess]:
    settings = {"RATES_FACTOR": "0", **ONE_WORKER, **settings}
    answers = Answers.to_come(data.with_name(f"{data.name}.answers"))
    log = data.with_name(f"{data.name}.log")
    log.write_bytes(b"")
    process = ForkedProcess(
        answer_tap.serve,
        ["serve", "--port", "0", "--data", str(data), *flags],
        env=environment(
            **{f"SONANT_{name}": value for name, value in settings.items()}, **{NOTED: str(answers.file)}
        ),
        cwd=data.parent,
        output=log,
        fork_children=fork_children,
    )
    try:

        def there() -> bool:
            assert process.poll() is None, log.read_text()
            return (data / "endpoint").exists()

        wait_until("the service starts", there)
        JUDGED.append(answers)
        yield ServiceProcess(
            data=data, process=process, database=settings.get("DATABASE", ""), answers=answers
        )
    finally:
        if answers in JUDGED:
            JUDGED.remove(answers)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
    assert not (told := answers.judge()), "\n".join(told)
