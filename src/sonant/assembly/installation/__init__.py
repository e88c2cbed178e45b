"""Open an installation: its data folder, database, keys and stores.

`store` opens it, `service_key` and `domain_keys` check that its keys are the right ones, `first_start` makes
what a fresh one needs, `folders` finds the files and locks of the data folder.
"""

from sonant.assembly.installation.bootstrap import (
    DEFAULT_ALIAS,
    ROLE_POLICY,
    first_start,
    role_arn,
    role_policy,
    user_arn,
)
from sonant.assembly.installation.domain_keys import check_keys, lost_keys
from sonant.assembly.installation.folders import (
    MOST_PROCESSES,
    audit_folders,
    credentials_file,
    lost_trail,
    make_folder,
    only_one,
    own_audit_folder,
    write_private,
)
from sonant.assembly.installation.service_key import check_service_key, service_key_digest
from sonant.assembly.installation.store import (
    Store,
    migrate,
    open_database,
    open_store,
)

__all__ = [
    "DEFAULT_ALIAS",
    "MOST_PROCESSES",
    "ROLE_POLICY",
    "Store",
    "audit_folders",
    "check_keys",
    "check_service_key",
    "credentials_file",
    "first_start",
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
    "service_key_digest",
    "user_arn",
    "write_private",
]
