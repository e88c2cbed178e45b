"""Keys in AWS KMS, or in a server that speaks its protocol.

    wrapped data key = magic 4 | length 2, key ARN | ciphertext blob of KMS

The ARN is stored because a blob does not say which key wraps it. Every call names the key, so a blob with
another key's name does not open.

An unwrapped data key is reused for a short time (`kms.cache_s`), so that not every call of the API is one to
KMS too. That is also the longest time for which a key that was disabled, scheduled for deletion or taken away
still works here. KMS decides by unwrapping the data key itself, so state, key policy and grants all count.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC
from functools import partial
from typing import Any

from sonant.errors import (
    KeyDenied,
    KeyNotFound,
    KeysUnreachable,
    KeyUnusable,
    SealBroken,
    SonantError,
)
from sonant.settings import Kms, Settings
from sonant.storage.aws_clients import ClientConfig, check_credentials, make_client
from sonant.storage.keys.store import (
    DataKey,
    DataKeyCache,
    KeyBackEnd,
    KeyInfo,
    KeyState,
    foreign_key,
    no_such_key,
    printable,
)

_MAGIC = b"SNA\x01"
_HEAD_BYTES = len(_MAGIC) + 2
_ARN_MAX_BYTES = 2048
#: A grant is effective everywhere after this time; until then requests carry its token (KMS docs, grants).
_GRANT_DELAY_S = 300.0
_KEY_ARN = re.compile(r"arn:[a-z-]+:kms:([a-z0-9-]+):([0-9]{12}):(?:key|alias)/[a-zA-Z0-9/_-]+")
_REF = re.compile(r"[a-zA-Z0-9:/_-]{1,2048}")

#: Operations that Sonant does with a domain's key.
_OPERATIONS = ["Decrypt", "DescribeKey", "GenerateDataKey", "ReEncryptFrom", "ReEncryptTo", "RetireGrant"]

#: Codes of KMS's error responses (KMS API reference), with the error and the end of its message.
_ERRORS: dict[str, tuple[type[SonantError], str]] = {
    "NotFoundException": (KeyNotFound, "does not exist"),
    "InvalidArnException": (KeyNotFound, "does not exist"),
    "ValidationException": (KeyNotFound, "does not exist"),
    "DisabledException": (KeyUnusable, "is disabled"),
    "KMSInvalidStateException": (KeyUnusable, "is pending deletion, or not in a state to be used"),
    "InvalidKeyUsageException": (KeyUnusable, "is not one for encryption"),
    "AccessDeniedException": (KeyDenied, "may not be used by this service"),
    "InvalidCiphertextException": (SealBroken, "did not wrap this data key, or for another context"),
    "IncorrectKeyException": (SealBroken, "did not wrap this data key"),
}


class AwsKeyStore:
    """A `KeyStore` of AWS KMS, for one account and Region. Safe for several threads.

    Every method may raise KeysUnreachable: KMS does not answer, or not in time.
    """

    def __init__(
        self,
        client: Callable[[], Any],
        *,
        region: str,
        account: str,
        cache_s: float,
        grantee: str = "",
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """`cache_s`: how long an unwrapped data key is reused. `grantee`: the principal that gets grants;
        empty makes none. `timer` gives seconds."""
        self._client, self._region, self._account = client, region, account
        self._grantee, self._timer = grantee, timer
        self._cache = DataKeyCache(cache_s, timer)
        self._grants: dict[tuple[str, _Items], tuple[str, float]] = {}
        """Token and time of grants that may not be effective everywhere yet."""
        self._lock = threading.Lock()

    def describe(self, ref: str) -> KeyInfo:
        """As in `KeyStore`. `aliases` is empty: listing them is another right."""
        with _kms_errors(ref):
            found = self._client().describe_key(KeyId=self._key_arn(ref))["KeyMetadata"]
        deleted_at = found.get("DeletionDate")
        return KeyInfo(
            key_id=found["KeyId"],
            arn=self._checked_arn(found["Arn"], ref),
            state=_state(found["KeyState"]),
            description=found.get("Description", ""),
            created_at=found["CreationDate"].astimezone(UTC),
            deletion_date=deleted_at and deleted_at.astimezone(UTC),
            aliases=(),
            symmetric=found.get("KeySpec", "SYMMETRIC_DEFAULT") == "SYMMETRIC_DEFAULT"
            and found.get("KeyUsage", "ENCRYPT_DECRYPT") == "ENCRYPT_DECRYPT",
        )

    def key_of(self, wrapped: bytes) -> str:
        return _unpack(wrapped)[0]

    def generate_data_key(self, ref: str, context: Mapping[str, str]) -> DataKey:
        key = self._key_arn(ref)
        with _kms_errors(ref):
            answer = self._client().generate_data_key(
                KeyId=key,
                KeySpec="AES_256",
                EncryptionContext=dict(context),
                **self._grant_tokens(key, context),
            )
        arn = self._checked_arn(answer["KeyId"], ref)
        wrapped = _pack(arn, answer["CiphertextBlob"])
        return DataKey(plaintext=answer["Plaintext"], wrapped=wrapped, key_id=arn.rpartition("/")[2])

    def decrypt(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        def unwrap() -> bytes:
            arn, blob = _unpack(wrapped)
            with _kms_errors(arn):
                answer = self._client().decrypt(
                    CiphertextBlob=blob,
                    EncryptionContext=dict(context),
                    KeyId=arn,
                    **self._grant_tokens(arn, context),
                )
            plaintext: bytes = answer["Plaintext"]
            return plaintext

        return self._cache.get((wrapped, _items(context)), unwrap)

    def re_wrap(self, wrapped: bytes, context: Mapping[str, str], ref: str) -> bytes:
        """As in `KeyStore`. The data key does not leave KMS."""
        arn, blob = _unpack(wrapped)
        target = self._key_arn(ref)
        tokens = [*self._tokens_for(arn, context), *self._tokens_for(target, context)]
        with _kms_errors(f"{arn} or {ref}"):
            answer = self._client().re_encrypt(
                CiphertextBlob=blob,
                SourceKeyId=arn,
                SourceEncryptionContext=dict(context),
                DestinationKeyId=target,
                DestinationEncryptionContext=dict(context),
                **({"GrantTokens": tokens} if tokens else {}),
            )
        return _pack(self._checked_arn(answer["KeyId"], ref), answer["CiphertextBlob"])

    def grant(self, ref: str, context: Mapping[str, str]) -> None:
        """As in `KeyStore`: for the grantee, who may also retire it, and for this context only."""
        if not self._grantee:
            return
        key = self._key_arn(ref)
        with _kms_errors(ref):
            answer = self._client().create_grant(
                KeyId=key,
                GranteePrincipal=self._grantee,
                RetiringPrincipal=self._grantee,
                Operations=_OPERATIONS,
                Constraints={"EncryptionContextEquals": dict(context)},
                Name=_grant_name(context),  # KMS makes one grant of a name
            )
        with self._lock:
            self._grants[key, _items(context)] = (answer["GrantToken"], self._timer())

    def retire(self, ref: str, context: Mapping[str, str]) -> None:
        if not self._grantee:
            return
        key = self._key_arn(ref)
        more: dict[str, str] = {}
        with _kms_errors(ref):
            while True:
                page = self._client().list_grants(KeyId=key, **more)
                for grant in page["Grants"]:
                    if (
                        grant.get("Name") == _grant_name(context)
                        and grant.get("GranteePrincipal") == self._grantee
                    ):
                        self._client().retire_grant(KeyId=key, GrantId=grant["GrantId"])
                if not page.get("Truncated"):
                    break
                more = {"Marker": page["NextMarker"]}
        with self._lock:
            self._grants.pop((key, _items(context)), None)

    def _key_arn(self, ref: str) -> str:
        """Return the ARN that `ref` names in this account and Region: no other account's key can be named."""
        if not _REF.fullmatch(ref):
            raise no_such_key(ref)
        if ref.startswith("arn:"):
            return self._checked_arn(ref, ref)
        name = ref if ref.startswith("alias/") else f"key/{ref}"
        return f"arn:aws:kms:{self._region}:{self._account}:{name}"

    def _checked_arn(self, arn: str, ref: str) -> str:
        parts = _KEY_ARN.fullmatch(arn)
        if parts is None or parts.groups() != (self._region, self._account):
            raise foreign_key(ref)
        return arn

    def _grant_tokens(self, key: str, context: Mapping[str, str]) -> dict[str, list[str]]:
        tokens = self._tokens_for(key, context)
        return {"GrantTokens": tokens} if tokens else {}

    def _tokens_for(self, key: str, context: Mapping[str, str]) -> list[str]:
        if not self._grants:
            return []
        with self._lock:
            oldest = self._timer() - _GRANT_DELAY_S
            self._grants = {grant: token for grant, token in self._grants.items() if token[1] >= oldest}
            found = self._grants.get((key, _items(context)))
        return [] if found is None else [found[0]]


