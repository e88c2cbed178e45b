"""The accounts of one service in the data folder: each has its own keys and its own buckets.

Those of the first account are in the data folder itself, those of others under `accounts/<id>`. A key is one
in all Regions, as multi-Region keys of AWS KMS are, with an ARN in each Region.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from sonant.storage.keys.material import FileMaterial, KeyMaterial
from sonant.storage.keys.stores.local import LocalKeyStore
from sonant.storage.private_folder import Wrapping


class LocalAccounts:
    """Key stores and bucket folders by account. Safe for several threads."""

    def __init__(
        self,
        data: Path,
        *,
        region: str,
        first: str,
        clock: Callable[[], datetime],
        material: KeyMaterial | None = None,
        wrapping: Wrapping | None = None,
    ) -> None:
        """`wrapping` encrypts the files of keys."""
        self._wrapping = wrapping
        self._data, self._region, self._first, self._clock = data, region, first, clock
        self._material: KeyMaterial = material or FileMaterial()
        self._keys: dict[tuple[str, str], LocalKeyStore] = {}
        self._lock = threading.Lock()

    def keys(self, account_id: str, region: str | None = None) -> LocalKeyStore:
        """Return the account's key store in a Region, by default in the service's first.

        Its folder is made with the first key.
        """
        owner = (account_id, region or self._region)
        found = self._keys.get(owner)
        if found is None:
            with self._lock:
                found = self._keys.get(owner) or LocalKeyStore(
                    self._folder(account_id) / "keys",
                    region=owner[1],
                    account=account_id,
                    clock=self._clock,
                    material=self._material,
                    wrapping=self._wrapping,
                )
                self._keys[owner] = found
        return found

    @property
    def in_token(self) -> bool:
        """Whether the material of keys is in a token."""
        return self._material.in_token

    def buckets(self, account_id: str) -> Path:
        """Return the folder that holds the account's buckets."""
        return self._folder(account_id) / "buckets"

    def known(self) -> list[str]:
        """Return the accounts that have a folder, the first one first."""
        others = self._data / "accounts"
        found = sorted(path.name for path in others.iterdir() if path.is_dir()) if others.is_dir() else []
        return [self._first, *found]

    def _folder(self, account_id: str) -> Path:
        if len(account_id) != 12 or not account_id.isascii() or not account_id.isdigit():
            raise ValueError("an account id has 12 digits")
        return self._data if account_id == self._first else self._data / "accounts" / account_id
