"""The file of a backup: lines of JSON in a sealed stream, under a key derived from a passphrase.

    {"sonant-backup": 1, ...}                  format, version and account
    {"table": "domains", "columns": [...]}     followed by one line for each row
    {"file": "keys/...", "bytes": n}           followed by its content in lines
    {"end": {"rows": n, "files": n}}

The sealed stream (`storage.crypto.sealing`) is authenticated in chunks up to its end: a file that was changed
or truncated does not open. The key is scrypt's (RFC 7914) of passphrase and salt; its parameters are stored
in place of the wrapped data key of other streams.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from sonant.errors import SealBroken, SetupError
from sonant.storage.crypto.sealing import KEY_BYTES, open_sealed, seal
from sonant.storage.files import sync_folder
from sonant.storage.keys.store import DataKey

#: 128 MiB and about half a second: scrypt's parameters in OWASP's password storage cheat sheet.
COST, _BLOCK, _PARALLELISM = 2**17, 8, 1
#: Limits for the parameters of a file: a hostile one must not exhaust time or memory.
_MAX_COST, _MAX_BLOCK, _MAX_PARALLELISM = 2**20, 16, 4
#: A line may hold the stored speech of one person.
MAX_LINE_BYTES = 64 * 2**20
MIN_PASSPHRASE = 12


def write(path: Path, lines: Iterable[Any], passphrase: bytes) -> int:
    """Write a backup as a whole or not at all, and return its size in bytes. Raises SetupError."""
    salt = secrets.token_bytes(16)
    parameters = {"n": COST, "r": _BLOCK, "p": _PARALLELISM, "salt": salt.hex()}
    key = DataKey(
        plaintext=_key(passphrase, salt, COST, _BLOCK, _PARALLELISM),
        wrapped=json.dumps(parameters).encode(),
        key_id="scrypt",
    )
    text = (json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n" for line in lines)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for piece in seal(text, key):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        if path.exists():
            raise SetupError(f"{path} exists already; choose another name")
        unfinished.rename(path)
        sync_folder(path.parent)
    except OSError as fault:
        raise SetupError(f"{path} cannot be written: {fault.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()
    return size


def read(path: Path, passphrase: bytes) -> Iterator[Any]:
    """Yield the lines of a backup. Raises SetupError at any line; those before are authentic, but not all."""
    try:
        file = path.open("rb")
    except OSError as fault:
        raise SetupError(f"{path} cannot be read: {fault.strerror}") from None
    with file:
        try:
            buffer = bytearray()
            for piece in open_sealed(file, lambda parameters: _derive_key(parameters, passphrase)):
                first, *others = piece.split(b"\n")
                buffer += first  # long lines are not copied again and again
                for following in others:
                    yield json.loads(buffer)
                    buffer = bytearray(following)
                if len(buffer) > MAX_LINE_BYTES:
                    raise SealBroken("a line is too long")
            if buffer:
                raise SealBroken("the last line is incomplete")
        except OSError as fault:
            raise SetupError(f"{path} cannot be read: {fault.strerror}") from None
        except (SealBroken, ValueError) as fault:
            raise SetupError(
                f"{path} does not open: another passphrase, or no complete backup ({fault})"
            ) from None


def to_json(value: Any) -> Any:
    """Return a database's value in a form for JSON."""
    if isinstance(value, bytes | memoryview):
        return {"b": base64.b64encode(value).decode()}
    return value


def from_json(value: Any) -> Any:
    """Return the value of `to_json`. Raises ValueError."""
    if isinstance(value, dict):
        return base64.b64decode(value["b"], validate=True)
    return value


def _derive_key(parameters: bytes, passphrase: bytes) -> bytes:
    """Derive the key by the untrusted parameters of a file. Raises SealBroken."""
    try:
        found = json.loads(parameters)
        cost, block, parallelism = (int(found[name]) for name in "nrp")
        salt = bytes.fromhex(found["salt"])
    except (ValueError, KeyError, TypeError):
        raise SealBroken("it is not a backup") from None
    fits = 2 <= cost <= _MAX_COST and 1 <= block <= _MAX_BLOCK and 1 <= parallelism <= _MAX_PARALLELISM
    if not fits or cost & (cost - 1) or not 16 <= len(salt) <= 64:
        raise SealBroken("its key has an unknown form")
    try:
        return _key(passphrase, salt, cost, block, parallelism)
    except MemoryError:
        raise SealBroken("its key needs more memory than is free") from None


def _key(passphrase: bytes, salt: bytes, cost: int, block: int, parallelism: int) -> bytes:
    return Scrypt(salt=salt, length=KEY_BYTES, n=cost, r=block, p=parallelism).derive(passphrase)
