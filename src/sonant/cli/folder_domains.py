"""Domains of the data folder, opened without the service, for commands of the folder's owner."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from sonant.assembly.installation import open_store
from sonant.errors import DomainNotActive, KeyError_, KeysUnreachable, SealBroken, SetupError
from sonant.settings import Settings
from sonant.storage.crypto.vault import Vault
from sonant.storage.opening import open_active_domain
from sonant.storage.repositories.domains import Domain


@contextmanager
def opened_domain(
    settings: Settings, domain_id: str, *, write: bool = False
) -> Iterator[tuple[Connection, Domain, Vault]]:
    """Begin a transaction with an active domain of any account and its vault. Raises SetupError."""
    store = open_store(settings)
    try:
        begin = store.database.write if write else store.database.read
        with begin() as connection:
            with told_why_closed(domain_id):
                domain, vault = open_active_domain(connection, store.backends.keys, domain_id)
            yield connection, domain, vault
    finally:
        store.database.close()


@contextmanager
def told_why_closed(domain_id: str) -> Iterator[None]:
    """Turn what the opening of a domain raises into a SetupError that says what to do."""
    try:
        yield
    except DomainNotActive:
        raise SetupError(
            f"there is no active domain {domain_id[:64]!r}; see `sonant voice-id list-domains`"
        ) from None
    except SealBroken:
        raise SetupError(f"the data key of domain {domain_id} is damaged") from None
    except (KeyError_, KeysUnreachable) as fault:
        raise SetupError(f"the key of domain {domain_id} cannot be used: {fault}") from None
