"""The key stores and the object store that the settings `keys` and `objects` name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from sonant.errors import KeysUnreachable
from sonant.iam import Policy
from sonant.settings import Settings
from sonant.settings.registries import KEY_STORES, OBJECT_STORES
from sonant.storage.accounts import LocalAccounts
from sonant.storage.keys.material import FileMaterial
from sonant.storage.keys.store import KeyBackEnd, KeyStore
from sonant.storage.objects.store import ObjectBackEnd, ObjectBackEndType, ObjectStore, RoleObjects
from sonant.storage.times import now

_log = logging.getLogger(__name__)


class Backends:
    """Key stores by account and Region, the object store, and the object store with the rights of a role.

    Safe for several threads.
    """

    def __init__(self, settings: Settings, accounts: LocalAccounts) -> None:
        self._settings, self._accounts = settings, accounts
        self._key_back_end = key_back_end(settings)
        remote = self._key_back_end.stores
        self._remote_keys = None if remote is None else remote(settings)
        self._objects: ObjectBackEnd = object_back_end(settings)(settings, accounts, self.keys)

    @property
    def owns_keys(self) -> bool:
        """Whether keys are Sonant's own, in the data folder, and not those of a key service."""
        return self._remote_keys is None

    def keys(self, account_id: str, region: str | None = None) -> KeyStore:
        """Return the account's keys in a Region, by default in the service's first."""
        if self._remote_keys is None:
            return self._accounts.keys(account_id, region)
        return self._remote_keys(account_id, region or self._settings.region)

    def objects(self) -> ObjectStore:
        """Return the first account's buckets, with the service's own rights."""
        return self._objects.objects()

    def objects_as(
        self, role_arn: str, policies: Sequence[Policy], *, domain_arn: str, account_id: str
    ) -> RoleObjects:
        """Return the buckets with the rights of a role, for a domain of an account.

        `policies` are those of Sonant's role of that name; they are ignored with `settings.assumes_roles`.
        """
        return self._objects.objects_as(role_arn, policies, domain_arn=domain_arn, account_id=account_id)

    def clean_up(self) -> None:
        """Destroy keys whose deletion is due, and remove what interrupted writes of objects left behind."""
        if self.owns_keys:
            for account_id in self._accounts.known():
                try:
                    self._accounts.keys(account_id).purge_due()
                except KeysUnreachable as fault:
                    _log.warning("keys whose deletion is due are destroyed at a later start: %s", fault)
        self._objects.clean_up()


def key_back_end(settings: Settings) -> KeyBackEnd:
    """Return the kind of key store that `settings.keys` names. Raises SetupError."""
    found: KeyBackEnd = KEY_STORES.get(settings.keys)
    return found


def object_back_end(settings: Settings) -> ObjectBackEndType:
    """Return the kind of object store that `settings.objects` names. Raises SetupError."""
    found: ObjectBackEndType = OBJECT_STORES.get(settings.objects)
    return found


def local_accounts(settings: Settings, clock: Callable[[], datetime]) -> LocalAccounts:
    """Return the accounts' keys and buckets in the data folder. Raises SetupError."""
    material = key_back_end(settings).material
    return LocalAccounts(
        settings.data,
        region=settings.region,
        first=settings.account,
        clock=clock,
        material=FileMaterial() if material is None else material(settings),
    )


def open_backends(settings: Settings) -> Backends:
    """Build the key and object stores, without a database."""
    return Backends(settings, local_accounts(settings, now))


def check_back_ends(settings: Settings) -> None:
    """Raise SetupError for settings of the chosen back ends that do not go together."""
    object_back_end(settings).check(settings)
    key_back_end(settings).check(settings)
