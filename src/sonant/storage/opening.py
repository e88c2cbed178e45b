"""Open a domain: the only place that unwraps a stored domain's data key."""

from __future__ import annotations

from sqlalchemy import Connection

from sonant.errors import DomainNotActive, KeyError_, KeysUnreachable, SetupError
from sonant.storage.crypto.vault import Vault, open_vault
from sonant.storage.keys.store import KeysOf, KeyStore
from sonant.storage.repositories import domains
from sonant.storage.repositories.domains import Domain


def vault_of(keys_of: KeysOf, domain: Domain) -> Vault:
    """Open a domain's vault, active or not.

    Goes through the key store every time: a key that was disabled a moment ago refuses. Raises SealBroken for
    a damaged data key, another KeyError_ for a KMS key that cannot be used, KeysUnreachable.
    """
    keys = keys_of(domain.account_id, domain.region)
    return open_vault(keys, domain.domain_id, domain.arn, domain.data_key_wrapped)


def is_usable(keys: KeyStore, wrapped: bytes) -> bool:
    """Return whether the key that wraps a data key may be used; True while a key service does not answer."""
    try:
        return keys.describe(keys.key_of(wrapped)).state == "Enabled"
    except KeyError_:
        return False
    except (KeysUnreachable, SetupError):  # a folder that is away may come back; each use checks anyway
        return True


def open_active_domain(connection: Connection, keys_of: KeysOf, domain_id: str) -> tuple[Domain, Vault]:
    """Find an active domain of any account and open it. Raises DomainNotActive and what `vault_of` raises."""
    domain = domains.find_by_id(connection, domain_id)
    if domain is None or not domain.active:
        raise DomainNotActive("the domain is suspended")
    return domain, vault_of(keys_of, domain)
