"""Find domains whose keys are lost."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from sonant.errors import SealBroken, SetupError
from sonant.storage.accounts import LocalAccounts
from sonant.storage.crypto.vault import encryption_context
from sonant.storage.keys.stores.local import KeyLoss
from sonant.storage.repositories import domains

if TYPE_CHECKING:
    from sonant.assembly.installation.store import Store

#: How lost files of keys are put back, for messages.
RESTORE_KEYS = "put the `keys` folder back from a backup (`sonant restore` with another --data gives it)"


def check_keys(store: Store) -> None:
    """Raise SetupError when keys that domains need are lost."""
    if not store.backends.owns_keys:
        return  # a key service loses none
    with store.database.read() as connection:
        lost = lost_keys(store.accounts, connection)
    for (account_id, loss), count in lost.items():
        where = "" if account_id == store.settings.account else f" --account {account_id}"
        if loss.in_token:
            missing = f"the token does not hold the material of key {loss.key_id}"
            remedy = "restore the token by its vendor's means"
            command = f"sonant key disable {loss.key_id}{where}"
        else:
            missing = f"key {loss.key_id} is missing from {loss.folder}"
            remedy, command = RESTORE_KEYS, f"sonant key accept-loss {loss.key_id}{where}"
        raise SetupError(
            f"{missing}, and {count} domains cannot be opened without it: {remedy}; if it is lost for good, "
            f"`{command}` lets Sonant start without them"
        )


def lost_keys(accounts: LocalAccounts, connection: Connection) -> Counter[tuple[str, KeyLoss]]:
    """Find lost keys by account, and count the domains that need each. Raises SetupError."""
    found, other_kind, known = Counter[tuple[str, KeyLoss]](), 0, domains.list_unchecked(connection)
    for domain in known:
        try:
            loss = accounts.keys(domain.account_id).loss(
                domain.data_key_wrapped, encryption_context(domain.arn)
            )
        except SealBroken:  # wrapped by another kind of key store, or damaged
            other_kind += 1
            continue
        if loss is not None:
            found[domain.account_id, loss] += 1
    if known and other_kind == len(known):
        raise SetupError(
            "the domains of this database have keys of another kind: set `keys` to what it was, or restore a "
            "backup if it was never changed"
        )
    return found
