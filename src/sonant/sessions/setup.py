"""What a session is set up for when nobody says."""

from __future__ import annotations

from sonant import settings
from sonant.storage.repositories.sessions import Setup


def default_setup(live: settings.Live) -> Setup:
    """Authentication and fraud detection, by the service's settings and the domain's default watchlist."""
    return Setup(
        acceptance_threshold=live.acceptance_threshold,
        authentication_speech_s=live.authentication_speech_s,
        risk_threshold=live.risk_threshold,
        watchlist_id=None,
    )
