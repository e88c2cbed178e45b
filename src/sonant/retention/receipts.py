"""Deletion receipts: signed statements of what was deleted, when, and which keys were destroyed.

A receipt is a JSON document that is signed by Ed25519 (RFC 8032) under a key derived from `service.key`. It
holds no id: the domain and the person are the keyed hashes of the deletion ledger, which only the
installation can compute. Anyone can check the signature with the public key of the installation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sonant.errors import SetupError
from sonant.retention.ledger import LedgerEntry

FORMAT = "sonant-deletion-receipt"
VERSION = 1
#: Actions that a person can get a receipt of.
RECEIPT_ACTIONS = ("OPT_OUT_SPEAKER", "DELETE_SPEAKER", "DELETE_FRAUDSTER")
_DOMAIN_SEPARATION = b"sonant deletion receipt 1\0"
_SIGNATURE, _PUBLIC_KEY = "signature", "publicKey"


def public_key(seed: bytes) -> str:
    """Return the public key of receipts in 64 hexadecimal digits; `seed` is `ServiceSecret.receipt_seed`."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw().hex()


def issue(entries: Sequence[LedgerEntry], seed: bytes, now: datetime) -> dict[str, Any]:
    """Build and sign the receipt of one person's entries in the ledger, oldest first. One at least."""
    document: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "issuedAt": now.isoformat(),
        "domain": entries[-1].domain,
        "person": entries[-1].id,
        "deletions": [
            {
                "action": entry.what,
                "at": entry.at.isoformat(),
                "ledgerEntry": entry.entry,
                "destroyedKeys": [{"kind": key.kind, "hash": key.wrapped} for key in entry.keys],
            }
            for entry in entries
        ],
        _PUBLIC_KEY: public_key(seed),
    }
    signature = Ed25519PrivateKey.from_private_bytes(seed).sign(_signed_bytes(document))
    return {**document, _SIGNATURE: signature.hex()}


def named_key(document: Mapping[str, Any]) -> str:
    """Return the public key that a receipt names, which need not be one to trust."""
    return str(document.get(_PUBLIC_KEY))


def recorded(document: Mapping[str, Any], entries: Iterable[LedgerEntry]) -> bool:
    """Return whether a deletion ledger records every deletion of a receipt."""
    known = {(entry.entry, entry.what, entry.at.isoformat()) for entry in entries}
    return all((one["ledgerEntry"], one["action"], one["at"]) in known for one in document["deletions"])


def verify(document: Mapping[str, Any], trusted_key: str) -> None:
    """Check that a receipt was signed by the installation of this public key and not changed since.

    Raises SetupError, which says what is wrong.
    """
    if document.get("format") != FORMAT or document.get("version") != VERSION:
        raise SetupError("this is no deletion receipt that this release knows")
    if document.get(_PUBLIC_KEY) != trusted_key:
        raise SetupError(
            "the receipt names another public key than the installation's: it was issued by another one, or "
            "before its service.key was made anew"
        )
    try:
        signature = bytes.fromhex(str(document.get(_SIGNATURE)))
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(trusted_key)).verify(
            signature, _signed_bytes(document)
        )
    except (InvalidSignature, ValueError):
        raise SetupError("the receipt was changed, or its signature is not the installation's") from None


def _signed_bytes(document: Mapping[str, Any]) -> bytes:
    """Return what is signed: all members but the signature as canonical JSON."""
    members = {name: value for name, value in document.items() if name != _SIGNATURE}
    return _DOMAIN_SEPARATION + json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
