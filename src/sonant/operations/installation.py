"""Sonant's own ListSettings, ListKeys and ListPrincipals: how the installation is set up, without secrets."""

from __future__ import annotations

from typing import Any

from sonant.errors import AccessDenied, KeyError_, KeysUnreachable
from sonant.operations.paging import paged
from sonant.operations.registry import ExecutorKind, operation
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.settings.listing import Setting, all_settings
from sonant.settings.loading import as_flags
from sonant.storage.repositories import access, domains
from sonant.storage.repositories.domains import Domain

#: Domains of an account in one Region whose keys are listed.
_MOST_DOMAINS = 1000


def require_owner(service: Service, caller: Caller, what: str) -> None:
    """Require a caller of the installation's first account: other accounts see what is theirs alone."""
    if caller.account_id != service.settings.account:
        raise AccessDenied(f"Only users of the installation's first account may read {what}")


# --- settings


@operation(executor=ExecutorKind.WRITE)
def list_settings(service: Service, caller: Caller, request: Request) -> Answer:
    """List all settings with the values in force. Values of secret settings are left out."""
    require_owner(service, caller, "the settings")
    values = as_flags(service.settings)
    return {"Settings": [_setting(one, values.get(name)) for name, one in all_settings().items()]}


def _setting(setting: Setting, value: Any) -> dict[str, Any]:
    declared, default = setting.declared, setting.default
    value = default if value is None else value
    shown = None if declared.secret else _text(value)
    return {
        "Name": setting.name,
        "Variable": setting.variable,
        "Value": shown,
        "Default": None if declared.secret else _text(default),
        "IsSet": bool(value) if declared.secret else None,
        "IsChanged": _text(value) != _text(default),
        "Unit": declared.unit or None,
        "Least": declared.least,
        "Most": declared.most,
        "Meaning": declared.meaning,
    }


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# --- keys


@operation(executor=ExecutorKind.LONG)
def list_keys(service: Service, caller: Caller, request: Request) -> Answer:
    """List the KMS keys of the account's domains in the caller's Region, oldest first."""
    with service.database.read() as connection:
        found = domains.page(connection, caller.account_id, caller.region, None, _MOST_DOMAINS)
    by_key: dict[str, list[Domain]] = {}
    for domain in found:
        by_key.setdefault(domain.kms_key_arn, []).append(domain)
    keys = [_key(service, caller, arn, used_by) for arn, used_by in by_key.items()]
    keys.sort(key=lambda key: (key["CreatedAt"] is None, key["CreatedAt"] or 0))
    owner = caller.account_id == service.settings.account
    return {"Keys": keys, "ServiceKeyId": service.secret.key_id if owner else None}


def _key(service: Service, caller: Caller, arn: str, used_by: list[Domain]) -> dict[str, Any]:
    member = {"KmsKeyArn": arn, "DomainIds": [domain.domain_id for domain in used_by]}
    try:
        info = service.keys_of(caller.account_id, caller.region).describe(arn)
    except (KeyError_, KeysUnreachable) as fault:
        return {**member, "State": "Unavailable", "Problem": str(fault), "CreatedAt": None}
    return {
        **member,
        "State": info.state,
        "Description": info.description or None,
        "Aliases": list(info.aliases),
        "CreatedAt": info.created_at,
        "DeletionDate": info.deletion_date,
    }


# --- users and roles


@operation(executor=ExecutorKind.WRITE)
def list_principals(service: Service, caller: Caller, request: Request) -> Answer:
    """List users and roles of the caller's account, with their policies and access keys, by age."""
    with service.database.read() as connection:
        items, next_token = paged(
            service,
            request,
            ("ListPrincipals", caller.account_id),
            lambda after, limit: access.page(connection, caller.account_id, after, limit),
            lambda found: (found.created_at, found.arn),
        )
        keys = access.keys_of(connection, [found.arn for found in items])
        return {
            "Principals": [
                {
                    "Arn": found.arn,
                    "CreatedAt": found.created_at,
                    "Policies": list(found.policies),
                    "AccessKeys": [_access_key(key) for key in keys.get(found.arn, ())],
                }
                for found in items
            ],
            "NextToken": next_token,
        }


def _access_key(key: access.AccessKey) -> dict[str, Any]:
    return {
        "AccessKeyId": key.access_key_id,
        "IsActive": key.active,
        "CreatedAt": key.created_at,
        "ExpiresAt": key.expires_at,
    }
