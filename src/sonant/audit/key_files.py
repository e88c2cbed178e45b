"""Files with the present keys of the audit trail's chains, in the folder `audit-keys` of the data folder.

    <chain>.key    number, hash and key of the chain's next line; overwritten in place
    starter        what begins the next section of a kept key; overwritten in place

A file is one record of 512 bytes, the size of a disk's sector, so that the old key is overwritten where it
stood and a power cut leaves one or the other. File systems that write elsewhere (copy on write, flash) may
keep old blocks for a while.
"""

from __future__ import annotations

import binascii
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sonant.audit import chain_keys
from sonant.audit.chain_keys import RootKey
from sonant.errors import SetupError
from sonant.ids import new_uuid
from sonant.storage.files import sync_folder

#: Folder of the files in the data folder; backups leave it out.
FOLDER = "audit-keys"
RECORD_BYTES = 512
_SUFFIX, _STARTER = ".key", "starter"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainState:
    """Where a sealed chain goes on."""

    chain_id: str
    root: str
    """Id of the root of the present section."""
    sequence: int
    """Number of the next line, from 1."""
    head: str
    """Hash of the last line."""
    mac: str
    """Code of the last line; empty before the first."""
    key: bytes = field(repr=False)
    """Key of the next line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The beginning of a section: its members in the line, and its first key."""

    members: Mapping[str, str]
    key: bytes = field(repr=False)


class KeyFiles:
    """Reads and writes the present keys of one data folder."""

    def __init__(self, data: Path, service_root: RootKey | Callable[[], RootKey]) -> None:
        """`service_root` may return the root of the moment, since the service's own key can be renewed."""
        self.folder = data / FOLDER
        self._root = service_root

    @property
    def _service_root(self) -> RootKey:
        return self._root if isinstance(self._root, RootKey) else self._root()

    # --- chains

    def names(self) -> list[str]:
        """Return the names of all chains that have a key."""
        return sorted(path.stem for path in self.folder.glob(f"*{_SUFFIX}"))

    def read(self, name: str) -> ChainState | None:
        """Return where a chain goes on, None without a file. Raises ValueError for a damaged file."""
        found = _read_record(self._path(name))
        if found is None:
            return None
        return ChainState(
            chain_id=str(found["chain"]),
            root=str(found["root"]),
            sequence=int(found["sequence"]),
            head=str(found["head"]),
            mac=str(found["mac"]),
            key=bytes.fromhex(found["key"]),
        )

    def write(self, name: str, state: ChainState) -> None:
        """Overwrite where a chain goes on. Raises OSError."""
        _write_record(
            self._path(name),
            {
                "chain": state.chain_id,
                "root": state.root,
                "sequence": state.sequence,
                "head": state.head,
                "mac": state.mac,
                "key": state.key.hex(),
            },
        )

    # --- sections

    @property
    def root(self) -> str:
        """Id of the root that new sections have. Raises ValueError for a damaged file."""
        starter = _read_record(self._starter_path)
        return self._service_root.key_id if starter is None else str(starter["root"])

    def is_replaced(self, root: str) -> bool:
        """Return whether `root` is one of the service's own key that the key has not any more."""
        return root.startswith(chain_keys.SERVICE) and root != self._service_root.key_id

    def begin_section(self, chain_id: str | None = None) -> Section:
        """Begin a section, by default of a new chain. Raises OSError, and ValueError for a damaged file."""
        with self._locked():
            starter = _read_record(self._starter_path)
            if starter is None:
                own = self._service_root
                start = own.new_start()
                root, key = own.key_id, own.first_key(start)
            else:
                root, start = str(starter["root"]), str(starter["start"])
                present = bytes.fromhex(starter["key"])
                key = chain_keys.starter_key(present)
                self._write_starter(root, int(start) + 1, chain_keys.next_starter(present))
        members = {"chain": chain_id or new_uuid(), "key": root, "start": start}
        return Section(members=members, key=key)

    def use_kept_key(self, root: RootKey) -> None:
        """Begin the coming sections with a kept key, of which only the first starter stays here."""
        with self._locked():
            self._write_starter(root.key_id, 1, chain_keys.next_starter(root.key))

    def _write_starter(self, root: str, start: int, key: bytes) -> None:
        _write_record(self._starter_path, {"root": root, "start": str(start), "key": key.hex()})

    @property
    def _starter_path(self) -> Path:
        return self.folder / _STARTER

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{_SUFFIX}"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        _make_private(self.folder)
        with (self.folder / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def read_kept_key(path: Path) -> RootKey:
    """Read a key that the operator keeps. Raises SetupError."""
    try:
        key = bytes.fromhex(path.read_text("ascii").strip())
    except (OSError, ValueError):
        key = b""
    if len(key) != chain_keys.KEY_BYTES:
        raise SetupError(f"{path} is not a key of the audit trail: it must hold 64 hex digits")
    return RootKey(kept=True, key=key)


def _read_record(path: Path) -> dict[str, Any] | None:
    """Return the members of a record, None without a file. Raises ValueError when it is damaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise ValueError(f"it cannot be read: {fault.strerror}") from None
    body, _, check = content.rstrip(b" \n").rpartition(b"#")
    if check != _check(body):
        raise ValueError("its check sum does not fit")
    members: dict[str, Any] = json.loads(body)
    return members


def _write_record(path: Path, members: Mapping[str, object]) -> None:
    body = json.dumps(members, separators=(",", ":")).encode()
    record = (body + b"#" + _check(body)).ljust(RECORD_BYTES - 1) + b"\n"
    if len(record) != RECORD_BYTES:
        raise ValueError(f"a record of {len(record)} bytes, at most {RECORD_BYTES}")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        _make_private(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        sync_folder(path.parent)
    try:
        os.pwrite(descriptor, record, 0)
    finally:
        os.close(descriptor)


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _check(body: bytes) -> bytes:
    return b"%08x" % binascii.crc32(body)


def new_kept_key(path: Path, data: Path, key: bytes) -> RootKey:
    """Write a new key for the operator to keep. Raises SetupError for a path in the data folder or in use."""
    if path.absolute().resolve().is_relative_to(data.absolute().resolve()):
        raise SetupError(f"{path} is in the data folder: the key must be kept elsewhere, off this machine")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as fault:
        raise SetupError(f"{path} cannot be written: {fault.strerror}") from None
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(key.hex() + "\n")
        file.flush()
        with suppress(OSError):
            os.fsync(file.fileno())
    return RootKey(kept=True, key=key)
