"""A small Ceph with its S3 gateway, from Debian's packages: an S3 that seals with keys it knows and with no
others, hands out credentials of roles, and holds to policies of roles and buckets.

One monitor and one store in memory; a gateway for each set of keys. Everything listens on loopback and ends
with us.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aws_servers import Program, await_port, free_port, started
from waiting import PATIENCE_S

from sonant.demo import debian

ACCOUNT = "000000000000"
_PACKAGES = {"ceph-mon", "ceph-osd", "radosgw", "ceph-common", "ceph-base"}
_PROGRAMS = (
    "ceph-mon",
    "ceph-osd",
    "radosgw",
    "radosgw-admin",
    "rados",
    "ceph-authtool",
    "monmaptool",
    "osdmaptool",
)
_FOLDERS = ("usr/bin", "usr/sbin")
_LIBRARIES = "usr/lib/*/ceph"
_DATA_POOL = "default.rgw.buckets.data"
_START_S = PATIENCE_S

_CONF = """\
[global]
fsid = {fsid}
mon initial members = a
mon host = [v2:127.0.0.1:{mon_v2},v1:127.0.0.1:{mon_v1}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
mon allow pool size one = true
mon data avail crit = 1
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
admin socket =
run dir = {home}
log file = {home}/$name.log
keyring = {home}/admin.keyring
{libraries}
[mon.a]
mon data = {home}/mon
keyring = {home}/mon.keyring
[osd.0]
osd data = {home}/osd
osd objectstore = memstore
memstore device bytes = 1073741824
keyring = {home}/osd.keyring
[client.rgw]
keyring = {home}/rgw.keyring
rgw thread pool size = 16
rgw crypt require ssl = false
rgw crypt s3 kms backend = testing
rgw s3 auth use sts = true
rgw sts key = {sts_key}
"""


class NoCeph(Exception):
    """Why there is none."""


@dataclass(frozen=True, slots=True)
class User:
    name: str
    key_id: str
    secret: str

    @property
    def arn(self) -> str:
        return f"arn:aws:iam::{ACCOUNT}:user/{self.name}"


@dataclass(frozen=True, slots=True)
class Ceph:
    """A running cluster; its users, roles and buckets belong to ACCOUNT."""

    home: Path
    environment: Mapping[str, str]
    daemons: tuple[Program, ...] = ()

    def run(self, program: str, *arguments: str) -> bytes:
        for daemon in self.daemons:
            daemon.require_alive()
        command = [
            _program(program, self.environment),
            "-c",
            str(self.home / "ceph.conf"),
            *arguments,
        ]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, timeout=_START_S, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    @contextmanager
    def gateway(self, keys: Mapping[str, bytes], **options: str) -> Iterator[str]:
        """The URL of an S3 and STS that seals with `keys`, by what names them in requests."""
        port = free_port()
        known = " ".join(f"{name}={base64.b64encode(material).decode()}" for name, material in keys.items())
        command = [
            _program("radosgw", self.environment), "-c", str(self.home / "ceph.conf"), "-n", "client.rgw",
            "-f", "--no-mon-config", "--rgw_frontends", f"beast endpoint=127.0.0.1:{port}",
            "--rgw_crypt_s3_kms_encryption_keys", known,
            *(text for name, value in options.items() for text in (f"--{name}", value)),
        ]  # fmt: skip
        with started(command, env=self.environment, log=self.home / "client.rgw.log") as gateway:
            yield await_port(gateway, port, _START_S, self.daemons)

    def make_user(self, name: str) -> User:
        made = User(name, secrets.token_hex(10), secrets.token_hex(20))
        self.run(
            *("radosgw-admin", "user", "create", "--tenant", ACCOUNT, "--uid", name, "--display-name", name),
            *("--access-key", made.key_id, "--secret-key", made.secret),
        )
        return made

    def make_role(
        self, name: str, trusted: User, *statements: dict[str, Any], condition: dict[str, Any] | None = None
    ) -> str:
        """The ARN of a role with one policy; `condition` is one of its trust."""
        trust = {"Effect": "Allow", "Principal": {"AWS": [trusted.arn]}, "Action": ["sts:AssumeRole"]}
        if condition is not None:
            trust["Condition"] = condition
        role = ("--tenant", ACCOUNT, "--role-name", name)
        made = self.run("radosgw-admin", "role", "create", *role, "--assume-role-policy-doc", policy(trust))
        if statements:
            self.run("radosgw-admin", "role-policy", "put", *role, "--policy-name", "rights",
                     "--policy-doc", policy(*statements))  # fmt: skip
        return str(json.loads(made)["Arn"])

    def stored(self) -> bytes:
        """All that lies in the store of the buckets' data, as it lies there."""
        names = self.run("rados", "-p", _DATA_POOL, "ls").decode().splitlines()
        return b"".join(self.run("rados", "-p", _DATA_POOL, "get", name, "/dev/stdout") for name in names)


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


@contextmanager
def ceph(cache: Path) -> Iterator[Ceph]:
    """The system's, else fetched once into the cache. Raises NoCeph, and SetupError when apt-get fails."""
    environment, libraries = _found(cache)
    with contextlib.ExitStack() as ends:
        home = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="sonant-ceph-")))
        ports = free_port(), free_port()
        fsid = str(uuid.uuid4())
        (home / "ceph.conf").write_text(
            _CONF.format(fsid=fsid, home=home, mon_v2=ports[0], mon_v1=ports[1], libraries=libraries,
                         sts_key=secrets.token_hex(8))
        )  # fmt: skip
        made = Ceph(home, environment)
        _furnish(made, fsid, f"[v2:127.0.0.1:{ports[0]},v1:127.0.0.1:{ports[1]}]")
        conf = str(home / "ceph.conf")
        monitor = [_program("ceph-mon", environment), "-c", conf, "-i", "a", "-f"]
        mon = ends.enter_context(started(monitor, env=environment, log=home / "mon.a.log"))
        await_port(mon, ports[0], _START_S)
        store = [_program("ceph-osd", environment), "-c", conf, "-i", "0", "-f"]
        # Nobody asks the store at a port: it is the gateways that wait for it.
        osd = ends.enter_context(started(store, env=environment, log=home / "osd.0.log"))
        yield replace(made, daemons=(mon, osd))


