"""Checks of users and roles: the form of their policies, and that an administrator is left."""

from __future__ import annotations

from sonant.assembly.installation import administrator_file, credentials_file, former_policies
from sonant.cli.checks import opened
from sonant.cli.credentials import profiles_in
from sonant.errors import SetupError
from sonant.settings import Settings
from sonant.storage.repositories import access

#: Most statements that are named.
_MOST_REPAIRS = 20
#: An administrator may do these on everything: an operation of Voice ID, two of Sonant's own, one on a key.
_ADMINISTRATION = (
    "voiceid:DeleteDomain",
    "sonant:RestoreDomain",
    "sonant:ImportOptOuts",
    "kms:Decrypt",
)


def check_policies(settings: Settings) -> str:
    """Count the users and roles. Raises SetupError when a policy rests on former names of actions."""
    with opened(settings) as store, store.database.read() as connection:
        found = list(former_policies(connection))
        count = len(access.list_principals(connection))
    if found:
        more = f" (and {len(found) - _MOST_REPAIRS} more statements)" if len(found) > _MOST_REPAIRS else ""
        raise SetupError(
            f"{'; '.join(found[:_MOST_REPAIRS])}{more}. Change them with `sonant access user put` or "
            "`sonant access role put`"
        )
    return f"of {count} users and roles, in today's names of actions"


def check_administrators(settings: Settings) -> str:
    """Count the users who may do everything and can sign. Raises SetupError when there is none.

    Also for an access key of the data folder's files that the database does not know, or that is disabled:
    commands would sign with it.
    """
    with opened(settings) as store, store.database.read() as connection:
        keys = {key.access_key_id: key for key in access.list_access_keys(connection)}
        with_key = {key.principal_arn for key in keys.values() if key.active and key.expires_at is None}
        able = [arn for arn in sorted(with_key) if _is_administrator(access.find_principal(connection, arn))]
    if not able:
        raise SetupError(
            "no user with an active access key may do everything: see `sonant access list`; `sonant access "
            "enable KEY` takes a disabled key into use again, `sonant access create --user NAME` makes one, "
            "and `sonant access user put NAME --policy FILE` gives the user a policy that allows Action * on "
            "Resource *"
        )
    for file in (administrator_file(settings), credentials_file(settings)):
        for profile, key_id in profiles_in(file).items():
            if key_id not in keys or not keys[key_id].active:
                state = "is disabled" if key_id in keys else "does not exist any more"
                raise SetupError(
                    f"the access key {key_id} of the profile {profile} in {file} {state}: `sonant access "
                    "create` makes another, and the file's owner puts it there"
                )
    return f"{len(able)} of the users with an access key may do everything"


def _is_administrator(principal: access.Principal | None) -> bool:
    return principal is not None and all(
        principal.evaluator.allows(action, "*") for action in _ADMINISTRATION
    )
