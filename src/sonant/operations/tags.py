"""TagResource, UntagResource, ListTagsForResource: only domains have tags."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from sonant.errors import Conflict, ResourceNotFound, Validation
from sonant.operations.registry import operation
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import domains


@operation
def tag_resource(service: Service, caller: Caller, request: Request) -> Answer:
    """Add tags, or overwrite those with the same key."""
    given = checked_tags(request["Tags"])
    with _opened(service, caller, request["ResourceArn"]) as (connection, domain, vault):
        tags = domain.tags(vault) | given
        limit = service.settings.quotas.tags_per_domain
        if len(tags) > limit:
            raise Validation(f"A resource holds at most {limit} tags")
        require_unchanged(domains.set_tags(connection, vault, domain, tags))
    return {}


@operation
def untag_resource(service: Service, caller: Caller, request: Request) -> Answer:
    """Remove tags by key; unknown keys are ignored."""
    with _opened(service, caller, request["ResourceArn"]) as (connection, domain, vault):
        removed = set(request["TagKeys"])
        tags = {key: value for key, value in domain.tags(vault).items() if key not in removed}
        require_unchanged(domains.set_tags(connection, vault, domain, tags))
    return {}


@operation
def list_tags_for_resource(service: Service, caller: Caller, request: Request) -> Answer:
    """List all tags, sorted by key, also of a suspended domain."""
    domain_id = _domain_id(caller, request["ResourceArn"])
    with service.database.read() as connection:
        domain = service.require_domain(connection, caller, domain_id)
    tags = domain.tags(service.open_vault(caller, domain))
    return {"Tags": [{"Key": key, "Value": value} for key, value in sorted(tags.items())]}


def checked_tags(members: list[dict[str, str]]) -> dict[str, str]:
    """Convert a request's tags to a mapping. Raises Validation for a key given twice or reserved."""
    tags = {member["Key"]: member["Value"] for member in members}
    if len(tags) != len(members):
        raise Validation("Tags must not hold the same key twice")
    if any(key.lower().startswith("aws:") for key in tags):
        raise Validation("Tag keys must not begin with aws:")
    return tags


def require_unchanged(written: bool) -> None:
    """Raise Conflict when the domain was changed by another request meanwhile."""
    if not written:
        raise Conflict("CONCURRENT_CHANGES")


@contextmanager
def _opened(service: Service, caller: Caller, arn: str) -> Iterator[tuple[Connection, domains.Domain, Vault]]:
    domain_id = _domain_id(caller, arn)
    with service.open_domain(caller, domain_id, write=True) as opened:
        yield opened


def _domain_id(caller: Caller, arn: str) -> str:
    """Parse an ARN of a domain of this partition, Region and account. Raises ResourceNotFound."""
    domain_id = arn.rpartition("/")[2]
    if arn != domains.domain_arn(caller.region, caller.account_id, domain_id):
        raise ResourceNotFound("DOMAIN")
    return domain_id
