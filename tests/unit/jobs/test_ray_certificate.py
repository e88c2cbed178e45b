"""Certificates of Ray's nodes: issued by one authority, for the names and addresses of one pod."""

from __future__ import annotations

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from waiting import PATIENCE_S

from sonant.errors import SetupError
from sonant.jobs.workers.ray_certificate import issue, main

NOW = datetime.now(UTC)


def authority(folder: Path, *, days: int = 3650, key=None) -> Path:
    """Make an authority's certificate and key, as a mounted secret of the type kubernetes.io/tls."""
    folder.mkdir()
    signing, own = ec.generate_private_key(ec.SECP256R1()), key
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Ray of tests")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(signing.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(signing, SHA256())
    )
    private = (own or signing).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "tls.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "tls.key").write_bytes(private)
    return folder


def context(folder: Path, purpose: ssl.Purpose) -> ssl.SSLContext:
    """What a node presents and requires, as Ray does: both sides show a certificate of the authority."""
    made = ssl.create_default_context(purpose, cafile=str(folder / "ca.crt"))
    made.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    made.verify_mode = ssl.CERT_REQUIRED
    return made


def connected(server: Path, client: Path, name: str) -> bool:
    """Whether a client that looks for this name and a server accept each other."""
    accepted: list[bool] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            try:
                with context(server, ssl.Purpose.CLIENT_AUTH).wrap_socket(
                    connection, server_side=True
                ) as secure:
                    secure.sendall(b"x")
                accepted.append(True)
            except OSError:
                accepted.append(False)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            plain = socket.create_connection(listening.getsockname(), timeout=PATIENCE_S)
            with context(client, ssl.Purpose.SERVER_AUTH).wrap_socket(plain, server_hostname=name) as secure:
                answered = secure.recv(1) == b"x"
        except OSError:
            answered = False
        thread.join()
    return answered and accepted == [True]


@pytest.fixture
def nodes(tmp_path: Path) -> tuple[Path, Path]:
    """A head and an actor's node."""
    ca = authority(tmp_path / "authority")
    head, actor = tmp_path / "head", tmp_path / "actor"
    for folder, ip in ((head, "10.0.0.5"), (actor, "10.0.0.6")):
        folder.mkdir()
        main([f"--authority={ca}", f"--out={folder}", "--name=voice-ray-head-svc", f"--ip={ip}"])
    return head, actor


def test_nodes_of_one_authority_accept_each_other_by_address_and_name(nodes: tuple[Path, Path]) -> None:
    head, actor = nodes
    assert connected(head, actor, "10.0.0.5")
    assert connected(head, actor, "voice-ray-head-svc")
    assert connected(actor, head, "10.0.0.6")


def test_node_at_another_address_is_refused(nodes: tuple[Path, Path]) -> None:
    head, actor = nodes
    assert not connected(head, actor, "10.0.0.6")


def test_node_of_another_authority_is_refused(nodes: tuple[Path, Path], tmp_path: Path) -> None:
    head, actor = nodes
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    issue(authority(tmp_path / "other"), stranger, ["voice-ray-head-svc"], ["10.0.0.6"], NOW)
    (stranger / "ca.crt").write_bytes((head / "ca.crt").read_bytes())  # it knows whom to trust
    assert not connected(head, stranger, "10.0.0.5")
    assert connected(head, actor, "10.0.0.5")


def test_key_is_for_its_owner_alone_and_ends_with_the_authority(tmp_path: Path) -> None:
    ca, out = authority(tmp_path / "authority", days=30), tmp_path / "out"
    out.mkdir()
    issue(ca, out, ["head"], [], NOW)
    assert (out / "tls.key").stat().st_mode & 0o777 == 0o600
    made = x509.load_pem_x509_certificate((out / "tls.crt").read_bytes())
    assert made.not_valid_after_utc <= NOW + timedelta(days=30)


@pytest.mark.parametrize("missing", ["tls.crt", "tls.key", "ip", "kind"])
def test_unusable_authority_or_address_is_refused(tmp_path: Path, missing: str) -> None:
    ca = authority(
        tmp_path / "authority", key=ed25519.Ed25519PrivateKey.generate() if missing == "kind" else None
    )
    if missing.startswith("tls"):
        (ca / missing).unlink()
    addresses = ["10.0.0.500"] if missing == "ip" else []
    with pytest.raises(SetupError, match=r"no certificate can be issued|neither an elliptic-curve"):
        issue(ca, tmp_path, ["head"], addresses, NOW)


def test_certificate_for_nobody_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([f"--authority={tmp_path}", f"--out={tmp_path}"])
    assert "name the node with --name or --ip" in capsys.readouterr().err
