"""Object stores and key stores that ask the policies of a role first.

The policies grant what those of an IAM role with S3 and KMS rights would grant: `s3:GetObject` and
`s3:PutObject` on `arn:aws:s3:::bucket/key`, `kms:Decrypt` and `kms:GenerateDataKey` on key ARNs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from sonant.errors import InvalidObjectName, KeyDenied, ObjectDenied, ObjectNotFound
from sonant.iam import Context, Policy, allows
from sonant.iam.patterns import ARN_PARTS
from sonant.storage.keys.store import DataKey, KeyInfo, KeyStore
from sonant.storage.objects.store import ObjectReader, ObjectStore, ObjectUri, key_part_is_object


class PolicyCheckedKeys:
    """A `KeyStore` that asks a role's policies first."""

    def __init__(self, keys: KeyStore, role_arn: str, policies: Sequence[Policy]) -> None:
        self._keys, self._role_arn, self._policies = keys, role_arn, policies

    def describe(self, ref: str) -> KeyInfo:
        return self._keys.describe(ref)

    def key_of(self, wrapped: bytes) -> str:
        return self._keys.key_of(wrapped)

    def generate_data_key(self, ref: str, context: Mapping[str, str]) -> DataKey:
        self._require("kms:GenerateDataKey", self._keys.describe(ref).arn, context)
        return self._keys.generate_data_key(ref, context)

    def decrypt(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        self._require("kms:Decrypt", self._keys.key_of(wrapped), context)
        return self._keys.decrypt(wrapped, context)

    def re_wrap(self, wrapped: bytes, context: Mapping[str, str], ref: str) -> bytes:
        self._require("kms:ReEncryptFrom", self._keys.key_of(wrapped), context)
        self._require("kms:ReEncryptTo", self._keys.describe(ref).arn, context)
        return self._keys.re_wrap(wrapped, context, ref)

    def grant(self, ref: str, context: Mapping[str, str]) -> None:
        self._require("kms:CreateGrant", self._keys.describe(ref).arn, context)
        self._keys.grant(ref, context)

    def retire(self, ref: str, context: Mapping[str, str]) -> None:
        self._require("kms:RetireGrant", self._keys.describe(ref).arn, context)
        self._keys.retire(ref, context)

    def _require(self, action: str, key_arn: str, context: Mapping[str, str]) -> None:
        """The key is used for objects, on behalf of S3 (AWS docs, server-side encryption with KMS keys)."""
        _, _, _, region, account_id, _ = key_arn.split(":", ARN_PARTS - 1)
        facts: Context = {
            "kms:ViaService": f"s3.{region}.amazonaws.com",
            "kms:CallerAccount": account_id,
            "kms:EncryptionContextKeys": list(context),
            **{f"kms:EncryptionContext:{key}": value for key, value in context.items()},
        }
        if not allows(self._policies, action, key_arn, facts):
            raise KeyDenied(f"the role {self._role_arn} has no right {action} on {key_arn}")


class PolicyCheckedReads:
    """Reads objects as far as a role's policies allow."""

    def __init__(self, store: ObjectStore, role_arn: str, policies: Sequence[Policy]) -> None:
        self._store, self._role_arn, self._policies = store, role_arn, policies

    def size(self, uri: ObjectUri) -> int:
        self._require("s3:GetObject", uri)
        return self._store.size(uri)

    def read(self, uri: ObjectUri, max_bytes: int) -> bytes:
        self._require("s3:GetObject", uri)
        return self._store.read(uri, max_bytes)

    def open(self, uri: ObjectUri) -> ObjectReader:
        self._require("s3:GetObject", uri)
        return self._store.open(uri)

    def _require(self, action: str, uri: ObjectUri) -> None:
        if not allows(self._policies, action, f"arn:aws:s3:::{uri.bucket}/{uri.key}"):
            raise ObjectDenied(f"the role {self._role_arn} has no right {action} on {uri.shown}")


class PolicyCheckedObjects(PolicyCheckedReads):
    """A `RoleObjects` of a local object store."""

    def __init__(
        self,
        open_store: Callable[[KeyStore], ObjectStore],
        keys: KeyStore,
        role_arn: str,
        policies: Sequence[Policy],
    ) -> None:
        self._keys = PolicyCheckedKeys(keys, role_arn, policies)
        super().__init__(open_store(self._keys), role_arn, policies)

    def write(self, uri: ObjectUri, chunks: Iterable[bytes] | bytes, kms_key: str | None) -> None:
        self._require("s3:PutObject", uri)
        self._store.write(uri, chunks, kms_key)

    def check_writable(self, uri: ObjectUri, kms_key: str | None) -> None:
        """Raise what `write` would raise, as far as that is known without writing."""
        self._require("s3:PutObject", uri)
        try:
            self._store.size(uri)
        except ObjectNotFound:
            self._check_folders(uri)
        if kms_key is not None:
            self._keys.generate_data_key(kms_key, {"sonant:check": str(uri)})

    def _check_folders(self, uri: ObjectUri) -> None:
        """Raise ObjectNameConflict when a part of the key is an object: local buckets store it as a file."""
        for end, character in enumerate(uri.key):
            if character != "/" or end == 0:
                continue
            with contextlib.suppress(ObjectNotFound, InvalidObjectName):
                self._store.size(ObjectUri(uri.bucket, uri.key[:end]))
                raise key_part_is_object(uri.shown)
