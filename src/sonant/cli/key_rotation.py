"""`sonant key rotate`: new material for a key. Data keys are wrapped anew; what they seal stays."""

from __future__ import annotations

from pathlib import Path

import click

from sonant.assembly.installation import Store
from sonant.errors import SealBroken, SetupError
from sonant.storage.crypto.sealing import HEADER_MAX_BYTES, is_sealed, wrapped_key
from sonant.storage.crypto.vault import encryption_context
from sonant.storage.keys.local import LocalKeyStore
from sonant.storage.objects.local import object_context
from sonant.storage.objects.store import ObjectUri
from sonant.storage.repositories import domains

_TRIES = 5


def rotate(store: Store, keys: LocalKeyStore, account: str, ref: str) -> None:
    """Rotate, and wrap every data key anew. What a kill leaves undone is done the next time."""
    key = keys.rotate(ref)
    done = wrap_anew(store, keys, account, key.arn)
    click.echo(
        f"{key.arn} has new material; the data keys of {done} domains are wrapped under it. The earlier "
        "material stays for sealed objects and backups; --forget-earlier destroys it"
    )


def wrap_anew(store: Store, keys: LocalKeyStore, account: str, key_arn: str) -> int:
    """Wrap data keys under a key's present material, where they are not; how many were. Raises SetupError."""
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
    raise SetupError("domains are changed again and again meanwhile; try again")


def forget_earlier(store: Store, keys: LocalKeyStore, account: str, ref: str) -> None:
    """Destroy earlier material, if nothing that is known needs it. Raises SetupError."""
    key = keys.describe(ref)
    wrap_anew(store, keys, account, key.arn)
    folder = store.accounts.buckets(account)
    needing = [path for path in _files(folder) if _needs_earlier(keys, folder, path, key.arn)]
    if needing:
        raise SetupError(
            f"{len(needing)} objects in buckets were sealed before the key was rotated, such as "
            f"{needing[0]}: write them anew or delete them first"
        )
    count = keys.forget_earlier(ref)
    click.echo(
        f"{key.arn}: earlier material of {count} rotations destroyed; it opens no domain of an earlier backup"
    )


def _is_due(keys: LocalKeyStore, domain: domains.Domain, key_arn: str) -> bool:
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
    """Whether an object is sealed under the key, and not under its present material."""
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
