"""Look for remains of a deleted person: in the database, its files, local objects and backups.

A remain is a data key, a customer's id, or voice data of the person. Generated ids of deleted people in
events, sessions and jobs name nobody any more and are no remains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, func, select

from sonant.backup import sealed_file
from sonant.backup.create import tables
from sonant.errors import SetupError
from sonant.retention.ledger import LedgerKey
from sonant.storage.database.schema import (
    fingerprints,
    fraudster_shadow_voiceprints,
    fraudster_voiceprints,
    fraudsters,
    job_entries,
    session_hearings,
    sessions,
    shadow_voiceprints,
    speaker_keys,
    speakers,
    voiceprints,
)

#: Tables with voice data, and the column of the person.
_VOICES = {
    voiceprints: "speaker_id",
    shadow_voiceprints: "speaker_id",
    fingerprints: "speaker_id",
    fraudsters: "fraudster_id",
    fraudster_voiceprints: "fraudster_id",
    fraudster_shadow_voiceprints: "fraudster_id",
}
#: Tables with data keys: the column of the owner, and the column of the wrapped key.
_KEYS = {speaker_keys: "speaker_id", fraudsters: "fraudster_id", sessions: "session_id"}

_READ_BYTES = 1 << 20
#: Shorter texts occur in files by chance.
_LEAST_NEEDLE_BYTES = 6
#: What stands before the generated id in SQLite's record of a speaker's data key (SQLite file format, 2.1): a
#: header of 5 bytes, a text of 25 bytes (2 * 25 + 13), a blob of 61 bytes (2 * 61 + 12, in two bytes), the
#: row's MAC of 33 bytes (2 * 33 + 12); a null or nothing in its place before rows had MACs.
_FORMS = ("", ", without a MAC", ", of an earlier release")
_KEY_ROWS = tuple(
    bytes((4 + len(mac), 2 * 25 + 13, 0x81, (2 * 61 + 12) & 0x7F, *mac)) for mac in ((2 * 33 + 12,), (0,), ())
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who was deleted, by everything that could be left of them."""

    domain_id: str
    generated_ids: tuple[str, ...]
    customer_id: str = ""
    """The customer's own id; empty where it is not known any more."""
    customer_id_hash: bytes = b""
    """`Vault.lookup` of it; empty for a fraudster."""
    destroyed_keys: frozenset[str] = frozenset()
    """Keyed hashes of the wrapped keys that the ledger says were destroyed."""
    opted_out: bool = False
    """Whether the person may have an entry without a voice: the opt-out itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remain:
    """Something that is left of a person, or could not be looked at."""

    place: str
    what: str
    count: int = 1

    def to_json(self) -> dict[str, Any]:
        return {"Place": self.place, "What": self.what, "Count": self.count}


# --- the database


def in_database(connection: Connection, person: Person, key: LedgerKey) -> list[Remain]:
    """Look for rows of a person. Raises what the database raises."""
    found = [
        Remain(place=f"database, table {table.name}", what=what, count=count)
        for table, what, count in _rows(connection, person)
        if count
    ]
    for table, owner in _KEYS.items():
        query = select(table.c[owner], table.c.wrapped)
        if table is not speaker_keys:
            query = query.where(table.c.domain_id == person.domain_id)
        else:
            query = query.where(table.c.speaker_id.in_(person.generated_ids))
        count = sum(
            not person.destroyed_keys.isdisjoint(key.destroyed_hashes(row.wrapped))
            for row in connection.execute(query)
        )
        if count:
            found.append(Remain(place=f"database, table {table.name}", what="destroyed key", count=count))
    return found


def _rows(connection: Connection, person: Person) -> Iterator[tuple[Table, str, int]]:
    ids = person.generated_ids
    if not person.opted_out:
        by_id = speakers.c.speaker_id.in_(ids) & (speakers.c.domain_id == person.domain_id)
        yield speakers, "entry with the customer's id", _count(connection, speakers, by_id)
        if person.customer_id_hash:
            by_hash = (speakers.c.domain_id == person.domain_id) & (
                speakers.c.customer_id_hash == person.customer_id_hash
            )
            yield (
                speakers,
                "entry of the same customer's id",
                _count(connection, speakers, by_hash & speakers.c.speaker_id.not_in(ids)),
            )
        yield (
            speaker_keys,
            "data key",
            _count(connection, speaker_keys, speaker_keys.c.speaker_id.in_(ids)),
        )
    for table, column in _VOICES.items():
        yield table, "voice data", _count(connection, table, table.c[column].in_(ids))
    of_sessions = session_hearings.c.session_id.in_(
        select(sessions.c.session_id).where(
            sessions.c.domain_id == person.domain_id, sessions.c.speaker_id.in_(ids)
        )
    )
    yield session_hearings, "voice of a call", _count(connection, session_hearings, of_sessions)
    if person.customer_id_hash:
        of_dry_runs = job_entries.c.speaker_hash == person.customer_id_hash
        yield job_entries, "voice in a running dry run", _count(connection, job_entries, of_dry_runs)


def _count(connection: Connection, table: Table, condition: Any) -> int:
    return connection.execute(select(func.count()).select_from(table).where(condition)).scalar_one()


# --- files


def needles(person: Person) -> dict[str, bytes]:
    """Return the bytes to look for in files, by what they are; none for an opt-out, which leaves an entry."""
    if person.opted_out:
        return {}
    wanted = {
        f"data key of {one}{_FORMS[number]}": row + one.encode()
        for one in person.generated_ids
        for number, row in enumerate(_KEY_ROWS)
    }
    if person.customer_id_hash:
        wanted["keyed hash of the customer's id"] = person.customer_id_hash
    if len(person.customer_id.encode()) >= _LEAST_NEEDLE_BYTES:
        wanted["customer's id"] = person.customer_id.encode()
    return wanted


def names(person: Person) -> dict[str, bytes]:
    """Return a person's ids as they stand in manifests and result files; none for an opt-out."""
    if person.opted_out:
        return {}
    wanted = {f"generated id {one}": one.encode() for one in person.generated_ids}
    if len(person.customer_id.encode()) >= _LEAST_NEEDLE_BYTES:
        wanted["customer's id"] = person.customer_id.encode()
    return wanted


