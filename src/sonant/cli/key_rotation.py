"""Rotation of a key: new material for it, and data keys wrapped anew; data under them stays as it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sonant.assembly.installation import Store
from sonant.errors import SealBroken, SetupError
from sonant.storage.crypto.sealing import HEADER_MAX_BYTES, is_sealed, wrapped_key
from sonant.storage.crypto.vault import encryption_context
from sonant.storage.keys.stores.local import LocalKeyStore
from sonant.storage.objects.store import ObjectUri
from sonant.storage.objects.stores.local import object_context
from sonant.storage.repositories import domains

_TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """A key with new material."""

    key_arn: str
    domains: int
    """Number of domains whose data keys were wrapped anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destruction:
    """A key whose earlier material is destroyed."""

    key_arn: str
    rotations: int
    """Number of earlier rotations whose material it was."""


def rotate(store: Store, keys: LocalKeyStore, account: str, ref: str) -> Rotation:
    """Rotate a key and wrap every data key under it anew. Raises SetupError.

    If it is killed midway, the next call finishes the work.
    """
    key = keys.rotate(ref)
    return Rotation(key_arn=key.arn, domains=rewrap_data_keys(store, keys, account, key.arn))


def rewrap_data_keys(store: Store, keys: LocalKeyStore, account: str, key_arn: str) -> int:
    """Wrap data keys under a key's present material where needed; returns how many. Raises SetupError."""
    done = 0
    for _ in range(_TRIES):
        with store.database.read() as connection:
            found = [one for one in domains.list_all(connection) if one.account_id == account]
        due = [one for one in found if _is_due(keys, one, key_arn)]
        if not due:
            return done
        for domain in due:
            wrapped = keys.re_wrap(domain.data_key_wrapped, encryption_context(domain.arn), key_arn)
            with store.database.write() as connection:
                done += domains.set_wrapped_key(connection, domain, wrapped)
    raise SetupError("domains were changed at the same time again and again; try again")


def forget_earlier(store: Store, keys: LocalKeyStore, account: str, ref: str) -> Destruction:
    """Destroy a key's earlier material. Raises SetupError when an object in a bucket still needs it."""
    key = keys.describe(ref)
    rewrap_data_keys(store, keys, account, key.arn)
    folder = store.accounts.buckets(account)
    needing = [path for path in _files(folder) if _needs_earlier(keys, folder, path, key.arn)]
    if needing:
        raise SetupError(
            f"{len(needing)} objects in buckets were sealed before the key was rotated, such as "
            f"{needing[0]}: write them anew or delete them first"
        )
    return Destruction(key_arn=key.arn, rotations=keys.forget_earlier(ref))


def _is_due(keys: LocalKeyStore, domain: domains.Domain, key_arn: str) -> bool:
    """Find out whether a domain's data key is wrapped under earlier material. Raises SetupError."""
    try:
        if keys.key_of(domain.data_key_wrapped) != key_arn:
            return False
        return not keys.is_current(domain.data_key_wrapped, encryption_context(domain.arn))
    except SealBroken:
        raise SetupError(f"the data key of domain {domain.domain_id} is damaged") from None


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]


def _needs_earlier(keys: LocalKeyStore, folder: Path, path: Path, key_arn: str) -> bool:
    """Find out whether an object is encrypted under earlier material of the key."""
    with path.open("rb") as file:
        prefix = file.read(HEADER_MAX_BYTES)
    if not is_sealed(prefix):
        return False
    bucket, *parts = path.relative_to(folder).parts
    try:
        wrapped, context = wrapped_key(prefix), object_context(ObjectUri(bucket, "/".join(parts)))
        return keys.key_of(wrapped) == key_arn and not keys.is_current(wrapped, context)
    except SealBroken:  # not one of ours, or damaged: no material opens it
        return False