class _AwsKeyStores:
    """Key stores of KMS by account and Region, with one client a Region. Safe for several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stores: dict[tuple[str, str], AwsKeyStore] = {}
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __call__(self, account_id: str, region: str) -> AwsKeyStore:
        kms = self._settings.kms
        region = kms.region or region
        with self._lock:
            found = self._stores.get((account_id, region))
            if found is None:
                found = self._stores[account_id, region] = AwsKeyStore(
                    partial(self._client, region),
                    region=region,
                    account=account_id,
                    cache_s=kms.cache_s,
                    grantee=kms.grantee,
                )
        return found

    def _client(self, region: str) -> Any:
        found = self._clients.get(region)
        if found is None:
            with self._lock:
                found = self._clients.get(region) or make_client("kms", _config(self._settings.kms, region))
                self._clients[region] = found
        return found


def _config(kms: Kms, region: str) -> ClientConfig:
    return ClientConfig(
        region=region,
        endpoint=kms.endpoint,
        ca_bundle=kms.ca_bundle,
        access_key_id=kms.access_key_id,
        secret_access_key=kms.secret_access_key,
        attempts=kms.attempts,
        connect_timeout_s=kms.connect_timeout_s,
        read_timeout_s=kms.read_timeout_s,
    )


BACK_END = KeyBackEnd(
    stores=_AwsKeyStores,
    administered="in AWS KMS; manage them there, with `aws kms`",
    check=lambda settings: check_credentials("kms", settings.kms),
)


_Items = tuple[tuple[str, str], ...]


def _items(context: Mapping[str, str]) -> _Items:
    return tuple(sorted(context.items()))


def _grant_name(context: Mapping[str, str]) -> str:
    """Return the name that finds a grant again; KMS takes 256 characters of a-z A-Z 0-9 : / _ -."""
    return re.sub(r"[^a-zA-Z0-9:/_-]", "-", "/".join(value for _, value in _items(context)))[-256:]


def _pack(arn: str, blob: bytes) -> bytes:
    name = arn.encode()
    return _MAGIC + len(name).to_bytes(2, "big") + name + blob


def _unpack(wrapped: bytes) -> tuple[str, bytes]:
    """Return (key ARN, ciphertext blob). Raises SealBroken."""
    size = int.from_bytes(wrapped[len(_MAGIC) : _HEAD_BYTES], "big")
    name, blob = wrapped[_HEAD_BYTES : _HEAD_BYTES + size], wrapped[_HEAD_BYTES + size :]
    if wrapped[: len(_MAGIC)] == _MAGIC and blob and len(name) == size <= _ARN_MAX_BYTES and name.isascii():
        arn = name.decode()
        if _KEY_ARN.fullmatch(arn):
            return arn, blob
    raise SealBroken("not a data key wrapped by AWS KMS")


def _state(state: str) -> KeyState:
    if state in ("Enabled", "Updating"):
        return "Enabled"
    return "PendingDeletion" if state in ("PendingDeletion", "PendingReplicaDeletion") else "Disabled"


@contextmanager
def _kms_errors(ref: str) -> Iterator[None]:
    """Raise the errors of a key store for what botocore raises inside."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as fault:
        code = str(fault.response.get("Error", {}).get("Code", ""))[:60]
        found = _ERRORS.get(code)
        if found is None:
            raise KeysUnreachable(f"the key service answered {code!a}") from None
        raise found[0](f"key {printable(ref)} {found[1]}") from None
    except (BotoCoreError, ResponseParserError) as fault:
        raise KeysUnreachable(f"the key service cannot be used ({type(fault).__name__})") from None
