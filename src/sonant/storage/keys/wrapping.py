"""Encrypts the files of local keys under a secret that is not beside them.

    encrypted file = magic 8 | nonce 12 | AES-256-GCM(content, additional data: the file's name)
    wrapping.json  = how the key of these files is wrapped, and its wrapped form

The files' key is random. It is wrapped under a passphrase (scrypt, RFC 7914) or under a credential of random
bytes that systemd hands over (HKDF-SHA256, RFC 5869), so that a change of the secret writes one file anew.
The secret comes from the settings `key_wrapping`, or from the folder `$CREDENTIALS_DIRECTORY` of
systemd.exec(5). Without `wrapping.json` files are written as they are; encrypted and plain files may lie side
by side, as while they are being encrypted.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from sonant.errors import SealBroken, SetupError
from sonant.settings import KeyWrapping, Settings
from sonant.storage.crypto.sealing import derive, open_value, seal_value
from sonant.storage.private_folder import PrivateFolder

WrappedBy = Literal["passphrase", "credential"]

MAGIC = b"SNKWRAP\x01"
RECORD_FILE = "wrapping.json"
KEY_BYTES = 32
_NONCE_BYTES = 12
#: 128 MiB and about half a second: scrypt's parameters in OWASP's password storage cheat sheet.
COST, _BLOCK, _PARALLELISM = 2**17, 8, 1
#: Limit for the cost in a file: a hostile one must not exhaust time or memory.
_MAX_COST = 2**20
LEAST_PASSPHRASE, LEAST_CREDENTIAL_BYTES = 12, 32
_SECRET_MAX_BYTES, _RECORD_MAX_BYTES = 4096, 4096
_AAD = b"sonant key of key files"


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappingRecord:
    """How the key of the key files is wrapped."""

    by: WrappedBy
    wrapped: bytes = field(repr=False)
    salt: bytes = b""
    cost: int = 0
    """Of scrypt, for a passphrase."""


class FileWrapping:
    """Encrypts and opens the key files of one data folder. Safe for several threads.

    The secret is read, and scrypt run, with the first encrypted file.
    """

    def __init__(self, folder: Path, settings: KeyWrapping) -> None:
        """`folder` holds `wrapping.json`."""
        self._folder, self._settings = folder, settings
        self._lock = threading.Lock()
        self._opened: tuple[WrappingRecord, AESGCM] | None = None

    # --- use

    def seal(self, name: str, content: bytes) -> bytes:
        """Return the content of a file as it is to be stored. Raises SetupError without the secret."""
        record = self.record()
        if record is None:
            return content
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return MAGIC + nonce + self._cipher(record).encrypt(nonce, content, name.encode())

    def open(self, name: str, stored: bytes) -> bytes:
        """Return the content of a file. Raises SetupError without the secret, or for a damaged file."""
        if not is_wrapped(stored):
            return stored
        record = self.record()
        if record is None:
            raise SetupError(f"{self._folder / RECORD_FILE} is missing: restore it from a backup")
        body = len(MAGIC) + _NONCE_BYTES
        try:
            return self._cipher(record).decrypt(stored[len(MAGIC) : body], stored[body:], name.encode())
        except InvalidTag:
            raise SetupError(
                f"file {name} of {self._folder} is damaged, or another file's: restore it from a backup"
            ) from None

    # --- the record

    def record(self) -> WrappingRecord | None:
        """Return how the files are encrypted; None when they are not. Raises SetupError."""
        found = self._files().read(RECORD_FILE, _RECORD_MAX_BYTES)
        return None if found is None else _parse(found[1], self._folder / RECORD_FILE)

    def begin(self, by: WrappedBy, former: bytes | None = None) -> None:
        """Write the record: files that are written from now on are encrypted. Raises SetupError.

        Where they are already, only the secret changes: `former` is the one until now, by default that of the
        settings.
        """
        record = self.record()
        key = secrets.token_bytes(KEY_BYTES) if record is None else self._key(record, former)
        files = self._files()
        with files.locked():
            known = files.stamp(RECORD_FILE) is not None
            files.replace(RECORD_FILE, _dump(wrap(key, by, self._secret(by))), overwrite=known)
        self._opened = None

    def end(self) -> None:
        """Remove the record, once no file is encrypted."""
        files = self._files()
        with files.locked():
            files.destroy(RECORD_FILE)
        self._opened = None

    def _files(self) -> PrivateFolder:
        return PrivateFolder(self._folder)

    def _cipher(self, record: WrappingRecord) -> AESGCM:
        with self._lock:
            if self._opened is None:
                self._opened = record, AESGCM(self._key(record))
            elif self._opened[0] != record:
                # The secret was changed: the files' key is the same, and authenticates what it opens.
                with suppress(SetupError):
                    self._opened = record, AESGCM(self._key(record))
            return self._opened[1]

    def _key(self, record: WrappingRecord, secret: bytes | None = None) -> bytes:
        try:
            return unwrap(record, self._secret(record.by) if secret is None else secret)
        except SealBroken:
            raise SetupError(
                f"the {record.by} is not the one that the keys in {self._folder} are encrypted under"
            ) from None

    def _secret(self, by: WrappedBy) -> bytes:
        return read_secret(self._settings, by)


def is_wrapped(stored: bytes) -> bool:
    """Return whether the content of a file is encrypted."""
    return stored[: len(MAGIC)] == MAGIC


def wrapping_of(settings: Settings) -> FileWrapping:
    """Return what encrypts the key files of the settings' data folder."""
    return wrapping_in(settings.data.absolute() / "keys", settings.key_wrapping)


