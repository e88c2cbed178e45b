"""Where objects and keys live: the one place that reads `objects` and `keys` of the settings."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

from sonant.errors import KeysUnreachable, SetupError
from sonant.iam import Policy
from sonant.settings import S3, Kms, Settings
from sonant.storage.accounts import LocalAccounts
from sonant.storage.grants import GrantedObjects
from sonant.storage.keys.material import FileMaterial, KeyMaterial
from sonant.storage.keys.store import KeyStore
from sonant.storage.objects.local import LocalObjectStore
from sonant.storage.objects.store import ObjectStore, RoleObjects

_log = logging.getLogger(__name__)


class Backends:
    """Key stores by account and Region, the object store, and the object store as a role may use it.

    Everything of AWS is imported and made when first asked for. Safe for several threads.
    """

    def __init__(self, settings: Settings, local: LocalAccounts) -> None:
        self._settings, self._local = settings, local
        self._remote_keys: dict[tuple[str, str], KeyStore] = {}
        self._kms: dict[str, Any] = {}
        self._s3: Any = None
        self._lock = threading.RLock()

    def keys(self, account_id: str, region: str | None = None) -> KeyStore:
        """The account's keys in a Region, the service's first if none is named."""
        if self._settings.keys != "aws-kms":
            return self._local.keys(account_id, region)
        place = (account_id, self._settings.kms.region or region or self._settings.region)
        with self._lock:
            found = self._remote_keys.get(place)
            if found is None:
                found = self._remote_keys[place] = self._aws_keys(*place)
        return found

    def objects(self) -> ObjectStore:
        """The first account's buckets, with the service's own rights."""
        if self._settings.objects == "local":
            account_id = self._settings.account
            return LocalObjectStore(self._local.buckets(account_id), self.keys(account_id))
        store: ObjectStore = self._service_s3()
        return store

    def objects_as(
        self, role_arn: str, policies: Sequence[Policy], *, domain_arn: str, account_id: str
    ) -> RoleObjects:
        """The buckets as a role may use them for a domain of an account.

        `policies` are those of the role of that name here; with `settings.assumes_roles` they say nothing.
        """
        settings = self._settings
        if settings.objects == "local":
            owner, region = role_arn.split(":")[4], domain_arn.split(":")[3] if domain_arn else None
            objects_with = partial(LocalObjectStore, self._local.buckets(owner))
            return GrantedObjects(objects_with, self.keys(owner, region), role_arn, policies)
        if not settings.s3.assume_role:
            from sonant.storage.objects.s3_roles import JudgedS3

            return JudgedS3(self._service_s3(), role_arn, policies, partial(_key_arn, settings))
        from sonant.storage.aws_clients import make_client
        from sonant.storage.objects.s3 import S3ObjectStore
        from sonant.storage.objects.s3_roles import assumed

        fresh = assumed(
            lambda: make_client("sts", _sts_place(settings)),
            role_arn,
            source_arn=domain_arn,
            source_account=account_id,
            session_s=settings.s3.session_s,
        )
        return S3ObjectStore(
            lambda: make_client("s3", _s3_place(settings), fresh=fresh), attempts=settings.s3.attempts
        )

    def tidy(self) -> None:
        """What is due at a start: destroy keys whose time is over, remove what broken writes left."""
        if self._settings.keys != "aws-kms":
            for account_id in self._local.known():
                try:
                    self._local.keys(account_id).purge_due()
                except KeysUnreachable as fault:
                    _log.warning("keys whose time is over are destroyed at a later start: %s", fault)
        if self._settings.objects == "local":
            buckets = self._local.buckets(self._settings.account)
            objects = LocalObjectStore(buckets, self.keys(self._settings.account))
            objects.make()
            objects.sweep()

    def _service_s3(self) -> Any:
        from sonant.storage.aws_clients import make_client
        from sonant.storage.objects.s3 import S3ObjectStore

        with self._lock:
            if self._s3 is None:
                self._s3 = S3ObjectStore(
                    lambda: make_client("s3", _s3_place(self._settings)), attempts=self._settings.s3.attempts
                )
        return self._s3

    def _aws_keys(self, account_id: str, region: str) -> KeyStore:
        from sonant.storage.keys.aws_kms import AwsKeyStore

        kms = self._settings.kms
        return AwsKeyStore(
            partial(self._kms_client, region),
            region=region,
            account=account_id,
            cache_s=kms.cache_s,
            grantee=kms.grantee,
        )

    def _kms_client(self, region: str) -> Any:
        found = self._kms.get(region)
        if found is None:
            from sonant.storage.aws_clients import make_client

            with self._lock:
                found = self._kms.get(region) or make_client("kms", _kms_place(self._settings, region))
                self._kms[region] = found
        return found


def own_material(settings: Settings) -> KeyMaterial:
    """Where the material of keys is that Sonant has itself. Raises SetupError."""
    if settings.keys != "pkcs11":
        return FileMaterial()
    from sonant.storage.keys.pkcs11 import token_material

    return token_material(settings.pkcs11, settings.kms.cache_s)


def check_back_ends(settings: Settings) -> None:
    """Raises SetupError for settings that cannot go together."""
    if (
        settings.objects != "local"
        and settings.s3.assume_role
        and not 1800 <= settings.s3.session_s <= 43_200
    ):
        raise SetupError(
            f"setting s3.session_s is {settings.s3.session_s:g}, must be 1800 to 43200: credentials are "
            "fetched anew 15 minutes before they end, and AWS gives none for longer than 12 hours"
        )
    for group, part in (("s3", settings.s3), ("kms", settings.kms)):
        if bool(part.access_key_id) != bool(part.secret_access_key):
            raise SetupError(f"set both {group}.access_key_id and {group}.secret_access_key, or neither")


def _key_arn(settings: Settings, ref: str) -> str:
    if ref.startswith("arn:"):
        return ref
    name = ref if ref.startswith("alias/") else f"key/{ref}"
    return f"arn:aws:kms:{settings.s3.region or settings.region}:{settings.account}:{name}"


def _place(settings: Settings, part: S3 | Kms, **more: Any) -> Any:
    from sonant.storage.aws_clients import ClientConfig

    return ClientConfig(
        region=part.region or settings.region,
        endpoint=part.endpoint,
        ca_bundle=part.ca_bundle,
        access_key_id=part.access_key_id,
        secret_access_key=part.secret_access_key,
        attempts=part.attempts,
        connect_timeout_s=part.connect_timeout_s,
        read_timeout_s=part.read_timeout_s,
        **more,
    )


def _s3_place(settings: Settings) -> Any:
    return _place(settings, settings.s3, path_style=settings.s3.path_style)


def _sts_place(settings: Settings) -> Any:
    from dataclasses import replace

    return replace(_s3_place(settings), endpoint=settings.s3.sts_endpoint, path_style=False)


def _kms_place(settings: Settings, region: str) -> Any:
    from dataclasses import replace

    return replace(_place(settings, settings.kms), region=region)
