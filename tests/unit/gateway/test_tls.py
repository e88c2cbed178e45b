"""The service's own TLS: which files serve, when they are loaded again, and where plain HTTP is refused."""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aws_servers import certificate
from cryptography.hazmat.primitives import serialization

from sonant.errors import SetupError
from sonant.gateway.tls import Certificate, configured_certificate
from sonant.settings import Gateway


@contextmanager
def serving(context: ssl.SSLContext) -> Iterator[int]:
    """A server that greets every connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, context.wrap_socket(connection, server_side=True) as secure:
                secure.sendall(b"hello")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def presented(port: int) -> bytes:
    """The certificate that a new connection gets."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain) as secure,
    ):
        assert secure.recv(5) == b"hello"
        found = secure.getpeercert(binary_form=True)
    assert found is not None
    return found


def der(file: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(file.read_text().partition("-----BEGIN PRIVATE")[0])


def test_changed_certificate_is_used_for_new_connections(tmp_path: Path) -> None:
    file, other = certificate(tmp_path / "a.pem"), certificate(tmp_path / "b.pem")
    served = Certificate(file, file)
    with serving(served.context) as port:
        assert presented(port) == der(file)
        assert not served.reload()
        shutil.copy(other, file)
        assert served.reload()
        assert presented(port) == der(other)


def test_half_changed_pair_keeps_the_former_one_until_both_fit(tmp_path: Path) -> None:
    one, other = certificate(tmp_path / "one.pem"), certificate(tmp_path / "other.pem")
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    shutil.copy(one, cert)
    shutil.copy(one, key)
    former = der(one)
    served = Certificate(cert, key)
    with serving(served.context) as port:
        for content in (other.read_text(), "nonsense"):
            cert.write_text(content.partition("-----BEGIN PRIVATE")[0])
            key.write_text("-----BEGIN PRIVATE" + one.read_text().partition("-----BEGIN PRIVATE")[2])
            assert not served.reload()
            assert presented(port) == former
        cert.unlink()
        assert not served.reload()
        assert presented(port) == former
        shutil.copy(other, cert)
        shutil.copy(other, key)
        assert served.reload()
        assert presented(port) == der(other)


def test_old_versions_of_tls_are_refused(tmp_path: Path) -> None:
    file = certificate(tmp_path / "a.pem")
    assert Certificate(file, file).context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_encrypted_key_is_refused_and_not_asked_for(tmp_path: Path) -> None:
    file = certificate(tmp_path / "a.pem")
    key = serialization.load_pem_private_key(file.read_bytes(), None)
    sealed = tmp_path / "sealed.pem"
    sealed.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(SetupError, match="without a passphrase"):
        Certificate(file, sealed)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tls_certificate": "a.pem"}, "set both"),
        ({"tls_key": "a.pem"}, "set both"),
        ({"tls_certificate": "/absent/a.pem", "tls_key": "/absent/a.pem"}, "No such file"),
        ({"host": "0.0.0.0"}, "plain HTTP on 0.0.0.0, which other machines reach"),
        ({"host": "::"}, "gateway.plain_http = true"),
        ({"host": "192.0.2.1"}, "gateway.tls_certificate"),
        ({"host": "voice.example"}, "listen on 127.0.0.1"),
    ],
)
def test_settings_that_are_not_safe_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SetupError, match=message):
        configured_certificate(Gateway(**settings))


@pytest.mark.parametrize(
    "settings",
    [{"host": "127.0.0.1"}, {"host": "::1"}, {"host": "localhost"}, {"host": "0.0.0.0", "plain_http": True}],
)
def test_plain_http_is_served_on_loopback_or_by_a_setting(settings: dict[str, Any]) -> None:
    assert configured_certificate(Gateway(**settings)) is None


def test_other_address_is_served_with_a_certificate(tmp_path: Path) -> None:
    file = str(certificate(tmp_path / "a.pem"))
    assert configured_certificate(Gateway(host="0.0.0.0", tls_certificate=file, tls_key=file)) is not None
