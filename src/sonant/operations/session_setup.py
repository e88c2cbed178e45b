"""What StartSession and UpdateSession make of a session's set-up."""

from __future__ import annotations

from sonant.errors import Validation
from sonant.operations.service import Request
from sonant.storage.repositories.sessions import Setup


def set_up(present: Setup, usual: Setup, request: Request) -> Setup:
    """What a session was set up for with what a request says of it; a configuration switches on what was off,
    with the `usual` thresholds. Raises Validation for a request that contradicts itself."""
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
            present.acceptance_threshold,
            usual.acceptance_threshold,
            request.get("IsVoiceAuthenticationEnabled", authentication is not None or None),
            (authentication or {}).get("AcceptanceThreshold"),
        ),
        authentication_speech_s=request.get("StreamingConfiguration", {}).get(
            "AuthenticationMinimumSpeechInSeconds", present.authentication_speech_s
        ),
        risk_threshold=_threshold(
            present.risk_threshold,
            usual.risk_threshold,
            request.get("IsFraudDetectionEnabled", fraud is not None or None),
            (fraud or {}).get("RiskThreshold"),
        ),
        watchlist_id=(fraud or {}).get("WatchlistId", present.watchlist_id),
    )


def _threshold(present: int | None, usual: int | None, on: bool | None, given: int | None) -> int | None:
    """The threshold to be; None is off. `on` None: as it is."""
    if on is None:
        return present
    if not on:
        return None
    return next((one for one in (given, present, usual) if one is not None), None)
