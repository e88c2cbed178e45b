"""The files of the service's own keys, in the folder `keys` of the data folder.

    service.key            the present key, 32 bytes
    service.key.former     JSON: keys that were replaced, the latest first; absent before the first rotation
    service.key.next       32 bytes: the key that a rotation switches to
    service.key.pending    the first key until the database has its check value

Several processes use them at once, see `PrivateFolder`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from sonant.assembly.installation.folders import SERVICE_KEY_FILE
from sonant.errors import KeysUnreachable, SetupError
from sonant.storage.crypto.service_secret import FormerKey, ServiceKeys
from sonant.storage.keys.material import KEY_BYTES
from sonant.storage.private_folder import PrivateFolder, Stamp

log = logging.getLogger(__name__)

FORMER_FILE = "service.key.former"
NEXT_FILE = "service.key.next"
#: Name of the key's file until the database has its check value.
PENDING_FILE = "service.key.pending"
#: Keys that are remembered at most: one a day for three years. What the oldest sealed is not proven any more.
MOST_FORMER = 1000
_FORMER_MAX_BYTES = 1024 * 1024
_VERSION = 1


class ServiceKeyFiles:
    """Reads and replaces the service's own keys. Faults of the folder raise SetupError."""

    def __init__(self, folder: PrivateFolder) -> None:
        self.folder = folder
        self._seen: tuple[Stamp | None, Stamp | None] | None = None

    # --- reading

    def renewed(self) -> ServiceKeys | None:
        """Return the keys when their files have changed since the last call, else None; None on any fault.

        A folder that is away, or open to others, does not stop a process that has its keys.
        """
        with suppress(SetupError, KeysUnreachable):
            stamps = self.folder.stamp(SERVICE_KEY_FILE), self.folder.stamp(FORMER_FILE)
            if stamps == self._seen or stamps[0] is None:
                return None
            found = self.read()
            if found is not None:
                self._seen = stamps
            return found
        return None

    def read(self) -> ServiceKeys | None:
        """Return the keys; None without one. Raises SetupError for damaged files."""
        while True:
            version = self.folder.stamp(FORMER_FILE)
            former = self._read_former()
            prepared = self._read_key(NEXT_FILE)
            present = self._read_key(SERVICE_KEY_FILE) or self._read_key(PENDING_FILE)
            if self.folder.stamp(FORMER_FILE) == version:  # else another process has just replaced the key
                break
        if present is None:
            return None
        return ServiceKeys(
            present=present,
            former=tuple(one for one in former if one.key != present),
            prepared=None if prepared == present else prepared,
        )

    def _read_key(self, name: str) -> bytes | None:
        found = self.folder.read(name, KEY_BYTES)
        if found is not None and len(found[1]) != KEY_BYTES:
            raise SetupError(f"{self.folder.path / name} is damaged: restore it from a backup")
        return None if found is None else found[1]

    def _read_former(self) -> tuple[FormerKey, ...]:
        found = self.folder.read(FORMER_FILE, _FORMER_MAX_BYTES)
        if found is None:
            return ()
        try:
            document = json.loads(found[1])
            if document["version"] != _VERSION:
                raise ValueError
            return tuple(map(_from_json, document["keys"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise SetupError(
                f"{self.folder.path / FORMER_FILE} is damaged: restore it from a backup; without it, earlier "
                "lines of the audit trail and of the deletion ledger cannot be proven"
            ) from None

    # --- writing

    def prepare(self, key: bytes) -> None:
        """Write the key that a rotation switches to, unless there is one."""
        with self.folder.locked():
            if self._read_key(NEXT_FILE) is None:
                self.folder.replace(NEXT_FILE, key, secret=True)

    def promote(self) -> None:
        """Make the prepared key the present one. A second call changes nothing."""
        with self.folder.locked():
            found = self.read()
            if found is None or found.prepared is None:
                if found is not None and self.folder.stamp(NEXT_FILE) is not None:
                    self.folder.destroy(NEXT_FILE)  # it is the present key already
                return
            replaced = FormerKey(key=found.present, replaced_at=None)
            self._write_former((replaced, *(one for one in found.former if one.key != found.prepared)))
            self.folder.replace(SERVICE_KEY_FILE, found.prepared, secret=True)
            self.folder.destroy(NEXT_FILE)
        log.info("the service key was renewed")

    def adopt(self, keys: ServiceKeys, unfinished: bytes) -> None:
        """Take over the keys of a later time; `unfinished` is the one that rows are under."""
        former = [replace(one, replaced_at=None) if one.key == unfinished else one for one in keys.former]
        with self.folder.locked():
            self._write_former(former)
            self.folder.replace(SERVICE_KEY_FILE, keys.present, secret=True)

    def finish(self, now: datetime, *, tokens_accepted: bool) -> None:
        """Note that nothing is under former keys any more that could be made anew."""
        with self.folder.locked():
            found = self.read()
            if found is None or found.unfinished is None:
                return
            self._write_former(
                [
                    replace(one, replaced_at=now, tokens_accepted=tokens_accepted)
                    if one.replaced_at is None
                    else one
                    for one in found.former
                ]
            )

    def write_again(self, *, plain: bool = False) -> int:
        """Write all files as the wrapping has it now, or not encrypted, and destroy what was there.

        Returns how many.
        """
        written = 0
        with self.folder.locked():
            for name in (SERVICE_KEY_FILE, FORMER_FILE, NEXT_FILE):
                found = self.folder.read(name, _FORMER_MAX_BYTES)
                if found is not None:
                    self.folder.replace(name, found[1], overwrite=True, secret=not plain)
                    written += 1
        return written

    def _write_former(self, keys: Sequence[FormerKey]) -> None:
        document = {"version": _VERSION, "keys": [_to_json(one) for one in keys[:MOST_FORMER]]}
        self.folder.replace(FORMER_FILE, json.dumps(document, indent=1).encode(), secret=True)


def _to_json(key: FormerKey) -> dict[str, object]:
    return {
        "key": key.key.hex(),
        "replaced_at": None if key.replaced_at is None else key.replaced_at.isoformat(),
        "tokens_accepted": key.tokens_accepted,
    }


def _from_json(values: dict[str, object]) -> FormerKey:
    """Read what `_to_json` wrote. Raises ValueError, KeyError or TypeError for anything else."""
    key, at = bytes.fromhex(str(values["key"])), values["replaced_at"]
    if len(key) != KEY_BYTES:
        raise ValueError("a key of another length")
    replaced_at = None if at is None else datetime.fromisoformat(str(at))
    if replaced_at is not None and replaced_at.tzinfo is None:
        raise ValueError("a date without time zone")
    return FormerKey(key=key, replaced_at=replaced_at, tokens_accepted=values["tokens_accepted"] is True)