def _furnish(made: Ceph, fsid: str, address: str) -> None:
    """Keys of the daemons, maps of the cluster, and the empty folders of monitor and store."""
    home = made.home
    rights = {
        "mon": ("mon.", {"mon": "allow *"}),
        "admin": ("client.admin", {"mon": "allow *", "osd": "allow *", "mgr": "allow *"}),
        "rgw": ("client.rgw", {"mon": "allow rw", "osd": "allow rwx"}),
        "osd": ("osd.0", {"mon": "allow profile osd", "osd": "allow *"}),
    }
    for file, (name, capabilities) in rights.items():
        caps = [text for place, right in capabilities.items() for text in ("--cap", place, right)]
        keyring = str(home / f"{file}.keyring")
        made.run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", name, *caps)
        if file != "mon":
            made.run("ceph-authtool", str(home / "mon.keyring"), "--import-keyring", keyring)
    (home / "osd").mkdir()
    monitors, stores = str(home / "monmap"), str(home / "osdmap")
    made.run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, monitors)
    made.run("osdmaptool", "--createsimple", "1", stores)
    made.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monitors, "--osdmap", stores,
             "--keyring", str(home / "mon.keyring"))  # fmt: skip
    made.run("ceph-osd", "-i", "0", "--mkfs", "--no-mon-config", "--osd-uuid", str(uuid.uuid4()))


def _program(name: str, environment: Mapping[str, str]) -> str:
    found = shutil.which(name, path=environment["PATH"])
    if found is None:
        raise NoCeph(f"there is no program {name}")
    return found


def _found(cache: Path) -> tuple[dict[str, str], str]:
    """(environment for the programs, lines for their configuration)."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("CEPH_")}
    if all(shutil.which(name, path=environment["PATH"]) for name in _PROGRAMS):
        return environment, ""
    if shutil.which("apt-get") is None:
        raise NoCeph("it comes as Debian packages, and this machine has no apt-get")
    tree = _fetched(cache)
    (own,) = tree.glob(_LIBRARIES)
    system = own.parent
    environment["PATH"] = os.pathsep.join([*(str(tree / name) for name in _FOLDERS), environment["PATH"]])
    folders = (system, tree / "lib" / system.name, own)
    environment["LD_LIBRARY_PATH"] = os.pathsep.join(str(folder) for folder in folders)
    places = {
        "plugin dir": own,
        "erasure code dir": own / "erasure-code",
        "osd class dir": system / "rados-classes",
    }
    return environment, "\n".join(f"{name} = {folder}" for name, folder in places.items())


def _fetched(cache: Path) -> Path:
    cache.mkdir(parents=True, exist_ok=True)
    tree = cache / f"ceph-{hashlib.sha256(' '.join(sorted(_PACKAGES)).encode()).hexdigest()[:8]}"
    with debian.locked(cache / "ceph.lock", print):
        if not tree.is_dir():
            with tempfile.TemporaryDirectory(prefix="fetch-ceph-", dir=cache) as work:
                new = Path(work) / "tree"
                debian.unpack(debian.download(Path(work), _PACKAGES, print, with_needed=True).values(), new)
                _require_whole(new)
                new.rename(tree)
    return tree


def _require_whole(tree: Path) -> None:
    """Sources may lack a package, and what this system has installed is not fetched."""
    path = os.pathsep.join(str(tree / folder) for folder in _FOLDERS)
    absent = [name for name in _PROGRAMS if shutil.which(name, path=path) is None]
    if len(list(tree.glob(_LIBRARIES))) != 1:
        absent.append("libraries")
    if absent:
        raise NoCeph(f"the packages that this system's sources give lack {', '.join(absent)}")
