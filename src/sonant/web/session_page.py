"""The page `/sessions/<id>`, which an agent watches during a call; it can
authenticate the caller again, enroll the caller and opt out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sonant.web.page import Page, PageError, PageRequest

_ID = re.compile(r"[A-Za-z0-9]{22}")


def _read_state(request: PageRequest) -> Mapping[str, Any]:
    """Return the session and its evaluation, each as the operation answers it, or with its error."""
    return _call(request, "DescribeSession", "EvaluateSession")


def _enroll(request: PageRequest) -> Mapping[str, Any]:
    return _call(request, "EnrollBySession")


def _restart(request: PageRequest) -> Mapping[str, Any]:
    return _call(request, "RestartStream")


def _opt_out(request: PageRequest) -> Mapping[str, Any]:
    region, domain_id, session_id = _session_of(request)
    domain = {"DomainId": domain_id}
    described = request.call(region, "DescribeSession", domain | {"SessionNameOrId": session_id})
    speaker_id = described.get("Session", {}).get("GeneratedSpeakerId")
    if speaker_id is None:
        raise PageError(409, "The session has no speaker.")
    return {"OptOutSpeaker": request.call(region, "OptOutSpeaker", domain | {"SpeakerId": speaker_id})}


def _call(request: PageRequest, *operations: str) -> Mapping[str, Any]:
    """Call operations on the session of the path, and return their answers by name."""
    region, domain_id, session_id = _session_of(request)
    parameters = {"DomainId": domain_id, "SessionNameOrId": session_id}
    return {operation: request.call(region, operation, parameters) for operation in operations}


def _session_of(request: PageRequest) -> tuple[str, str, str]:
    """Find the Region, the domain's id and the session's id. Raises PageError."""
    path_id = request.parameters["id"]
    session_id = f"id#{path_id}" if _ID.fullmatch(path_id) else ""
    domain = request.domain_of(session_id) if session_id else None
    if domain is None:
        raise PageError(404, "There is no such session.")
    return *domain, session_id


PAGE = Page(
    path="/sessions/{id}",
    template="session.html",
    functions={
        ("GET", "/state"): _read_state,
        ("POST", "/enroll"): _enroll,
        ("POST", "/restart"): _restart,
        ("POST", "/opt-out"): _opt_out,
    },
)
