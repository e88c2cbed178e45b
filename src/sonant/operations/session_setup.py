"""The set-up of a session after StartSession or UpdateSession, and what it may be."""

from __future__ import annotations

from sqlalchemy import Connection

from sonant.errors import Validation
from sonant.operations.service import Caller, Request, Service, require_tight
from sonant.operations.watchlists import require_watchlist
from sonant.storage.repositories.domains import Domain
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


def require_tight_thresholds(service: Service, caller: Caller, domain: Domain, request: Request) -> None:
    """Require the right to exact scores for thresholds that many strangers reach. Raises AccessDenied."""
    settings = service.settings
    require_tight(
        caller,
        domain,
        "AcceptanceThreshold",
        request.get("AuthenticationConfiguration", {}).get("AcceptanceThreshold"),
        min(settings.scores.least_threshold, settings.live.acceptance_threshold),
    )
    require_tight(
        caller,
        domain,
        "RiskThreshold",
        request.get("FraudDetectionConfiguration", {}).get("RiskThreshold"),
        min(settings.scores.least_risk_threshold, settings.live.risk_threshold),
    )


def require_named_watchlist(connection: Connection, domain: Domain, request: Request) -> None:
    """Require that a watchlist that the request names is one of the domain. Raises ResourceNotFound."""
    watchlist_id = request.get("FraudDetectionConfiguration", {}).get("WatchlistId")
    if watchlist_id is not None:
        require_watchlist(connection, domain.domain_id, watchlist_id)


def _threshold(
    current: int | None, default: int | None, enabled: bool | None, requested: int | None
) -> int | None:
    """Return the new threshold, None for off. `enabled` None leaves it unchanged."""
    if enabled is None:
        return current
    if not enabled:
        return None
    return next((one for one in (requested, current, default) if one is not None), None)
