"""A Ray cluster with token and TLS, as the chart makes it, with a certificate of `ray_certificate`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from ray_cluster import STORE_BYTES
from waiting import PATIENCE_S, wait_until

from sonant.jobs.workers.ray_certificate import main as issue

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]

SUPPORT = Path(__file__).parents[1] / "support"
#: Squares five numbers in an actor, or says why it cannot.
RUN = """
import sys
sys.path.append({support!r})
import ray_makers
from sonant.errors import ClusterUnavailable
from sonant.jobs.entry import Role, Task
from sonant.jobs.workers.engines.ray import RayEngine
from sonant.jobs.workers.ray_pool import Cluster
role = Role(arn="arn:aws:iam::000000000000:role/sonant", policies=())
engine = RayEngine(ray_makers.Squares, (0.0,), Cluster(address={address!r}), time_limit_s=60.0)
waiting = [
    Task(task_id=number, role=role, audio=(), need_s=1.5, keep_audio=False) for number in range(5)
]
found = []
try:
    while len(found) < 5:
        while waiting and engine.free_slots:
            engine.submit(waiting.pop(0))
        found += engine.results(0.2)
    print(sorted(int.from_bytes(result.vector, "little") for _, result in found))
except ClusterUnavailable as fault:
    print("unavailable:", fault)
finally:
    engine.close()
"""


@pytest.fixture
def environment(tmp_path: Path, inside: None) -> dict[str, str]:
    """What the chart sets for every process of Ray and for the runner."""
    authority, made = tmp_path / "authority", tmp_path / "certificate"
    authority.mkdir()
    made.mkdir()
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ray")]),
    )
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, SHA256())
    )
    (authority / "tls.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    (authority / "tls.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    issue([f"--authority={authority}", f"--out={made}", "--name=localhost", "--ip=127.0.0.1"])
    token = tmp_path / "token"
    token.write_text("7" * 64)
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")]),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USE_TLS": "1",
        "RAY_TLS_SERVER_CERT": str(made / "tls.crt"),
        "RAY_TLS_SERVER_KEY": str(made / "tls.key"),
        "RAY_TLS_CA_CERT": str(made / "ca.crt"),
    }


@pytest.fixture
def address(environment: Mapping[str, str]) -> Iterator[str]:
    """A node with one CPU; it ends with the test, and nobody else's Ray is touched."""
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="sonant-ray-", dir="/tmp")
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=1"]
    command += [f"--port={port}", "--node-ip-address=127.0.0.1", "--include-dashboard=false"]
    command += [f"--object-store-memory={STORE_BYTES}", f"--temp-dir={folder}"]
    with (Path(folder) / "out").open("wb") as out:
        node = subprocess.Popen(
            command, env=dict(environment), stdout=out, stderr=out, start_new_session=True
        )
    try:
        wait_until("Ray listens", lambda: _listens(port))
        yield f"127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(node.pid, signal.SIGTERM)
        node.wait(PATIENCE_S)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S):
        return True
    return False


def answer(address: str, environment: Mapping[str, str]) -> str:
    """What a runner with this environment gets from the cluster."""
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(support=str(SUPPORT), address=address)],
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_runner_with_token_and_certificate_gets_its_results(
    address: str, environment: dict[str, str]
) -> None:
    assert answer(address, environment) == "[0, 1, 4, 9, 16]"


@pytest.mark.parametrize("lacks", ["token", "certificate"])
def test_runner_without_token_or_certificate_gets_nothing(
    address: str, environment: dict[str, str], tmp_path: Path, lacks: str
) -> None:
    if lacks == "token":
        (tmp_path / "other").write_text("8" * 64)
        environment["RAY_AUTH_TOKEN_PATH"] = str(tmp_path / "other")
    else:
        environment["RAY_USE_TLS"] = "0"
    assert answer(address, environment).startswith("unavailable:")
