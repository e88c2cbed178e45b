"""Handle repeated requests: those with a ClientToken, which create one resource in 24 hours, and those that
are sent again as they were signed.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from sonant.errors import Conflict, Validation
from sonant.operations.service import Caller, Request, Service
from sonant.storage.repositories import callers


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientToken:
    """The token of a request. `found` is the id of the resource that the first request with it created."""

    scope: str | None
    request_hash: str
    found: str | None

    def keep(self, service: Service, connection: Connection, resource_id: str) -> None:
        """Store the created resource's id, in the transaction that creates it."""
        if self.scope is not None:
            callers.add_client_token(connection, self.scope, self.request_hash, resource_id, service.clock())


def client_token(
    service: Service, connection: Connection, caller: Caller, operation: str, request: Request
) -> ClientToken:
    """Look up a request's token, in the write transaction that would create the resource.

    Raises Validation when the token was used with other parameters before.
    """
    token = request.get("ClientToken")
    rest = {name: value for name, value in request.items() if name != "ClientToken"}
    request_hash = service.secret.fingerprint(rest)
    if token is None:
        return ClientToken(scope=None, request_hash=request_hash, found=None)
    scope = service.secret.fingerprint(
        "\x00".join((caller.account_id, caller.region, operation, request.get("DomainId", ""), token))
    )
    earlier = callers.find_client_token(connection, scope, service.clock())
    if earlier is None:
        return ClientToken(scope=scope, request_hash=request_hash, found=None)
    if earlier[0] != request_hash:
        raise Validation("ClientToken was used before with other parameters; use a new one")
    return ClientToken(scope=scope, request_hash=request_hash, found=earlier[1])


# --- signed calls that were sent again


def require_first_use(service: Service, connection: Connection, caller: Caller) -> None:
    """Refuse to add a speaker for a signed call that was carried out before.

    Whoever recorded a signed call can send it again while its signature is valid: it must not bring back a
    speaker who was deleted since. Raises Conflict CONCURRENT_CHANGES; a newly signed call succeeds.
    """
    scope = _signature_scope(service, caller)
    if scope is None:
        return
    used = callers.find_client_token(connection, scope, service.clock(), callers.SIGNATURE_LIFETIME)
    if used is not None:
        raise Conflict("CONCURRENT_CHANGES")


def note_use(service: Service, connection: Connection, caller: Caller) -> None:
    """Remember the signature of a call that named a speaker, in its transaction."""
    scope = _signature_scope(service, caller)
    if scope is not None:
        callers.add_client_token(connection, scope, "", "", service.clock())


def _signature_scope(service: Service, caller: Caller) -> str | None:
    if not caller.signature:
        return None
    return service.secret.fingerprint("\x00".join(("signature", caller.account_id, caller.signature)))
