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
    hashes = service.secret.fingerprints(rest)
    if token is None:
        return ClientToken(scope=None, request_hash=hashes[0], found=None)
    scopes = service.secret.fingerprints(
        "\x00".join((caller.account_id, caller.region, operation, request.get("DomainId", ""), token))
    )
    for scope, request_hash in zip(scopes, hashes, strict=False):  # by key: the present one, and former ones
        earlier = callers.find_client_token(connection, scope, service.clock())
        if earlier is None:
            continue
        if earlier[0] != request_hash:
            raise Validation("ClientToken was used before with other parameters; use a new one")
        return ClientToken(scope=scope, request_hash=request_hash, found=earlier[1])
    return ClientToken(scope=scopes[0], request_hash=hashes[0], found=None)


# --- signed calls that were sent again


def require_first_use(service: Service, connection: Connection, caller: Caller) -> None:
    """Refuse to add a speaker for a signed call that was carried out before.

    Whoever recorded a signed call can send it again while its signature is valid: it must not bring back a
    speaker who was deleted since. Raises Conflict CONCURRENT_CHANGES; a newly signed call succeeds.
    """
    for scope in _signature_scopes(service, caller):
        used = callers.find_client_token(connection, scope, service.clock(), callers.SIGNATURE_LIFETIME)
        if used is not None:
            raise Conflict("CONCURRENT_CHANGES")


def note_use(service: Service, connection: Connection, caller: Caller) -> None:
    """Remember the signature of a call that named a speaker, in its transaction."""
    for scope in _signature_scopes(service, caller)[:1]:
        callers.add_client_token(connection, scope, "", "", service.clock())


def _signature_scopes(service: Service, caller: Caller) -> tuple[str, ...]:
    """Return what a use of the call's signature is remembered by: under the present key, and former ones."""
    if not caller.signature:
        return ()
    return service.secret.fingerprints("\x00".join(("signature", caller.account_id, caller.signature)))
