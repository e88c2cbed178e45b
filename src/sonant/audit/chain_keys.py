"""Keys of the audit trail's message authentication codes, which only go forward.

Every sealed line has its own key. The key of the next line is a one-way function of it, and the old key is
overwritten (Bellare and Yee, "Forward-Security in Private-Key Cryptography", 2003; Schneier and Kelsey,
"Secure Audit Logs to Support Computer Forensics", 1999). Who takes the present key can seal lines from now
on, and no line before.

The first key of a section comes from one of two roots:

    service    the service's own key (`keys/service.key`): verified on the host, and forged by whoever has it
    kept       a key that the operator keeps elsewhere (`sonant audit new-key`): the host holds only what
               follows from it by the one-way function
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

KEY_BYTES = 32
#: How the ids of the two kinds of roots begin.
SERVICE, KEPT = "service:", "kept:"
#: Sections that are begun with one kept key at most; each costs a step of its verification.
MOST_SECTIONS = 1_000_000

#: Block of SHA-256, and the two pads of HMAC as tables of bytes.
_BLOCK_BYTES = 64
_INNER = bytes(value ^ 0x36 for value in range(256))
_OUTER = bytes(value ^ 0x5C for value in range(256))


@dataclass(frozen=True, slots=True, kw_only=True)
class RootKey:
    """The secret from which the first keys of sections are derived."""

    kept: bool
    """Whether the operator keeps it elsewhere; else it is derived from the service's own key."""
    key: bytes = field(repr=False)

    @property
    def key_id(self) -> str:
        """The name of the key in the trail, which does not reveal it."""
        return key_id(self.key, kept=self.kept)

    def new_start(self) -> str:
        """Return a name for a new section of the service's root."""
        return secrets.token_hex(16)

    def first_key(self, start: str) -> bytes:
        """Return the first key of a section. Raises ValueError for the start of another kind of root."""
        if not self.kept:
            return _derive(self.key, b"section " + start.encode())
        steps = int(start)
        if not 0 <= steps <= MOST_SECTIONS:
            raise ValueError(f"section {steps} of a kept key, at most {MOST_SECTIONS}")
        starter = self.key
        for _ in range(steps):
            starter = next_starter(starter)
        return starter_key(starter)


def key_id(key: bytes, *, kept: bool) -> str:
    """Return `service:` or `kept:` and 16 hex digits of a hash of the key."""
    digest = hashlib.sha256(b"sonant audit key id " + key).hexdigest()
    return f"{KEPT if kept else SERVICE}{digest[:16]}"


def next_key(key: bytes) -> bytes:
    """Return the key of the line after."""
    return _derive(key, b"next")


def evolve(key: bytes, steps: int) -> bytes:
    """Return the key of the line `steps` lines later."""
    for _ in range(steps):
        key = next_key(key)
    return key


def line_mac(key: bytes, own_hash: str) -> str:
    """Return the code of a line, 64 hex digits: HMAC-SHA256 of the line's hash."""
    return _derive(key, b"line " + own_hash.encode()).hex()


def next_starter(starter: bytes) -> bytes:
    """Return what begins the section after, from what begins this one."""
    return _derive(starter, b"next starter")


def starter_key(starter: bytes) -> bytes:
    """Return the first key of the section that `starter` begins."""
    return _derive(starter, b"first key")


def _derive(key: bytes, purpose: bytes) -> bytes:
    """Return HMAC-SHA256 (RFC 2104) of a purpose under a key of 32 bytes.

    Written out, because `hmac.digest` of OpenSSL 3 looks the algorithm up for each call, which takes longer
    than both hashes.
    """
    padded = key.ljust(_BLOCK_BYTES, b"\0")
    inner = hashlib.sha256(padded.translate(_INNER) + purpose).digest()
    return hashlib.sha256(padded.translate(_OUTER) + inner).digest()
