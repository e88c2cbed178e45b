"""Make identifiers of Voice ID's forms from a secure random source."""

from __future__ import annotations

import os
import secrets
import string

_ALPHABET = string.ascii_letters + string.digits


def new_id() -> str:
    """Make an id of 22 characters of [A-Za-z0-9]: about 131 random bits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(22))


def new_generated_id() -> str:
    """Make the id of a speaker, fraudster or session: `id#` and 22 characters."""
    return "id#" + new_id()


def new_uuid() -> str:
    """Make a random UUID as text (RFC 9562, version 4): `uuid.uuid4()` in a third of the time."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
