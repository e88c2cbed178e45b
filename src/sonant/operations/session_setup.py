"""The set-up of a session after StartSession or UpdateSession."""

from __future__ import annotations

from sonant.errors import Validation
from sonant.operations.service import Request
from sonant.storage.repositories.sessions import Setup


def merge_setup(current: Setup, default: Setup, request: Request) -> Setup:
    """Apply a request to a session's set-up. A configuration enables what was off, with the `default`
    thresholds. Raises Validation for a request that contradicts itself."""
    for switch, configuration in (
        ("IsVoiceAuthenticationEnabled", "AuthenticationConfiguration"),
        ("IsFraudDetectionEnabled", "FraudDetectionConfiguration"),
    ):
        if request.get(switch) is False and configuration in request:
            raise Validation(f"{configuration} does not go together with {switch} being false")
    authentication = request.get("AuthenticationConfiguration")
    fraud = request.get("FraudDetectionConfiguration")
    return Setup(
        acceptance_threshold=_threshold(
            current.acceptance_threshold,
            default.acceptance_threshold,
            request.get("IsVoiceAuthenticationEnabled", authentication is not None or None),
            (authentication or {}).get("AcceptanceThreshold"),
        ),
        authentication_speech_s=request.get("StreamingConfiguration", {}).get(
            "AuthenticationMinimumSpeechInSeconds", current.authentication_speech_s
        ),
        risk_threshold=_threshold(
            current.risk_threshold,
            default.risk_threshold,
            request.get("IsFraudDetectionEnabled", fraud is not None or None),
            (fraud or {}).get("RiskThreshold"),
        ),
        watchlist_id=(fraud or {}).get("WatchlistId", current.watchlist_id),
    )


def _threshold(
    current: int | None, default: int | None, enabled: bool | None, requested: int | None
) -> int | None:
    """Return the new threshold, None for off. `enabled` None leaves it unchanged."""
    if enabled is None:
        return current
    if not enabled:
        return None
    return next((one for one in (requested, current, default) if one is not None), None)
