"""`sonant object ...`: lists, reads and writes objects in local buckets, as S3 tools would."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import click

from sonant.assembly.installation import Store, open_store
from sonant.cli.context import CliContext, Group, account_option, pass_cli, table, yes_option
from sonant.errors import SetupError
from sonant.storage.objects.store import ObjectStore, ObjectUri
from sonant.storage.objects.stores.local import LocalObjectStore

_CHUNK_BYTES = 1 << 20

object_ = Group("object", help="List, read, write and delete objects in local buckets.")


@object_.command("ls")
@click.argument("uri", required=False)
@account_option
@pass_cli
def list_objects(cli: CliContext, uri: str | None, account: str | None) -> None:
    """List the buckets, or the objects under s3://bucket/prefix."""
    objects = _objects(cli, account)
    if uri is None:
        buckets = objects.buckets()
        cli.show({"Buckets": list(buckets)}, [f"s3://{bucket}" for bucket in buckets])
        return
    prefix = ObjectUri.parse(uri)
    items = list(objects.list(prefix.bucket, prefix.key))
    rows = [
        (
            f"{item.modified_at:%Y-%m-%d %H:%M:%S}",
            item.size,
            "sealed" if item.sealed else "-",
            item.uri.shown,
        )
        for item in items
    ]
    document = {
        "Objects": [
            {
                "Uri": item.uri.shown,
                "Bytes": item.size,
                "Encrypted": item.sealed,
                "ModifiedAt": item.modified_at,
            }
            for item in items
        ]
    }
    cli.show(document, table(rows, ("MODIFIED (UTC)", "BYTES", "SEALED", "OBJECT")))


@object_.command("get")
@click.argument("uri")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@account_option
@pass_cli
def get(cli: CliContext, uri: str, file: Path | None, account: str | None) -> None:
    """Write an object to FILE or standard output; encrypted objects are decrypted."""
    objects = _objects(cli, account)
    with objects.open(ObjectUri.parse(uri)) as source:
        if file is None:
            _copy(iter(lambda: source.read(_CHUNK_BYTES), b""), sys.stdout.buffer)
            return
        if file.is_dir():
            raise SetupError(f"{file} is a folder; name the file to write")
        partial = file.with_name(file.name + ".part")
        try:
            # For the owner alone: the object may have been encrypted, and its copy is not.
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as target:
                _copy(iter(lambda: source.read(_CHUNK_BYTES), b""), target)
            partial.replace(file)
        except OSError as fault:
            raise SetupError(f"{file} cannot be written: {fault.strerror}") from None
        finally:
            partial.unlink(missing_ok=True)
    if cli.as_json:
        cli.show({"Uri": uri, "File": str(file), "Bytes": file.stat().st_size}, ())


@object_.command("put")
@click.argument("file", type=click.Path(path_type=Path, exists=True))
@click.argument("uri")
@click.option("--kms-key", help="Encrypt it under this key.")
@account_option
@pass_cli
def put(cli: CliContext, file: Path, uri: str, kms_key: str | None, account: str | None) -> None:
    """Copy FILE to s3://bucket/key.

    A missing bucket is made. A key ending in / gets the file's name.
    """
    objects = _objects(cli, account)
    target = ObjectUri.parse(uri)
    if not file.is_file():
        raise SetupError(f"{file} is not a file")
    if not target.name:
        target = target.child(file.name)
    if isinstance(objects, LocalObjectStore) and target.bucket not in objects.buckets():
        objects.create_bucket(target.bucket)
    with file.open("rb") as source:
        objects.write(target, iter(lambda: source.read(_CHUNK_BYTES), b""), kms_key)
    cli.show({"Uri": target.shown}, target.shown)


@object_.command("rm")
@click.argument("uri")
@account_option
@yes_option
@pass_cli
def remove(cli: CliContext, uri: str, account: str | None, yes: bool) -> None:
    """Delete an object."""
    objects, target = _objects(cli, account), ObjectUri.parse(uri)
    size = objects.size(target)  # raises for one that is not there
    cli.confirm(f"This deletes {target.shown} of {size:,} bytes", yes=yes)
    objects.delete(target)
    cli.show({"Deleted": target.shown}, f"{target.shown} is gone")


def _objects(cli: CliContext, account: str | None) -> ObjectStore:
    return objects_of(open_store(cli.settings()), account)


def objects_of(store: Store, account: str | None) -> ObjectStore:
    """Give an account's buckets; the first account's when none is named. Raises SetupError."""
    if account is None or account == store.settings.account:
        return store.objects
    if not isinstance(store.objects, LocalObjectStore):
        raise SetupError("only local buckets are separate for each account; leave --account out")
    if account not in store.accounts.known():
        raise SetupError(
            f"this installation has no account {account}; it has {', '.join(store.accounts.known())}"
        )
    return LocalObjectStore(store.accounts.buckets(account), store.backends.keys(account))


def _copy(chunks: Iterator[bytes], target: BinaryIO) -> None:
    for chunk in chunks:
        target.write(chunk)
