"""The outside of a backup: lines of JSON in a sealed stream, under a key that comes from a passphrase.

    {"sonant-backup": 1, ...}                  what it is
    {"table": "domains", "columns": [...]}     then one line a row
    {"file": "keys/...", "bytes": n}           then its content in lines
    {"end": {"rows": n, "files": n}}

The sealed stream (`store.sealing`) is authenticated in pieces and knows its end: a file that was changed or
cut short does not open. The key is scrypt's (RFC 7914) of passphrase and salt; its parameters stand where
other streams have their wrapped data key.
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
from sonant.storage.keys.store import DataKey

#: 128 MiB and about half a second: what OWASP's password storage cheat sheet asks of scrypt.
_COST, _BLOCK, _LANES = 2**17, 8, 1
#: What a file may ask for: a hostile one must not hang or starve the reader.
_MOST_COST, _MOST_BLOCK, _MOST_LANES = 2**20, 16, 4
#: A line may hold one person's kept speech.
MAX_LINE_BYTES = 64 * 2**20
MIN_PASSPHRASE = 12


def write(path: Path, lines: Iterable[Any], passphrase: bytes) -> int:
    """Write a backup as a whole or not at all; its size in bytes. Raises SetupError."""
    salt = secrets.token_bytes(16)
    asked = {"n": _COST, "r": _BLOCK, "p": _LANES, "salt": salt.hex()}
    key = DataKey(
        plaintext=_key(passphrase, salt, _COST, _BLOCK, _LANES),
        wrapped=json.dumps(asked).encode(),
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
            raise SetupError(f"{path} is there already; choose another name")
        unfinished.rename(path)
        _sync(path.parent)
    except OSError as fault:
        raise SetupError(f"{path} cannot be written: {fault.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()
    return size


def read(path: Path, passphrase: bytes) -> Iterator[Any]:
    """The lines of a backup. Raises SetupError at any line: what came before is authentic, not all."""
    try:
        file = path.open("rb")
    except OSError as fault:
        raise SetupError(f"{path} cannot be read: {fault.strerror}") from None
    with file:
        try:
            waiting = bytearray()
            for piece in open_sealed(file, lambda asked: _asked_key(asked, passphrase)):
                first, *others = piece.split(b"\n")
                waiting += first  # of a line that may be long: its beginning is not copied again and again
                for following in others:
                    yield json.loads(waiting)
                    waiting = bytearray(following)
                if len(waiting) > MAX_LINE_BYTES:
                    raise SealBroken("a line is too long")
            if waiting:
                raise SealBroken("the last line is not whole")
        except OSError as fault:
            raise SetupError(f"{path} cannot be read: {fault.strerror}") from None
        except (SealBroken, ValueError) as fault:
            raise SetupError(
                f"{path} does not open: another passphrase, or no whole backup ({fault})"
            ) from None


def packed(value: Any) -> Any:
    """A database's value as JSON has it."""
    if isinstance(value, bytes | memoryview):
        return {"b": base64.b64encode(value).decode()}
    return value


def unpacked(value: Any) -> Any:
    """The value that `packed` was given. Raises ValueError."""
    if isinstance(value, dict):
        return base64.b64decode(value["b"], validate=True)
    return value


def _asked_key(asked: bytes, passphrase: bytes) -> bytes:
    """The key by the parameters of a file, which may be anybody's. Raises SealBroken."""
    try:
        told = json.loads(asked)
        cost, block, lanes = (int(told[name]) for name in "nrp")
        salt = bytes.fromhex(told["salt"])
    except (ValueError, KeyError, TypeError):
        raise SealBroken("it is no backup") from None
    fits = 2 <= cost <= _MOST_COST and 1 <= block <= _MOST_BLOCK and 1 <= lanes <= _MOST_LANES
    if not fits or cost & (cost - 1) or not 16 <= len(salt) <= 64:
        raise SealBroken("its key is of no known form")
    return _key(passphrase, salt, cost, block, lanes)


def _key(passphrase: bytes, salt: bytes, cost: int, block: int, lanes: int) -> bytes:
    return Scrypt(salt=salt, length=KEY_BYTES, n=cost, r=block, p=lanes).derive(passphrase)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