def in_files(paths: Iterable[Path], wanted: Mapping[str, bytes], place: str) -> list[Remain]:
    """Look for bytes in files, which may change meanwhile. Raises SetupError for one that cannot be read."""
    found = []
    for path in paths:
        try:
            found += [Remain(place=f"{place} {path}", what=what) for what in _in_file(path, wanted)]
        except FileNotFoundError:
            continue
        except OSError as fault:
            raise SetupError(f"{path} cannot be read: {fault.strerror}") from None
    return found


def _in_file(path: Path, wanted: Mapping[str, bytes]) -> list[str]:
    overlap = max((len(needle) for needle in wanted.values()), default=1) - 1
    missing, found, tail = dict(wanted), [], b""
    with path.open("rb") as file:
        while missing and (block := file.read(_READ_BYTES)):
            window = tail + block
            for what in [what for what, needle in missing.items() if needle in window]:
                found.append(what)
                del missing[what]
            tail = window[-overlap:] if overlap else b""
    return found


def object_files(buckets: Path) -> list[Path]:
    """Return the files of all local buckets."""
    return sorted(path for path in buckets.rglob("*") if path.is_file()) if buckets.is_dir() else []


# --- backups


def in_backup(path: Path, passphrase: bytes, person: Person, key: LedgerKey) -> list[Remain]:
    """Look for rows of a person in a backup. Raises SetupError for one that does not open."""
    known = {table.name: table for table in tables()}
    counts: Counter[tuple[str, str]] = Counter()
    ids = set(person.generated_ids)
    table: Table | None = None
    columns: Sequence[str] = ()
    for line in sealed_file.read(path, passphrase):
        if isinstance(line, dict):
            table = known.get(line["table"]) if "table" in line else None
            columns = line.get("columns", ())
        elif table is not None:
            row = dict(zip(columns, map(sealed_file.from_json, line), strict=True))
            # Tables come in the order in which they can be filled: a person's entry before the voice.
            if table is speakers and person.customer_id_hash == row["customer_id_hash"]:
                ids.add(row["speaker_id"])
            counts.update((table.name, what) for what in _kinds(table, row, ids, person, key))
    return [
        Remain(place=f"backup {path}, table {name}", what=what, count=count)
        for (name, what), count in counts.items()
    ]


def _kinds(
    table: Table, row: Mapping[str, Any], ids: Set[str], person: Person, key: LedgerKey
) -> Iterator[str]:
    """Yield what a row of a backup holds of a person."""
    if table in _KEYS and not person.destroyed_keys.isdisjoint(key.destroyed_hashes(row["wrapped"])):
        yield "destroyed key"
    if table in _VOICES and row[_VOICES[table]] in ids:
        yield "voice data"
    if table is speakers and not person.opted_out and row["speaker_id"] in ids:
        yield "entry with the customer's id"
    if (
        table is job_entries
        and person.customer_id_hash
        and row.get("speaker_hash") == person.customer_id_hash
    ):
        yield "voice in a running dry run"
