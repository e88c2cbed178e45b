"""The folder of Sonant's own keys: key files, aliases, and the record of keys that were destroyed.

    <folder>/<key id>.json     state of one key, and its material or the material's id in a token
    <folder>/aliases.json      alias -> key id
    <folder>/destroyed.json    ids of keys that were destroyed on purpose; any other missing key was lost

Several processes use the folder at once; see `PrivateFolder`.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import get_args

from sonant.errors import KeyNotFound, SetupError
from sonant.storage.keys.material import KEY_BYTES
from sonant.storage.keys.store import KeyState, foreign_key, no_such_key, printable
from sonant.storage.private_folder import PrivateFolder, Stamp, Wrapping

#: Earlier materials that one key file holds at most.
MAX_ROTATIONS = 100

_KEY_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: Of the names that AWS reserves, programs are known to use this one: it may be given to a key.
_VOICE_ID_ALIAS = "alias/aws/voiceid"
_ALIAS = re.compile(rf"alias/(?!aws/)[a-zA-Z0-9/_-]{{1,250}}|{_VOICE_ID_ALIAS}")
_ALIASES, _DESTROYED = "aliases.json", "destroyed.json"
_KEY_FILE_MAX_BYTES = 64 * 1024
_LIST_MAX_BYTES = 16 * 1024 * 1024
#: Versions of key files; those without earlier material are of version 1, which older releases read.
_VERSION, _ROTATED, _IN_TOKEN = 1, 2, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFile:
    """One key with its material; lives for the length of a read or a write."""

    key_id: str
    state: KeyState
    description: str
    created_at: datetime
    deletion_date: datetime | None
    material: bytes = field(repr=False)
    """32 bytes; of a key in a token, the id of its object there."""
    earlier: tuple[bytes, ...] = field(default=(), repr=False)
    """What rotations have replaced, the latest first: it opens what was wrapped before, and wraps no more."""
    in_token: bool = False


class KeyFolder:
    """Reads and writes the files of one account's keys. Methods that write need the lock (`locked`).

    Faults of the folder (permissions, damaged files, a full disk) raise SetupError, which says what to do.
    """

    def __init__(self, path: Path, *, region: str, account: str, wrapping: Wrapping | None = None) -> None:
        """`region` and `account` are those of the keys' ARNs. `wrapping` encrypts the keys' files."""
        self._files = PrivateFolder(path, wrapping)
        self._arn_prefix = f"arn:aws:kms:{region}:{account}:"
        # One value, replaced as a whole: threads read it without a lock.
        self._aliases: tuple[Stamp | None, Mapping[str, str]] = (None, {})

    @property
    def path(self) -> Path:
        return self._files.path

    def check(self) -> None:
        """Raise KeysUnreachable when the folder is gone, SetupError when it is open to other users."""
        self._files.check()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other writer out, of this and of other processes."""
        with self._files.locked():
            yield

    # --- names

    def arn(self, key_id: str) -> str:
        return f"{self._arn_prefix}key/{key_id}"

    def resolve(self, ref: str) -> str:
        """Return the key id that `ref` names, whether or not that key exists. Raises KeyNotFound."""
        if ref.startswith("arn:"):
            kind = "alias/" if ref.startswith(self._arn_prefix + "alias/") else "key/"
            if not ref.startswith(self._arn_prefix + kind):
                raise foreign_key(ref)
            name = ref.removeprefix(self._arn_prefix).removeprefix("key/")
        else:
            kind, name = "alias/" if ref.startswith("alias/") else "key/", ref
        key_id = self.aliases().get(name) if kind == "alias/" else name
        if key_id is None or not _KEY_ID.fullmatch(key_id):
            raise no_such_key(ref)
        return key_id

    def aliases(self) -> Mapping[str, str]:
        """Return the key id of every alias, as another process may have changed them."""
        known = self._aliases
        if self._files.stamp(_ALIASES) != known[0]:
            known = self._aliases = self._read_aliases()
        return known[1]

    def write_aliases(self, aliases: Mapping[str, str]) -> None:
        self._files.replace(_ALIASES, json.dumps(aliases, indent=1, sort_keys=True).encode())

    def _read_aliases(self) -> tuple[Stamp | None, Mapping[str, str]]:
        read = self._files.read(_ALIASES, _LIST_MAX_BYTES)
        if read is None:
            return None, {}
        stamp, content = read
        try:
            aliases: dict[str, str] = json.loads(content)
            if not all(_ALIAS.fullmatch(alias) and _KEY_ID.fullmatch(k) for alias, k in aliases.items()):
                raise ValueError
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise SetupError(
                f"file {self.path / _ALIASES} is damaged: restore it from a backup, or move it away "
                "and name the keys again (`sonant key alias`)"
            ) from None
        return stamp, aliases

    # --- key files

    def key_ids(self) -> list[str]:
        """Return the ids of all keys that have a file."""
        stems = (name.removesuffix(".json") for name in self._files.names(".json"))
        return [stem for stem in stems if _KEY_ID.fullmatch(stem)]

    def stamp(self, key_id: str) -> Stamp | None:
        """Return the present version of a key's file, or None when there is no file."""
        return self._files.stamp(_file_name(key_id))

    def read(self, key_id: str) -> tuple[Stamp, KeyFile]:
        """Read a key's file and its version. Raises KeyNotFound, SetupError."""
        read = self._files.read(_file_name(key_id), _KEY_FILE_MAX_BYTES)
        if read is None:
            raise KeyNotFound(f"key {key_id} does not exist")
        try:
            return read[0], parse(read[1], key_id)
        except ValueError as fault:
            if self.stamp(key_id) is None:  # destroyed while it was read
                raise KeyNotFound(f"key {key_id} does not exist") from None
            raise SetupError(
                f"key file {self.path / _file_name(key_id)} is damaged ({fault}): restore it from a "
                "backup; without it, what is sealed under the key stays unreadable"
            ) from None

    def write(self, key: KeyFile, *, overwrite: bool = False, plain: bool = False) -> None:
        """Replace a key's file. With `overwrite`, the old content is destroyed on the disk.

        `plain` leaves it unencrypted although there is a wrapping.
        """
        self._files.replace(_file_name(key.key_id), dump(key), overwrite=overwrite, secret=not plain)

    def destroy(self, key_id: str) -> None:
        """Record that a key is destroyed on purpose, and destroy its file."""
        self.record_destroyed(key_id)  # first: a key that is missing without a record was lost
        self._files.destroy(_file_name(key_id))

    def destroyed(self) -> list[str]:
        """Return the ids of the keys that were destroyed on purpose."""
        read = self._files.read(_DESTROYED, _LIST_MAX_BYTES)
        try:
            found = [] if read is None else json.loads(read[1])
            if not isinstance(found, list) or not all(_KEY_ID.fullmatch(key_id) for key_id in found):
                raise ValueError
        except (ValueError, TypeError, RecursionError):
            raise SetupError(f"file {self.path / _DESTROYED} is damaged: restore it from a backup") from None
        return found

    def record_destroyed(self, key_id: str) -> None:
        known = self.destroyed()
        if key_id not in known:
            self._files.replace(_DESTROYED, json.dumps([*known, key_id], indent=1).encode())


