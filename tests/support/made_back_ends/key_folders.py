"""A key service that stores each account's keys in a folder named by `kms.endpoint`."""

from __future__ import annotations

from pathlib import Path

from sonant.settings import Settings
from sonant.storage.keys.store import KeyBackEnd, KeysOf, KeyStore
from sonant.storage.keys.stores.local import LocalKeyStore
from sonant.storage.times import now


def key_stores(settings: Settings) -> KeysOf:
    def keys(account_id: str, region: str) -> KeyStore:
        folder = Path(settings.kms.endpoint) / account_id
        return LocalKeyStore(folder, region=region, account=account_id, clock=now)

    return keys


BACK_END = KeyBackEnd(stores=key_stores, administered="in folders of their own")
