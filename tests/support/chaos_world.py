"""A Sonant of several processes that is meant to be hurt: whatever dies is started again.

Two shapes: `Cluster` on PostgreSQL, an S3 server behind a relay and a KMS; `Embedded` on the defaults.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import aws_servers
from postgres_server import OwnServer
from stalling_proxy import stalling_proxy

from sonant.assembly import installation
from sonant.assembly.installation import Store
from sonant.settings import Settings, loading
from sonant.storage.database import postgres

SECRET, KEY_ID, REGION = aws_servers.SECRET, aws_servers.KEY_ID, aws_servers.REGION
CLOCK = Path(__file__).parent / "chaos_clock"
LEASE_S = 3.0
#: Instead of half a minute.
LOCK_WAIT_S = 1.5
#: What a statement may take; and how long a server may be silent before its clients give it up.
STATEMENT_S = 4.0
SILENT_S = STATEMENT_S + postgres.SILENCE_S
#: How long everything may be away; a machine that does much else needs more.
PATIENCE_S = float(os.environ.get("SONANT_CHAOS_PATIENCE_S", "180"))
#: The data folder lies on a file system of this size where that can be had, so that it can be filled.
DISK_BYTES = 192 * 2**20

COMMON = {
    "CORE_DUMPS": "true",  # open files are counted from outside
    "ENCODER": "ge2e",
    "JOBS_WORKERS": "1",
    "JOBS_LEASE_S": str(LEASE_S),
    "ENROLLMENT_NET_SPEECH_S": "6",
    "REGISTRATION_NET_SPEECH_S": "6",
    "FRAUD_SPOOFING_MAX_S": "0",
    "LIVE_WORKERS": "1",
    "LIVE_AUTHENTICATION_SPEECH_S": "5",
    "LIVE_FRAUD_SPEECH_S": "5",
    "QUOTAS_DOMAINS_PER_ACCOUNT": "5000",
    "RATES_FACTOR": "0",
    "SCORES_LOCK_REJECTS": "0",
    "KMS_CACHE_S": "0.5",
    "KMS_ATTEMPTS": "2",
}


def wait_for(what: str, found: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    until = time.monotonic() + patience_s
    while not (answer := found()):
        assert time.monotonic() < until, f"waited {patience_s:g} s in vain: {what}"
        time.sleep(0.05)
    return answer


class Member:
    """One process that is to run. Its clock, and that of its children, is moved by a file."""

    def __init__(
        self, name: str, command: list[str], environment: Mapping[str, str], folder: Path, port: int
    ) -> None:
        self.name, self._command, self._folder, self.port = name, command, folder, port
        self.clock = folder / f"{name}.clock"
        self.clock.write_text("0")
        self._environment = {
            **environment,
            "CHAOS_CLOCK": str(self.clock),
            "CHAOS_LOCK_WAIT_S": str(LOCK_WAIT_S),
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with (self._folder / "members.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sonant", *self._command],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self._environment,
                cwd=self._folder,
            )

    def revive(self) -> None:
        """Start it, if it has ended."""
        if self.process is None or self.process.poll() is not None:
            self.start()

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def ready(self) -> bool:
        if self.port == 0:
            return self.process is not None and self.process.poll() is None
        try:
            with urllib.request.urlopen(f"{self.url}/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def family(self) -> list[int]:
        """Processes below it, the nearest first."""
        assert self.process is not None
        found, parents = [], [self.process.pid]
        while parents:
            parent = parents.pop(0)
            for line in _children(parent):
                found.append(line)
                parents.append(line)
        return found

    def end(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        for number in (signal.SIGCONT, signal.SIGTERM):
            self.send(number)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def is_worker(pid: int) -> bool:
    """Whether a process is one that a Python has started to work for it."""
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def open_files(pid: int) -> int:
    """How many it has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def _children(parent: int) -> list[int]:
    found = []
    for path in Path(f"/proc/{parent}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in path.read_text().split()]
    return found


class World(Protocol):
    """What faults and watchers know of either shape."""

    name: str
    folder: Path
    data: Path
    settings: Settings
    store: Store
    members: list[Member]
    key: str
    """Of what nobody disturbs."""
    weak_key: str
    """Of the jobs' domains; is disabled now and then."""

    @property
    def apis(self) -> list[Member]: ...

    @property
    def disk(self) -> bool: ...

    def enable(self, enabled: bool) -> None: ...

    def put(self, bucket: str, key: str, content: bytes) -> str: ...

    def get(self, bucket: str, key: str) -> bytes: ...

    def places(self) -> list[Path]:
        """Where nothing may lie open, but for the folders `buckets` and `objects`, which are the user's."""
        ...


class _Shape:
    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self.data = folder / "data"
        self.data.mkdir(mode=0o700)
        self.disk = self._small_disk()
        self.members: list[Member] = []

    @property
    def apis(self) -> list[Member]:
        return [member for member in self.members if member.port]

    def _small_disk(self) -> bool:
        if os.geteuid() != 0:
            return False
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "tmpfs", str(self.data)]
        if subprocess.run(command, capture_output=True, timeout=20).returncode:
            return False
        self._stack.callback(lambda: subprocess.run(["umount", "-l", str(self.data)], timeout=20))
        return True

    def _environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SONANT_", "AWS_", "PYTEST"))
        }
        return {
            **kept,
            **{f"SONANT_{name}": value for name, value in {**COMMON, **settings}.items()},
            "AWS_EC2_METADATA_DISABLED": "true",
            "TMPDIR": str(self.folder),
            "PYTHONPATH": os.pathsep.join([str(CLOCK), *kept.get("PYTHONPATH", "").split(os.pathsep)]),
        }

    def begin(self) -> None:
        for member in self.members:
            member.start()
            wait_for(f"{member.name} is there", member.ready)
            self._stack.callback(member.end)


