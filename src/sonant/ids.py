"""Identifiers as Voice ID makes them, from a secure random source."""

from __future__ import annotations

import secrets
import string

_ALPHABET = string.ascii_letters + string.digits


def new_id() -> str:
    """22 characters of [A-Za-z0-9]: about 131 random bits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(22))


def new_generated_id() -> str:
    """The form of speaker, fraudster and session ids: `id#` and 22 characters."""
    return "id#" + new_id()