def check_alias(alias: str) -> None:
    """Raise SetupError for an alias that AWS KMS would not accept, other than the one that programs use."""
    if not _ALIAS.fullmatch(alias):
        raise SetupError(
            f"{printable(alias)} is not an alias: write alias/ and up to 250 of the characters "
            f"a-z A-Z 0-9 / _ - (alias/aws/ is reserved, but for {_VOICE_ID_ALIAS})"
        )


def dump(key: KeyFile) -> bytes:
    """Return the content of a key's file: JSON, with check values that detect damage."""
    name = _material_member(key.in_token)
    return json.dumps(
        {
            "version": _IN_TOKEN if key.in_token else _ROTATED if key.earlier else _VERSION,
            "key_id": key.key_id,
            "state": key.state,
            "description": key.description,
            "created_at": key.created_at.isoformat(),
            "deletion_date": key.deletion_date.isoformat() if key.deletion_date else None,
            **_with_check(key.material, name),
            **({"earlier": [_with_check(one, name) for one in key.earlier]} if key.earlier else {}),
        },
        indent=1,
    ).encode()


def parse(content: bytes, key_id: str) -> KeyFile:
    """Parse the content of a key's file. Raises ValueError with the reason, never with the content."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(data, dict) or data.get("version") not in (_VERSION, _ROTATED, _IN_TOKEN):
        raise ValueError(f"not a key file of version {_VERSION} to {_IN_TOKEN}")
    if data.get("key_id") != key_id:
        raise ValueError("it holds another key than its name says")
    in_token = data["version"] == _IN_TOKEN
    state: KeyState | None = next((s for s in get_args(KeyState) if s == data.get("state")), None)
    description = data.get("description")
    if state is None or not isinstance(description, str):
        raise ValueError("unknown state or no description")
    try:
        created_at = datetime.fromisoformat(data["created_at"])
        deletion_date = datetime.fromisoformat(data["deletion_date"]) if data["deletion_date"] else None
        name = _material_member(in_token)
        material = _checked_material(data, name)
        earlier = tuple(_checked_material(one, name) for one in data.get("earlier", ()))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ValueError("a date or the material cannot be read") from None
    if created_at.tzinfo is None or (deletion_date is not None and deletion_date.tzinfo is None):
        raise ValueError("a date without time zone")
    if (state == "PendingDeletion") != (deletion_date is not None):
        raise ValueError("state and deletion date contradict each other")
    if material is None or None in earlier or len(earlier) > MAX_ROTATIONS:
        raise ValueError("the material does not match its check value")
    return KeyFile(
        key_id=key_id,
        state=state,
        description=description,
        created_at=created_at,
        deletion_date=deletion_date,
        material=material,
        earlier=tuple(one for one in earlier if one is not None),
        in_token=in_token,
    )


def _file_name(key_id: str) -> str:
    return f"{key_id}.json"


def _material_member(in_token: bool) -> str:
    return "token_object" if in_token else "material"


def _with_check(material: bytes, name: str) -> dict[str, str]:
    return {name: base64.b64encode(material).decode(), "check": _check_value(material)}


def _checked_material(data: dict[str, object], name: str) -> bytes | None:
    """Return the material, or None when it does not match its check value."""
    material = base64.b64decode(str(data[name]), validate=True)
    matches = hmac.compare_digest(_check_value(material), str(data.get("check")))
    return material if matches and len(material) == KEY_BYTES else None


def _check_value(material: bytes) -> str:
    """Return 64 bits that follow from the material and do not reveal it."""
    return hmac.digest(material, b"sonant key check value", "sha256")[:8].hex()
