"""Make identifiers of Voice ID's forms from a secure random source."""

from __future__ import annotations

import os
import string

_ALPHABET = (string.ascii_letters + string.digits).encode()
_LENGTH = 22
#: Each character for as many values of a byte; the values that are left over would favour some.
_CHARACTERS = bytes(_ALPHABET[value % len(_ALPHABET)] for value in range(256))
_LEFT_OVER = bytes(range(256 - 256 % len(_ALPHABET), 256))


def new_id() -> str:
    """Make an id of 22 characters of [A-Za-z0-9]: about 131 random bits."""
    found = b""
    while len(found) < _LENGTH:
        found += os.urandom(32).translate(_CHARACTERS, _LEFT_OVER)
    return found[:_LENGTH].decode()


def new_generated_id() -> str:
    """Make the id of a speaker, fraudster or session: `id#` and 22 characters."""
    return "id#" + new_id()


def new_uuid() -> str:
    """Make a random UUID as text (RFC 9562, version 4): `uuid.uuid4()` in a third of the time."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
