"""Issue the certificate of one Ray node, before Ray starts on it.

    python -m sonant.jobs.workers.ray_certificate --authority FOLDER --out FOLDER --name NAME... --ip IP...

Ray's nodes reach each other by the IP addresses of their pods, which are known only once a pod exists: so an
init container of each pod issues the pod's certificate, and it alone sees the authority's key (`tls.crt` and
`tls.key` in the folder of `--authority`). The output has the names that `RAY_TLS_SERVER_CERT`,
`RAY_TLS_SERVER_KEY` and `RAY_TLS_CA_CERT` are set to: `tls.crt`, `tls.key` and `ca.crt`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sonant.errors import SetupError

#: Pods are replaced with every release; a certificate never outlasts its authority.
VALID = timedelta(days=365)
#: Clocks of hosts differ.
_EARLIER = timedelta(minutes=5)
CERTIFICATE, KEY, AUTHORITY = "tls.crt", "tls.key", "ca.crt"


def issue(authority: Path, out: Path, names: Sequence[str], addresses: Sequence[str], now: datetime) -> None:
    """Write certificate, key and the authority's certificate into a folder. Raises SetupError."""
    try:
        ca = x509.load_pem_x509_certificate((authority / CERTIFICATE).read_bytes())
        ca_key = load_pem_private_key((authority / KEY).read_bytes(), None)
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        alternatives += [x509.IPAddress(ip_address(one)) for one in addresses]
    except (OSError, ValueError, TypeError) as fault:
        raise SetupError(f"no certificate can be issued from {authority}: {fault}") from None
    if not isinstance(ca_key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise SetupError(f"{authority / KEY} is neither an elliptic-curve nor an RSA key")
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, (*names, *addresses)[0])]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(min(now + VALID, ca.not_valid_after_utc))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        # Each node is a server and a client of the others.
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .sign(ca_key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for name, content in (
        (CERTIFICATE, certificate.public_bytes(Encoding.PEM)),
        (KEY, private),
        (AUTHORITY, ca.public_bytes(Encoding.PEM)),
    ):
        descriptor = os.open(out / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description="Issue the certificate of one Ray node.")
    parser.add_argument("--authority", type=Path, required=True, help="folder with tls.crt and tls.key")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--name", action="append", default=[], help="a DNS name of the node")
    parser.add_argument("--ip", action="append", default=[], help="an address of the node")
    given = parser.parse_args(arguments)
    if not given.name and not given.ip:
        parser.error("name the node with --name or --ip")
    issue(given.authority, given.out, given.name, given.ip, datetime.now(UTC))


if __name__ == "__main__":
    try:
        main()
    except SetupError as fault:
        raise SystemExit(str(fault)) from None