@lru_cache(maxsize=16)
def wrapping_in(folder: Path, settings: KeyWrapping) -> FileWrapping:
    """Return what encrypts the key files of a folder: one in a process, so that scrypt runs once."""
    return FileWrapping(folder, settings)


def keys_folder(settings: Settings) -> PrivateFolder:
    """Return the folder `keys` of the data folder."""
    return PrivateFolder(settings.data / "keys", wrapping_of(settings))


def folder_of(keys: Path, settings: KeyWrapping) -> PrivateFolder:
    """Return a folder `keys` that is elsewhere, such as a copy."""
    return PrivateFolder(keys, FileWrapping(keys.absolute(), settings))


# --- the secret


def read_secret(settings: KeyWrapping, by: WrappedBy) -> bytes:
    """Read the passphrase or the credential. Raises SetupError when it is missing or too short."""
    if by == "credential":
        return _read_credential(settings.credential)
    if settings.passphrase:
        secret = settings.passphrase.encode()
    elif settings.passphrase_file:
        secret = _read_file(Path(settings.passphrase_file)).strip()
    else:
        raise SetupError(
            "the keys are encrypted under a passphrase: set key_wrapping.passphrase_file, or "
            "SONANT_KEY_WRAPPING_PASSPHRASE in the environment"
        )
    if len(secret) < LEAST_PASSPHRASE:
        raise SetupError(f"the passphrase of the keys must have {LEAST_PASSPHRASE} characters or more")
    return secret


def _read_credential(name: str) -> bytes:
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    if not folder:
        raise SetupError(
            f"the keys are encrypted under the systemd credential {name}, and there is no "
            f"$CREDENTIALS_DIRECTORY: start with LoadCredential={name}:FILE, or LoadCredentialEncrypted= "
            f"(for a command: systemd-run -p LoadCredential={name}:FILE)"
        )
    secret = _read_file(Path(folder) / name)
    if len(secret) < LEAST_CREDENTIAL_BYTES:
        raise SetupError(
            f"the credential {name} has {len(secret)} bytes, must have {LEAST_CREDENTIAL_BYTES} or more, "
            "random ones: `head -c 32 /dev/urandom`"
        )
    return secret


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_SECRET_MAX_BYTES)
    except OSError as fault:
        raise SetupError(f"{path}, which opens the keys, cannot be read: {fault.strerror}") from None


# --- the wrapped key


def wrap(key: bytes, by: WrappedBy, secret: bytes) -> WrappingRecord:
    """Wrap the key of the key files under a secret."""
    if by == "credential":
        return WrappingRecord(by=by, wrapped=seal_value(derive(secret, "key wrapping"), key, _AAD))
    salt = secrets.token_bytes(16)
    return WrappingRecord(
        by=by, wrapped=seal_value(_stretched(secret, salt, COST), key, _AAD), salt=salt, cost=COST
    )


def unwrap(record: WrappingRecord, secret: bytes) -> bytes:
    """Open the key of the key files. Raises SealBroken for another secret."""
    wrapping = (
        derive(secret, "key wrapping")
        if record.by == "credential"
        else _stretched(secret, record.salt, record.cost)
    )
    return open_value(wrapping, record.wrapped, _AAD)


def _stretched(secret: bytes, salt: bytes, cost: int) -> bytes:
    return Scrypt(salt, KEY_BYTES, cost, _BLOCK, _PARALLELISM).derive(secret)


def _dump(record: WrappingRecord) -> bytes:
    document: dict[str, Any] = {"version": 1, "by": record.by, "wrapped": record.wrapped.hex()}
    if record.by == "passphrase":
        document["scrypt"] = {
            "n": record.cost,
            "r": _BLOCK,
            "p": _PARALLELISM,
            "salt": record.salt.hex(),
        }
    return json.dumps(document, indent=1).encode()


def _parse(content: bytes, path: Path) -> WrappingRecord:
    """Read what `_dump` wrote. Raises SetupError."""
    try:
        document: Mapping[str, Any] = json.loads(content)
        by: WrappedBy = document["by"]
        if document["version"] != 1 or by not in get_args(WrappedBy):
            raise ValueError
        wrapped = bytes.fromhex(document["wrapped"])
        if by == "credential":
            return WrappingRecord(by=by, wrapped=wrapped)
        scrypt = document["scrypt"]
        cost = int(scrypt["n"])
        if not (2 <= cost <= _MAX_COST and cost & (cost - 1) == 0):
            raise ValueError
        if (scrypt["r"], scrypt["p"]) != (_BLOCK, _PARALLELISM):
            raise ValueError
        return WrappingRecord(by=by, wrapped=wrapped, salt=bytes.fromhex(scrypt["salt"]), cost=cost)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SetupError(f"{path} is damaged: restore it from a backup") from None
