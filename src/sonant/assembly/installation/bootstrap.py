"""Make what a fresh installation needs: a key, two users with access keys, a role."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from sonant.assembly.installation.folders import administrator_file, credentials_file, write_private
from sonant.assembly.installation.store import Store
from sonant.iam import ALLOW_ALL
from sonant.settings import Settings
from sonant.storage.database.postgres import advisory_lock
from sonant.storage.keys.stores.local import LocalKeyStore
from sonant.storage.repositories import access, domains

#: Alias of the key of a fresh installation.
DEFAULT_ALIAS = "alias/sonant"

#: Profile of the administrator's access key in its file.
ADMINISTRATOR_PROFILE = "administrator"


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

#: Actions of Sonant's own that the application of a fresh installation may use, beside all of Voice ID's. It
#: cannot read exact scores, export voiceprints, search for duplicates, open locked speakers, import opt-outs
#: or restore domains.
APPLICATION_ACTIONS = (
    "sonant:CompareRecording",
    "sonant:DescribeEnrollmentDryRun",
    "sonant:DescribeSession",
    "sonant:EndStream",
    "sonant:EnrollBySession",
    "sonant:ListEnrollmentDryRuns",
    "sonant:ListSessions",
    "sonant:RestartStream",
    "sonant:StartEnrollmentDryRun",
    "sonant:StartSession",
    "sonant:StopJob",
    "sonant:StreamAudio",
    "sonant:UpdateSession",
)


def application_policy(settings: Settings) -> str:
    """Build the policy of the application's user: what programs that were written for Voice ID do.

    It may use keys for domains, and pass the account's roles to jobs; it cannot change or destroy keys, users
    and roles.
    """
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": ["voiceid:*", *APPLICATION_ACTIONS], "Resource": "*"},
                {
                    "Effect": "Allow",
                    "Action": ["kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey"],
                    "Resource": "*",
                },
                {
                    "Effect": "Allow",
                    "Action": "iam:PassRole",
                    "Resource": f"arn:aws:iam::{settings.account}:role/*",
                },
            ],
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKeyPair:
    """Ids of the access keys of a fresh installation."""

    administrator: str
    application: str


def user_arn(settings: Settings) -> str:
    """Return the ARN of the administrator of a fresh installation."""
    return f"arn:aws:iam::{settings.account}:user/sonant"


def application_arn(settings: Settings) -> str:
    """Return the ARN of the application's user of a fresh installation."""
    return f"arn:aws:iam::{settings.account}:user/application"


def role_arn(settings: Settings) -> str:
    """Return the ARN of the role of a fresh installation, which may use all local buckets and keys."""
    return f"arn:aws:iam::{settings.account}:role/sonant"


def first_start(store: Store) -> AccessKeyPair | None:
    """Make the first key, the users, the role, the access keys and their files; return the keys' ids.

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
        for arn, policy in (
            (user_arn(settings), ALLOW_ALL),
            (application_arn(settings), application_policy(settings)),
            (role_arn(settings), ROLE_POLICY),
        ):
            access.put_principal(connection, arn, settings.account, [policy], now)
        # Written before the commit: an access key without its file could never be used.
        return AccessKeyPair(
            administrator=_new_key(
                store, connection, user_arn(settings), administrator_file(settings), ADMINISTRATOR_PROFILE
            ),
            application=_new_key(
                store, connection, application_arn(settings), credentials_file(settings), "default"
            ),
        )


def _new_key(store: Store, connection: Connection, arn: str, file: Path, profile: str) -> str:
    """Make an access key, write its file, and return its id."""
    key_id, secret = access.create_access_key(connection, store.secret, arn, store.clock())
    write_private(
        file,
        f"[{profile}]\naws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n"
        f"region = {store.settings.region}\n",
    )
    return key_id
