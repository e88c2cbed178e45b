"""Keys in AWS KMS, or in a server that speaks its protocol.

    wrapped data key = magic 4 | length 2, key ARN | ciphertext blob of KMS

The ARN stands in front because KMS does not tell which key a blob is under; every call names it, so a blob
put under another key's name does not open.

An opened data key serves again for a short time, so that not every call of the API is one to KMS too. That
time is also the longest for which a key that was disabled, scheduled for deletion or taken away goes on
working here. KMS is asked by opening the data key itself, so state, key policy and grants all count.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC
from typing import Any

from sonant.errors import KeyDenied, KeyNotFound, KeysUnreachable, KeyUnusable, SealBroken, SonantError
from sonant.storage.keys.names import shown
from sonant.storage.keys.opened import OpenedKeys
from sonant.storage.keys.store import DataKey, KeyInfo, KeyState

_MAGIC = b"SNA\x01"
_HEAD_BYTES = len(_MAGIC) + 2
_ARN_MAX_BYTES = 2048
#: A grant counts everywhere after so long at the latest; until then its token is shown (KMS docs, grants).
_GRANT_SPREADS_S = 300.0
_KEY_ARN = re.compile(r"arn:[a-z-]+:kms:([a-z0-9-]+):([0-9]{12}):(?:key|alias)/[a-zA-Z0-9/_-]+")
_REF = re.compile(r"[a-zA-Z0-9:/_-]{1,2048}")

#: What Sonant does with a domain's key.
_OPERATIONS = ["Decrypt", "DescribeKey", "GenerateDataKey", "ReEncryptFrom", "ReEncryptTo", "RetireGrant"]

#: Codes of KMS's error responses (KMS API reference), and how a message goes on.
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
    """A `KeyStore`; see there for the errors. Keys are those of one account and Region.

    Every method may raise KeysUnreachable: KMS does not answer, or not in time. Safe for several threads.
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
        """`cache_s`: how long an opened data key serves. `grantee`: the principal that grants are made for;
        empty makes none. `timer` gives seconds."""
        self._client, self._region, self._account = client, region, account
        self._grantee, self._timer = grantee, timer
        self._opened = OpenedKeys(cache_s, timer)
        self._tokens: dict[tuple[str, _Items], tuple[str, float]] = {}
        self._lock = threading.Lock()

    def describe(self, ref: str) -> KeyInfo:
        """As in `KeyStore`. `aliases` is empty: listing them is another right."""
        with _faults(ref):
            found = self._client().describe_key(KeyId=self._full(ref))["KeyMetadata"]
        deleted_at = found.get("DeletionDate")
        return KeyInfo(
            key_id=found["KeyId"],
            arn=self._own(found["Arn"], ref),
            state=_state(found["KeyState"]),
            description=found.get("Description", ""),
            created_at=found["CreationDate"].astimezone(UTC),
            deletion_date=deleted_at and deleted_at.astimezone(UTC),
            aliases=(),
            symmetric=found.get("KeySpec", "SYMMETRIC_DEFAULT") == "SYMMETRIC_DEFAULT"
            and found.get("KeyUsage", "ENCRYPT_DECRYPT") == "ENCRYPT_DECRYPT",
        )

    def key_of(self, wrapped: bytes) -> str:
        return _parted(wrapped)[0]

    def generate_data_key(self, ref: str, context: Mapping[str, str]) -> DataKey:
        key = self._full(ref)
        with _faults(ref):
            answer = self._client().generate_data_key(
                KeyId=key, KeySpec="AES_256", EncryptionContext=dict(context), **self._shown(key, context)
            )
        arn = self._own(answer["KeyId"], ref)
        wrapped = _joined(arn, answer["CiphertextBlob"])
        return DataKey(plaintext=answer["Plaintext"], wrapped=wrapped, key_id=arn.rpartition("/")[2])

    def decrypt(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        def ask() -> bytes:
            arn, blob = _parted(wrapped)
            with _faults(arn):
                answer = self._client().decrypt(
                    CiphertextBlob=blob,
                    EncryptionContext=dict(context),
                    KeyId=arn,
                    **self._shown(arn, context),
                )
            plaintext: bytes = answer["Plaintext"]
            return plaintext

        return self._opened.get((wrapped, _items(context)), ask)

    def re_wrap(self, wrapped: bytes, context: Mapping[str, str], ref: str) -> bytes:
        """As in `KeyStore`; the data key does not leave KMS."""
        arn, blob = _parted(wrapped)
        target = self._full(ref)
        tokens = [*self._tokens_for(arn, context), *self._tokens_for(target, context)]
        with _faults(f"{arn} or {ref}"):
            answer = self._client().re_encrypt(
                CiphertextBlob=blob,
                SourceKeyId=arn,
                SourceEncryptionContext=dict(context),
                DestinationKeyId=target,
                DestinationEncryptionContext=dict(context),
                **({"GrantTokens": tokens} if tokens else {}),
            )
        return _joined(self._own(answer["KeyId"], ref), answer["CiphertextBlob"])

    def grant(self, ref: str, context: Mapping[str, str]) -> None:
        """As in `KeyStore`: for the grantee, who may also retire it, and for this context only."""
        if not self._grantee:
            return
        key = self._full(ref)
        with _faults(ref):
            answer = self._client().create_grant(
                KeyId=key,
                GranteePrincipal=self._grantee,
                RetiringPrincipal=self._grantee,
                Operations=_OPERATIONS,
                Constraints={"EncryptionContextEquals": dict(context)},
                Name=_grant_name(context),  # asked twice, KMS makes one
            )
        with self._lock:
            self._tokens[key, _items(context)] = (answer["GrantToken"], self._timer())

    def retire(self, ref: str, context: Mapping[str, str]) -> None:
        if not self._grantee:
            return
        key = self._full(ref)
        more: dict[str, str] = {}
        with _faults(ref):
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
            self._tokens.pop((key, _items(context)), None)

    def _full(self, ref: str) -> str:
        """The ARN that `ref` means in this account and Region, so that nobody reaches another account's."""
        if not _REF.fullmatch(ref):
            raise KeyNotFound(f"key {shown(ref)} does not exist")
        if ref.startswith("arn:"):
            return self._own(ref, ref)
        name = ref if ref.startswith("alias/") else f"key/{ref}"
        return f"arn:aws:kms:{self._region}:{self._account}:{name}"

    def _own(self, arn: str, ref: str) -> str:
        parts = _KEY_ARN.fullmatch(arn)
        if parts is None or parts.groups() != (self._region, self._account):
            raise KeyNotFound(f"key {shown(ref)} is not one of this region and account")
        return arn

    def _shown(self, key: str, context: Mapping[str, str]) -> dict[str, list[str]]:
        tokens = self._tokens_for(key, context)
        return {"GrantTokens": tokens} if tokens else {}

    def _tokens_for(self, key: str, context: Mapping[str, str]) -> list[str]:
        if not self._tokens:
            return []
        with self._lock:
            oldest = self._timer() - _GRANT_SPREADS_S
            self._tokens = {place: held for place, held in self._tokens.items() if held[1] >= oldest}
            held = self._tokens.get((key, _items(context)))
        return [] if held is None else [held[0]]


_Items = tuple[tuple[str, str], ...]


def _items(context: Mapping[str, str]) -> _Items:
    return tuple(sorted(context.items()))


def _grant_name(context: Mapping[str, str]) -> str:
    """What a grant is found by again; KMS takes 256 of a-z A-Z 0-9 : / _ -."""
    return re.sub(r"[^a-zA-Z0-9:/_-]", "-", "/".join(value for _, value in _items(context)))[-256:]


def _joined(arn: str, blob: bytes) -> bytes:
    name = arn.encode()
    return _MAGIC + len(name).to_bytes(2, "big") + name + blob


def _parted(wrapped: bytes) -> tuple[str, bytes]:
    """(key ARN, ciphertext blob). Raises SealBroken."""
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
def _faults(ref: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as fault:
        code = str(fault.response.get("Error", {}).get("Code", ""))[:60]
        found = _ERRORS.get(code)
        if found is None:
            raise KeysUnreachable(f"the key service answered {code!a}") from None
        raise found[0](f"key {shown(ref)} {found[1]}") from None
    except (BotoCoreError, ResponseParserError) as fault:
        raise KeysUnreachable(f"the key service cannot be used ({type(fault).__name__})") from None