class Embedded(_Shape):
    """One service on SQLite, with a runner of its own."""

    name = "embedded"

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        super().__init__(folder, stack)
        self.settings = Settings(data=self.data)
        port = aws_servers.free_port()
        environment = self._environment({"DATA": str(self.data), "GATEWAY_PORT": str(port)})
        self.members = [Member("service", ["serve"], environment, folder, port)]
        self.begin()
        self.store = installation.open_store(self.settings)
        stack.callback(self.store.database.close)
        self.key = installation.DEFAULT_ALIAS
        self.weak_key = self.store.keys.create("weak", alias="alias/weak").key_id  # type: ignore[attr-defined]

    def enable(self, enabled: bool) -> None:
        keys: Any = self.store.keys
        (keys.enable if enabled else keys.disable)(self.weak_key)

    def put(self, bucket: str, key: str, content: bytes) -> str:
        path = self.data / "buckets" / bucket / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return f"s3://{bucket}/{key}"

    def get(self, bucket: str, key: str) -> bytes:
        return (self.data / "buckets" / bucket / key).read_bytes()

    def places(self) -> list[Path]:
        return [self.folder]


class Cluster(_Shape):
    """Two services and two runners on PostgreSQL, S3 and KMS."""

    name = "cluster"

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        """Raises NoServer without a PostgreSQL."""
        super().__init__(folder, stack)
        self.postgres = OwnServer(quick=False)  # what it has committed must outlive its crash
        stack.callback(self.postgres.close)
        self.proxy = stack.enter_context(stalling_proxy(self.postgres.url))
        objects = folder / "objects"
        objects.mkdir()
        rclone_url = stack.enter_context(aws_servers.rclone(objects))
        # Not by way of the relay, whose faults are Sonant's; nor into the folder, which rclone remembers.
        self._objects = aws_servers.official("s3", rclone_url, KEY_ID, SECRET)
        for bucket in ("calls", "jobs", "results"):
            self._objects.create_bucket(Bucket=bucket)
        self.s3 = stack.enter_context(aws_servers.relay(rclone_url))
        kms_url = stack.enter_context(aws_servers.ministack())
        self._kms = aws_servers.official("kms", kms_url)
        self.key, self.weak_key = (self._kms.create_key()["KeyMetadata"]["Arn"] for _ in range(2))
        environment = {
            "DATA": str(self.data),
            "DATABASE": self.proxy.in_front_of(self.postgres.url),
            "POSTGRES_STATEMENT_TIMEOUT_S": str(STATEMENT_S),
            "OBJECTS": "s3",
            "S3_ENDPOINT": self.s3.url,
            "S3_PATH_STYLE": "true",
            "S3_ASSUME_ROLE": "false",
            "S3_ACCESS_KEY_ID": KEY_ID,
            "S3_SECRET_ACCESS_KEY": SECRET,
            "KEYS": "aws-kms",
            "KMS_ENDPOINT": kms_url,
            "KMS_ACCESS_KEY_ID": "test",
            "KMS_SECRET_ACCESS_KEY": "test",
            "JOBS_BESIDE_SERVICE": "false",
        }
        # Who checks what holds goes straight to the server.
        direct = {**environment, "DATABASE": self.postgres.url}
        flags = {f"SONANT_{name}": value for name, value in direct.items()}
        self.settings = loading.load(environment=flags)
        installation.migrate(self.settings)
        for name in ("api-1", "api-2"):
            port = aws_servers.free_port()
            self.members.append(
                Member(
                    name,
                    ["serve"],
                    self._environment({**environment, "GATEWAY_PORT": str(port)}),
                    folder,
                    port,
                )
            )
        for name in ("runner-1", "runner-2"):
            self.members.append(Member(name, ["worker"], self._environment(environment), folder, 0))
        self.begin()
        self.store = installation.open_store(self.settings)
        stack.callback(self.store.database.close)

    def enable(self, enabled: bool) -> None:
        (self._kms.enable_key if enabled else self._kms.disable_key)(KeyId=self.weak_key)

    def put(self, bucket: str, key: str, content: bytes) -> str:
        self._objects.put_object(Bucket=bucket, Key=key, Body=content)
        return f"s3://{bucket}/{key}"

    def get(self, bucket: str, key: str) -> bytes:
        body: bytes = self._objects.get_object(Bucket=bucket, Key=key)["Body"].read()
        return body

    def places(self) -> list[Path]:
        return [self.folder, self.postgres.folder]


@contextmanager
def world(shape: str, folder: Path) -> Iterator[Any]:
    with ExitStack() as stack:
        yield {"cluster": Cluster, "embedded": Embedded}[shape](folder, stack)
