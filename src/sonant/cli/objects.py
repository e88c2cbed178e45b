"""`sonant object …`: local buckets, as S3 would show them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import click

from sonant.assembly.installation import open_store
from sonant.cli.common import table
from sonant.errors import SetupError
from sonant.settings import Settings
from sonant.storage.objects.local import LocalObjectStore
from sonant.storage.objects.store import ObjectUri

_PIECE = 1 << 20


def show_all(settings: Settings, uri: str | None) -> None:
    objects = open_store(settings).objects
    if uri is None:
        for bucket in objects.buckets():
            click.echo(f"s3://{bucket}")
        return
    where = ObjectUri.parse(uri)
    rows = [
        (
            f"{item.modified_at:%Y-%m-%d %H:%M:%S}",
            item.size,
            "sealed" if item.sealed else "-",
            item.uri.shown,
        )
        for item in objects.list(where.bucket, where.key)
    ]
    click.echo(table(rows, ("MODIFIED (UTC)", "BYTES", "SEALED", "OBJECT")))


def get(settings: Settings, uri: str, file: Path | None) -> None:
    objects = open_store(settings).objects
    with objects.open(ObjectUri.parse(uri)) as source:
        if file is None:
            _copy(iter(lambda: source.read(_PIECE), b""), sys.stdout.buffer)
            return
        if file.is_dir():
            raise SetupError(f"{file} is a folder; name the file to write")
        partial = file.with_name(file.name + ".part")
        try:
            # The owner's alone: the object may have been sealed, and its copy is not.
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as target:
                _copy(iter(lambda: source.read(_PIECE), b""), target)
            partial.replace(file)
        except OSError as fault:
            raise SetupError(f"{file} cannot be written: {fault.strerror}") from None
        finally:
            partial.unlink(missing_ok=True)


def put(settings: Settings, file: Path, uri: str, kms_key: str | None) -> None:
    objects = open_store(settings).objects
    target = ObjectUri.parse(uri)
    if not file.is_file():
        raise SetupError(f"{file} is not a file")
    if not target.name:
        target = target.child(file.name)
    if isinstance(objects, LocalObjectStore) and target.bucket not in objects.buckets():
        objects.create_bucket(target.bucket)
    with file.open("rb") as source:
        objects.write(target, iter(lambda: source.read(_PIECE), b""), kms_key)
    click.echo(target.shown)


def _copy(pieces: Iterator[bytes], target: BinaryIO) -> None:
    for piece in pieces:
        target.write(piece)
