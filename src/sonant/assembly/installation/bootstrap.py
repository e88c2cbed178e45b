"""Make what a fresh installation needs: a key, a user, a role, an access key."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sonant.assembly.installation.folders import credentials_file, write_private
from sonant.assembly.installation.store import Store
from sonant.iam import ALLOW_ALL
from sonant.settings import Settings
from sonant.storage.database.postgres import advisory_lock
from sonant.storage.keys.stores.local import LocalKeyStore
from sonant.storage.repositories import access, domains

#: Alias of the key of a fresh installation.
DEFAULT_ALIAS = "alias/sonant"


def role_policy(buckets: Sequence[str] = ()) -> str:
    """Build the policy of a job's role, for these buckets; for all of the account when none is named.

    It allows no operation of the API, so that whoever may assume the role gains no further rights.
    """
    objects = [f"arn:aws:s3:::{bucket}/*" for bucket in buckets] or "arn:aws:s3:::*"
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": objects},
                {"Effect": "Allow", "Action": ["kms:Decrypt", "kms:GenerateDataKey"], "Resource": "*"},
            ],
        }
    )


#: Policy of the role of a fresh installation.
ROLE_POLICY = role_policy()


def user_arn(settings: Settings) -> str:
    """Return the ARN of the user of a fresh installation."""
    return f"arn:aws:iam::{settings.account}:user/sonant"


def role_arn(settings: Settings) -> str:
    """Return the ARN of the role of a fresh installation, which may use all local buckets and keys."""
    return f"arn:aws:iam::{settings.account}:role/sonant"


def first_start(store: Store) -> str | None:
    """Make the first key, user, role, access key and credentials file; return the id of the access key.

    Returns None when there is a user or a domain already: whatever is missing then was lost or deleted, and
    is not made again.
    """
    settings, now = store.settings, store.clock()
    with store.database.write() as connection:
        advisory_lock(connection, "first start")
        if access.list_principals(connection) or domains.any_exist(connection):
            return None
        if isinstance(store.keys, LocalKeyStore) and not any(
            DEFAULT_ALIAS in key.aliases for key in store.keys.list()
        ):
            store.keys.create("made at first start", alias=DEFAULT_ALIAS)
        for arn, policy in ((user_arn(settings), ALLOW_ALL), (role_arn(settings), ROLE_POLICY)):
            access.put_principal(connection, arn, settings.account, [policy], now)
        key_id, secret = access.create_access_key(connection, store.secret, user_arn(settings), now)
        # Written before the commit: an access key without its file could never be used.
        write_private(
            credentials_file(settings),
            f"[default]\naws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n"
            f"region = {settings.region}\n",
        )
    return key_id
