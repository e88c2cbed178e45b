"""The deletion ledger: what was deleted and opted out, outside the database and its backups.

A restore reads it and deletes again what a backup brings back. It is one file of JSON lines, to which all
processes of an installation append:

    {"v":1,"entry":"<uuid>","at":<µs>,"what":"DELETE_SPEAKER","domain":"<hash>","id":"<hash>",...,
     "previous":"<mac>","mac":"<mac>"}

It holds no ids: domains and people are keyed hashes (HMAC-SHA256) under a key derived from `service.key`, a
customer's id is the keyed hash that the database has (`Vault.lookup`). `mac` authenticates a line under the
same key, and `previous` is the one of the line before, so that a changed, removed or inserted line shows.

When the service key is renewed, two lines NEW_KEY follow, the first under the earlier key, the second under
the new one. Earlier lines stay as they are: `previous` of the second fixes them, and a line under an earlier
key behind one of a later key is damaged. Hashes are looked up under all keys.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import logging
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from sonant.errors import InternalServer, SetupError
from sonant.storage.files import sync_folder
from sonant.storage.times import from_us, to_us

log = logging.getLogger(__name__)

LedgerAction = Literal[
    "OPT_OUT_SPEAKER",
    "DELETE_SPEAKER",
    "DELETE_FRAUDSTER",
    "DELETE_WATCHLIST",
    "DELETE_DOMAIN",
    "RESTORE_DOMAIN",
    "ERASE_DOMAIN",
    "VOID",
    "NEW_KEY",
]
"""What an entry records. VOID: the transaction of the entries `voids` was not committed. NEW_KEY: the key of
the following lines is that of the id `id`."""

FILE = "deletions.jsonl"
VERSION = 1
BEGINNING = "0" * 64
"""What `previous` is in the first line."""
_MAX_LINE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class LedgerKey:
    """The key of a ledger's hashes and codes, with those of former service keys."""

    key: bytes = field(repr=False)
    earlier: tuple[bytes, ...] = field(default=(), repr=False)
    """Keys of lines and hashes that were made before a renewal of the service key, oldest first."""
    following: bytes | None = field(default=None, repr=False)
    """A key that other hosts may use already."""

    @property
    def key_id(self) -> str:
        """The name of the key, which does not reveal it."""
        return self._hash("key id")[:32]

    def in_order(self) -> tuple[LedgerKey, ...]:
        """Return each key alone, in the order in which lines may be under them."""
        following = () if self.following is None else (self.following,)
        return tuple(LedgerKey(one) for one in (*self.earlier, self.key, *following))

    def domains(self, domain_id: str) -> frozenset[str]:
        """Return the hashes of a domain's id that entries may have."""
        return frozenset(key.domain(domain_id) for key in self.in_order())

    def members(self, domain_id: str, generated_id: str) -> frozenset[str]:
        """Return the hashes of a member's id that entries may have."""
        return frozenset(key.member(domain_id, generated_id) for key in self.in_order())

    def destroyed_hashes(self, wrapped: bytes) -> frozenset[str]:
        """Return the hashes of a wrapped data key that entries may have."""
        return frozenset(key.destroyed(wrapped) for key in self.in_order())

    def domain(self, domain_id: str) -> str:
        """Return the keyed hash of a domain's id."""
        return self._hash("domain", domain_id)

    def member(self, domain_id: str, generated_id: str) -> str:
        """Return the keyed hash of the id of a speaker, fraudster or watchlist of a domain."""
        return self._hash("member", domain_id, generated_id)

    def destroyed(self, wrapped: bytes) -> str:
        """Return the keyed hash of a wrapped data key, by which a copy in a backup can be recognized."""
        return self._hash("key", wrapped.hex())

    def mac(self, line: bytes) -> str:
        """Return the authentication code of a line without its own."""
        return hmac.digest(self.key, b"line\0" + line, "sha256").hex()

    def _hash(self, kind: str, *parts: str) -> str:
        return hmac.digest(self.key, "\0".join(("id", kind, *parts)).encode(), "sha256").hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class DestroyedKey:
    """A data key that was destroyed with its only copy."""

    kind: str
    """Whose: `speaker`, `session`, `fraudster` or `domain`."""
    wrapped: str
    """The keyed hash of its wrapped form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One deletion or opt-out. All ids are keyed hashes."""

    what: LedgerAction
    at: datetime
    domain: str = ""
    id: str = ""
    """The speaker, fraudster or watchlist; empty for a domain."""
    customer: str = ""
    """Hexadecimal `Vault.lookup` of the customer's id of a speaker; empty for all else."""
    keys: tuple[DestroyedKey, ...] = ()
    voids: tuple[str, ...] = ()
    entry: str = field(default_factory=lambda: str(uuid.uuid4()))

    def to_json(self) -> dict[str, Any]:
        values = {"v": VERSION, **asdict(self), "at": to_us(self.at)}
        return {name: value for name, value in values.items() if value not in ("", ())}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LedgerEntry:
        """Read what `to_json` wrote. Raises ValueError, KeyError or TypeError for anything else."""
        if values["v"] != VERSION or values["what"] not in get_args(LedgerAction):
            raise ValueError("a line of another release")
        return cls(
            what=values["what"],
            at=from_us(int(values["at"])),
            domain=str(values.get("domain", "")),
            id=str(values.get("id", "")),
            customer=str(values.get("customer", "")),
            keys=tuple(DestroyedKey(**one) for one in values.get("keys", ())),
            voids=tuple(map(str, values.get("voids", ()))),
            entry=str(values["entry"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFile:
    """What a ledger's file says."""

    entries: tuple[LedgerEntry, ...] = ()
    """In the order of the file, without those that were voided."""
    damaged: tuple[int, ...] = ()
    """Lines that are no entry of this key's, counted from 1; a cut last line is one of them."""
    breaks: tuple[int, ...] = ()
    """Lines before which lines are missing or were inserted."""
    later: tuple[int, ...] = ()
    """Lines under a service key that came later, and that is not known here."""


class DeletionLedger:
    """Appends to a ledger. Safe for several threads and processes."""

    def __init__(self, folder: Path, key: LedgerKey | Callable[[], LedgerKey]) -> None:
        """The folder is made when the first entry is written. `key` may return the key of the moment."""
        self.folder = folder
        self._key = key

    @property
    def key(self) -> LedgerKey:
        """The key of the moment."""
        return self._key if isinstance(self._key, LedgerKey) else self._key()

    def append(self, entries: Iterable[LedgerEntry]) -> None:
        """Write entries durably. Raises OSError."""
        lines = [entry.to_json() for entry in entries]
        if lines:
            self._append(lambda tail: [(values, _writing_key(self.key, tail)) for values in lines])

    def announce_key(self, following: LedgerKey, now: datetime) -> None:
        """Write under the present key that the lines behind will be under another. Raises OSError.

        Who has the present key alone, as an earlier backup does, so knows that later lines are not damaged.
        """
        self._mark(self.key, following.key_id, now)

    def begin_key(self, now: datetime) -> None:
        """Write under the present key that lines are under it from now on, and no more under an earlier one.

        It fixes the lines before by their codes. Raises OSError.
        """
        self._mark(self.key, self.key.key_id, now)

    def _mark(self, key: LedgerKey, key_id: str, now: datetime) -> None:
        alone = LedgerKey(key.key)
        mark = LedgerEntry(what="NEW_KEY", at=now, id=key_id).to_json()

        def marks(tail: bytes) -> list[tuple[dict[str, Any], LedgerKey]]:
            known = [one[0] for line in tail.splitlines(keepends=True) if (one := _open_line(line, alone))]
            done = any(entry.what == "NEW_KEY" and entry.id == key_id for entry in known)
            return [] if done else [(mark, alone)]

        self._append(marks)

    def _append(self, make: Callable[[bytes], Sequence[tuple[dict[str, Any], LedgerKey]]]) -> None:
        """Append what `make` returns for the end of the file: the members of lines, each with its key."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / FILE
        is_new = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            tail = os.pread(descriptor, _MAX_LINE_BYTES, max(0, size - _MAX_LINE_BYTES))
            text, previous = b"" if not tail or tail.endswith(b"\n") else b"\n", _last_mac(tail)
            for values, key in make(tail):
                line, previous = _sealed_line(values, previous, key)
                text += line
            view = memoryview(text)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            sync_folder(self.folder)


@dataclass(slots=True)
class LedgerTransaction:
    """The entries of one database transaction: written before its commit, voided if that fails.

    Use both contexts around the transaction's own: `with entries, transaction, entries.before_commit():`.
    """

    ledger: DeletionLedger | None
    """None: the ledger is switched off, and nothing is recorded."""
    entries: list[LedgerEntry] = field(default_factory=list)
    _written: bool = False

    @property
    def key(self) -> LedgerKey | None:
        """The key of the entries' hashes; None when nothing is recorded."""
        return None if self.ledger is None else self.ledger.key

    def add(self, entry: LedgerEntry) -> None:
        """Record an entry with the transaction."""
        self.entries.append(entry)

    @contextmanager
    def before_commit(self) -> Iterator[None]:
        """Write the entries when the block ends. Raises InternalServer when they cannot be written."""
        yield
        if self.ledger is None or not self.entries:
            return
        try:
            self.ledger.append(self.entries)
        except OSError as fault:
            log.error("the deletion ledger in %s cannot be written: %s", self.ledger.folder, fault.strerror)
            raise InternalServer from None
        self._written = True

    def __enter__(self) -> LedgerTransaction:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or self.ledger is None or not self._written:
            return
        void = LedgerEntry(
            what="VOID", at=self.entries[-1].at, voids=tuple(one.entry for one in self.entries)
        )
        try:
            self.ledger.append([void])
        except OSError as fault:
            log.error("the deletion ledger has entries of a deletion that was not made: %s", fault.strerror)


def read(folder: Path, key: LedgerKey) -> LedgerFile:
    """Read a ledger; empty where there is none. Raises SetupError for a file that cannot be read."""
    path = folder / FILE
    try:
        with path.open("rb") as file:
            lines = list(iter(lambda: file.readline(_MAX_LINE_BYTES), b""))
    except FileNotFoundError:
        return LedgerFile()
    except OSError as fault:
        raise SetupError(f"{path} cannot be read: {fault.strerror}") from None
    entries: list[LedgerEntry] = []
    damaged, breaks, later, previous = list[int](), list[int](), list[int](), BEGINNING
    keys, unknown_key = list(key.in_order()), False
    for number, line in enumerate(lines, 1):
        opened = None
        for at, one in enumerate(keys):
            if (opened := _open_line(line, one)) is not None:
                del keys[:at]  # lines under an earlier key do not come behind it
                break
        if opened is None:
            (later if unknown_key else damaged).append(number)
            continue
        if opened[0].what == "NEW_KEY":
            unknown_key = opened[0].id not in {one.key_id for one in keys}
        entry, before, own = opened
        if before != previous:
            breaks.append(number)
        previous = own
        entries.append(entry)
    voided = {one for entry in entries for one in entry.voids}
    return LedgerFile(
        entries=tuple(
            one for one in entries if one.what not in ("VOID", "NEW_KEY") and one.entry not in voided
        ),
        damaged=tuple(damaged),
        breaks=tuple(breaks),
        later=tuple(later),
    )


def _sealed_line(values: Mapping[str, Any], previous: str, key: LedgerKey) -> tuple[bytes, str]:
    body = json.dumps({**values, "previous": previous}, separators=(",", ":")).encode()
    mac = key.mac(body)
    return body[:-1] + f',"mac":"{mac}"}}\n'.encode(), mac


def _open_line(line: bytes, key: LedgerKey) -> tuple[LedgerEntry, str, str] | None:
    """Return a line's entry, the code of the line before, and its own; None if it is not this key's."""
    body, mark, rest = line.rpartition(b',"mac":"')
    mac, body = rest[:64].decode("ascii", "replace"), body + b"}"
    whole = mark and rest[64:] == b'"}\n'
    if not whole or not hmac.compare_digest(mac.encode(), key.mac(body).encode()):
        return None
    try:
        values = json.loads(body)
        return LedgerEntry.from_json(values), str(values["previous"]), mac
    except (ValueError, KeyError, TypeError):
        return None


def _writing_key(key: LedgerKey, tail: bytes) -> LedgerKey:
    """Return the key of the next line: the following one, once another host has written under it."""
    lines = tail.splitlines(keepends=True)
    if key.following is not None and lines:
        following = LedgerKey(key.following)
        if _open_line(lines[-1], following) is not None:
            return following
    return key


def _last_mac(tail: bytes) -> str:
    """Return the code of the last whole line, which need not be valid; BEGINNING when there is none."""
    for line in reversed(tail.splitlines()):
        _, mark, rest = line.rpartition(b',"mac":"')
        if mark and len(rest) == 66:
            return rest[:64].decode("ascii", "replace")
    return BEGINNING
