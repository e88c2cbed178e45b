"""Write and check the provenance of built files: an in-toto statement with SLSA's predicate.

    python tools/provenance.py statement dist/*.whl dist/*.tar.gz [--sign KEY.pem] > dist/provenance.json
    python tools/provenance.py verify dist/provenance.json dist/*.whl [--key PUBLIC.pem]

The statement says which files (by SHA-256) were built from which commit, with which locks and which base
image, by whom and when. With --sign it stands in a DSSE envelope, signed with an Ed25519 key that only
the releaser has: without a signature it is a description, which anybody could have written. `verify`
compares the files, and with --key the signature.

Sources: in-toto attestation framework, Statement v1; SLSA v1.0, Provenance; DSSE v1.0.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from locked import LOCKS, ROOT

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
#: What `make release` does; docs/supply-chain.md describes it.
BUILD_TYPE = "urn:sonant:build:make-release:1"
#: Who builds, unless BUILDER_ID says: a URI that the releaser is known by.
_BUILDER = "urn:sonant:builder:unnamed"


class ProvenanceFault(Exception):
    """A provenance does not fit the files, or its signature does not fit the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The source that was built."""

    commit: str
    clean: bool
    """Whether the work tree had no changes; a release needs that."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description="Write or check the provenance of built files.")
    commands = parser.add_subparsers(dest="command", required=True)
    write = commands.add_parser("statement", help="write the statement of files")
    write.add_argument("files", type=Path, nargs="+")
    write.add_argument("--sign", type=Path, help="PEM of an Ed25519 key")
    check = commands.add_parser("verify", help="compare files with a statement")
    check.add_argument("provenance", type=Path)
    check.add_argument("files", type=Path, nargs="+")
    check.add_argument("--key", type=Path, help="PEM of the public key")
    given = parser.parse_args(arguments)
    try:
        if given.command == "statement":
            document = statement(given.files, read_source(), source_time(), datetime.now(UTC))
            if given.sign is not None:
                document = envelope(document, private_key(given.sign))
            print(json.dumps(document, indent=1))
        else:
            key = None if given.key is None else public_key(given.key)
            found = verify(json.loads(given.provenance.read_text("utf-8")), given.files, key)
            print(
                f"{len(given.files)} files are those built from commit {found}"
                + ("" if key else "; NOT SIGNED")
            )
    except (ProvenanceFault, OSError, ValueError) as fault:
        print(fault, file=sys.stderr)
        return 1
    return 0


# --- the statement ------------------------------------------------------------------------------------


def statement(
    files: Sequence[Path], source: Source, started_at: datetime, finished_at: datetime
) -> dict[str, Any]:
    """Build the statement of these files. `started_at` is the time of the source, which dates the files."""
    if not source.clean:
        raise ProvenanceFault(
            "the work tree has changes; commit them, so that the commit says what was built"
        )
    locks = [_material(file) for file in sorted(LOCKS.glob("*.txt"))]
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": file.name, "digest": {"sha256": _digest(file)}} for file in sorted(files)],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"command": "make release"},
                "internalParameters": {
                    "python": platform.python_version(),
                    "sourceDateEpoch": int(started_at.timestamp()),
                },
                "resolvedDependencies": [
                    {"name": "source", "digest": {"gitCommit": source.commit}},
                    *locks,
                    _material(ROOT / "deploy" / "Dockerfile"),
                ],
            },
            "runDetails": {
                "builder": {"id": os.environ.get("BUILDER_ID", _BUILDER)},
                "metadata": {
                    "invocationId": f"{source.commit}-{int(finished_at.timestamp())}",
                    "finishedOn": finished_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                },
            },
        },
    }


def read_source(root: Path = ROOT) -> Source:
    """Ask git for the commit, and whether something has changed since. Raises ProvenanceFault without git."""
    return Source(commit=_git(root, "rev-parse", "HEAD"), clean=not _git(root, "status", "--porcelain"))


def source_time(root: Path = ROOT) -> datetime:
    """Return the time that dates what is built: SOURCE_DATE_EPOCH, or that of the last commit."""
    given = os.environ.get("SOURCE_DATE_EPOCH") or _git(root, "log", "-1", "--format=%ct")
    return datetime.fromtimestamp(int(given), UTC)


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise ProvenanceFault(f"{root} is no git repository, so the source has no name") from None
    return done.stdout.strip()


def _material(file: Path) -> dict[str, Any]:
    return {"name": str(file.relative_to(ROOT)), "digest": {"sha256": _digest(file)}}


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


# --- signatures ---------------------------------------------------------------------------------------


def envelope(document: Mapping[str, Any], key: Ed25519PrivateKey) -> dict[str, Any]:
    """Sign a statement: a DSSE envelope."""
    payload = json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
    signed = key.sign(pre_authentication(PAYLOAD_TYPE, payload))
    return {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": _key_id(key.public_key()), "sig": base64.b64encode(signed).decode()}],
    }


def verify(document: Mapping[str, Any], files: Sequence[Path], key: Ed25519PublicKey | None) -> str:
    """Check that files are subjects of a statement, and with a key that it signed it; return the commit.

    Raises ProvenanceFault.
    """
    if "payload" in document:
        payload = base64.b64decode(document["payload"], validate=True)
        if key is not None and not _signed(document, payload, key):
            raise ProvenanceFault("the statement is not signed with this key")
        document = json.loads(payload)
    elif key is not None:
        raise ProvenanceFault("the statement is not signed")
    if document.get("_type") != STATEMENT_TYPE or document.get("predicateType") != PREDICATE_TYPE:
        raise ProvenanceFault("not a statement of provenance")
    known = {one["name"]: one["digest"].get("sha256") for one in document["subject"]}
    for file in files:
        if file.name not in known:
            raise ProvenanceFault(f"the statement is not about {file.name}")
        if known[file.name] != _digest(file):
            raise ProvenanceFault(f"{file.name} is not the file that was built")
    sources = document["predicate"]["buildDefinition"]["resolvedDependencies"]
    return next(str(one["digest"]["gitCommit"]) for one in sources if one["name"] == "source")


def pre_authentication(kind: str, payload: bytes) -> bytes:
    """Encode what is signed (DSSE's PAE): type and payload, each after its length."""
    parts = b"DSSEv1", str(len(kind)).encode(), kind.encode(), str(len(payload)).encode(), payload
    return b" ".join(parts)


def private_key(file: Path) -> Ed25519PrivateKey:
    """Read the releaser's key. Raises ValueError."""
    key = load_pem_private_key(file.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{file} is not an Ed25519 key; make one: openssl genpkey -algorithm ed25519")
    return key


def public_key(file: Path) -> Ed25519PublicKey:
    """Read the releaser's public key. Raises ValueError."""
    key = load_pem_public_key(file.read_bytes())
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"{file} is not an Ed25519 public key")
    return key


def _signed(document: Mapping[str, Any], payload: bytes, key: Ed25519PublicKey) -> bool:
    if document.get("payloadType") != PAYLOAD_TYPE:
        return False
    for one in document.get("signatures", ()):
        try:
            key.verify(base64.b64decode(one["sig"]), pre_authentication(PAYLOAD_TYPE, payload))
        except InvalidSignature:
            continue
        return True
    return False


def _key_id(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
