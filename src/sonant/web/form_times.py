"""Times of forms, which are in UTC."""

from __future__ import annotations

from datetime import UTC, datetime

from sonant.web.page import PageError


def read_time(text: str) -> float:
    """Read a time of a form as seconds since 1970. Raises PageError."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise PageError(400, f"{text[:40]} is no time; give one such as 2026-11-30T14:00.") from None
