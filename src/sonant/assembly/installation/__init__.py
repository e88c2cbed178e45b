"""Open an installation: its data folder, database, keys and stores.

`store` opens it, `service_key` and `domain_keys` check that its keys are the right ones, `first_start` makes
what a fresh one needs, `folders` finds the files and locks of the data folder.
"""

from sonant.assembly.installation.bootstrap import (
    ADMINISTRATOR_PROFILE,
    DEFAULT_ALIAS,
    ROLE_POLICY,
    AccessKeyPair,
    application_arn,
    application_policy,
    first_start,
    role_arn,
    role_policy,
    user_arn,
)
from sonant.assembly.installation.domain_keys import check_keys, lost_keys
from sonant.assembly.installation.folders import (
    MOST_PROCESSES,
    administrator_file,
    audit_folders,
    credentials_file,
    lost_trail,
    make_folder,
    only_one,
    own_audit_folder,
    write_private,
)
from sonant.assembly.installation.former_policies import advice_on, former_policies
from sonant.assembly.installation.service_key import check_service_key, service_key_digest
from sonant.assembly.installation.service_key_rotation import (
    adopt_later_keys,
    rotation_lock,
)
from sonant.assembly.installation.store import (
    Store,
    ledger_key,
    migrate,
    open_database,
    open_store,
)

__all__ = [
    "ADMINISTRATOR_PROFILE",
    "DEFAULT_ALIAS",
    "MOST_PROCESSES",
    "ROLE_POLICY",
    "AccessKeyPair",
    "Store",
    "administrator_file",
    "adopt_later_keys",
    "advice_on",
    "application_arn",
    "application_policy",
    "audit_folders",
    "check_keys",
    "check_service_key",
    "credentials_file",
    "first_start",
    "former_policies",
    "ledger_key",
    "lost_keys",
    "lost_trail",
    "make_folder",
    "migrate",
    "only_one",
    "open_database",
    "open_store",
    "own_audit_folder",
    "role_arn",
    "role_policy",
    "rotation_lock",
    "service_key_digest",
    "user_arn",
    "write_private",
]
