"""EvaluateSession. No session can be live yet, so every name is unknown."""

from __future__ import annotations

from sonant.errors import ResourceNotFound
from sonant.operations.service import Answer, Caller, Request, Service


def evaluate_session(service: Service, caller: Caller, request: Request) -> Answer:
    """Counts as writing: a suspended domain is a conflict. Raises ResourceNotFound SESSION."""
    with service.open_domain(caller, request["DomainId"], write=True):
        raise ResourceNotFound("SESSION", "The session does not exist in this domain.")
