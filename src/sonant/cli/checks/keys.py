"""Checks of keys: their store, their files, and every domain opened with its own."""

from __future__ import annotations

from sqlalchemy import select

from sonant.assembly.installation import DEFAULT_ALIAS, Store, check_keys
from sonant.assembly.installation.key_wrapping import describe_key_files
from sonant.cli.checks import opened
from sonant.errors import (
    KeyError_,
    KeyNotFound,
    KeysUnreachable,
    KeyUnusable,
    SealBroken,
    SetupError,
    SonantError,
)
from sonant.private_memory import is_readable, protect_memory
from sonant.settings import Settings
from sonant.storage.crypto.vault import encryption_context
from sonant.storage.database.schema import domains
from sonant.storage.opening import vault_of
from sonant.storage.repositories import domains as repository
from sonant.storage.repositories.domains import Domain

#: Most domains that one fault names.
_MOST_NAMED = 10


def check_key_store(settings: Settings) -> str:
    """Check that every key in use is there. Raises SonantError when one is not."""
    with opened(settings) as store:
        check_keys(store)
        if not store.backends.owns_keys:
            with store.database.read() as connection:
                used = select(domains.c.account_id, domains.c.region, domains.c.kms_key_arn).distinct()
                found = connection.execute(used).all()
            states = [
                store.backends.keys(row.account_id, row.region).describe(row.kms_key_arn).state
                for row in found
            ]
            return f"{settings.keys}: {states.count('Enabled')} of the {len(states)} keys in use are enabled"
        keys = store.accounts.keys(settings.account)
        state = keys.describe(DEFAULT_ALIAS).state
        if store.accounts.in_token and state == "Enabled":
            keys.generate_data_key(DEFAULT_ALIAS, {"sonant": "doctor"})  # raises what the token reports
        where = "" if settings.keys == "local" else f"{settings.keys}: "
        return f"{where}{len(keys.list())} keys, {DEFAULT_ALIAS} is {state}"


def check_domain_keys(settings: Settings) -> str:
    """Open every domain with its key. Raises SetupError that names those which do not open, and why.

    A key that was disabled, or is to be deleted, is no fault: somebody did that. It is counted.
    """
    opened_now, closed, faults = 0, 0, dict[str, list[str]]()
    with opened(settings) as store:
        with store.database.read() as connection:
            known = repository.list_all(connection)
        for domain in known:
            try:
                domain.texts(vault_of(store.backends.keys, domain))
                opened_now += 1
            except SealBroken:
                faults.setdefault("its data key or name is damaged: restore a backup", []).append(
                    domain.domain_id
                )
            except (KeyError_, KeysUnreachable) as fault:
                if _is_deliberate(store, domain, fault):
                    closed += 1
                else:
                    faults.setdefault(str(fault), []).append(domain.domain_id)
    if faults:
        raise SetupError(
            "; ".join(
                f"{_named(domain_ids)} cannot be opened: {reason}" for reason, domain_ids in faults.items()
            )
        )
    shut = f"; {closed} have a key that was disabled or destroyed on purpose (`sonant key list`)"
    return f"{opened_now} of {len(known)} domains opened with their keys" + (shut if closed else "")


def _is_deliberate(store: Store, domain: Domain, fault: SonantError) -> bool:
    """Return whether somebody disabled the domain's key, has it deleted, or accepted its loss."""
    if isinstance(fault, KeyUnusable):
        return True
    if not (isinstance(fault, KeyNotFound) and store.backends.owns_keys):
        return False
    keys = store.accounts.keys(domain.account_id)
    return keys.loss(domain.data_key_wrapped, encryption_context(domain.arn)) is None


def _named(domain_ids: list[str]) -> str:
    more = f" and {len(domain_ids) - _MOST_NAMED} more" if len(domain_ids) > _MOST_NAMED else ""
    return f"domain {', '.join(domain_ids[:_MOST_NAMED])}{more}"


def check_key_files(settings: Settings) -> str:
    """Say how the key files lie, and how old the service key is. Raises SetupError for a mixture."""
    with opened(settings) as store:
        keys, found = store.secret.keys, describe_key_files(store.accounts.known(), settings)
    if keys.unfinished is not None:
        raise SetupError(
            f"{found}; a rotation of the service key is not finished: run `sonant key rotate-service`"
        )
    last = keys.former[0].replaced_at if keys.former else None
    rotated = "never rotated" if last is None else f"rotated last on {last:%Y-%m-%d}"
    return f"{found}; service key {rotated}"


def check_memory(settings: Settings) -> str:
    """Say how the memory of processes with keys is protected."""
    protect_memory(core_dumps=settings.core_dumps, lock=settings.lock_memory)
    dumps = "may be dumped and read by other processes of this user" if is_readable() else "is never dumped"
    swap = "locked" if settings.lock_memory else "not locked: keep swap off or encrypted"
    return f"memory with keys {dumps}, and is {swap}"
