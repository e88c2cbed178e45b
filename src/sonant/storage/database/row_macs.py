"""Computes and checks the MACs of rows: keyed BLAKE2b (RFC 7693) over the values that decide.

HMAC-SHA256 would do as well, but OpenSSL takes four times as long for rows of some hundred bytes.

    row_mac = version 1 byte | BLAKE2b 32 bytes            version 1, of:
    key     = HKDF of the service key | table | names of the covered columns
    message = the values of the covered columns, in the order of their names (`encode`)

Whoever can write to the database but has no keys can make no MAC. A MAC belongs to one table and to one row,
since the primary key is covered: it does not fit a changed, inserted or exchanged row. An earlier state of a
row with its MAC of that time does fit; see `docs/row-integrity.md` for what detects it.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Protocol

import orjson
from sqlalchemy import Boolean, Float, Integer, LargeBinary, Table
from sqlalchemy.sql.elements import ColumnElement

from sonant.errors import IntegrityFault
from sonant.storage.crypto.sealing import derive
from sonant.storage.database.schema.base import metadata
from sonant.storage.database.schema.binding import BOUND, ROW_MAC

_VERSION = b"\x01"
_MAC_BYTES = 32
#: Types that JSON gives back as they are.
_PLAIN = frozenset((str, int, bool, type(None)))


class MacRoots(Protocol):
    """The roots of MACs of an installation whose service key may be renewed meanwhile (`ServiceSecret`)."""

    def row_mac_keys(self) -> tuple[bytes, ...]:
        """Return the roots whose MACs are accepted, that of new MACs first."""
        ...

    def prepared_row_mac_key(self) -> bytes | None:
        """Return the root that another host may use already."""
        ...

    def accept_prepared(self) -> None:
        """Use that root from now on."""
        ...


class RowMacs:
    """Makes and checks MACs under one installation's key."""

    __slots__ = ("_keys", "_root", "_roots")

    def __init__(self, root: bytes | MacRoots) -> None:
        """`root` is 32 bytes, derived from the service key for this use only, or what gives them."""
        self._roots = None if isinstance(root, bytes) else root
        self._root = root if isinstance(root, bytes) else root.row_mac_keys()[0]
        self._keys: dict[tuple[bytes, str, tuple[str, ...]], bytes] = {}

    def make(self, table: BoundTable, values: Mapping[str, Any]) -> bytes:
        """Compute the MAC of a row that is to be written; `values` are by column name."""
        return self.make_all(table, [[convert(values[name]) for name, convert in table.writers]])[0]

    def make_all(self, table: BoundTable, rows: Iterable[Sequence[Any]]) -> list[bytes]:
        """Compute the MACs of rows that are to be written; the values of each as `check` takes them."""
        if self._roots is not None:
            self._root = self._roots.row_mac_keys()[0]
        return [self._mac(self._root, table, values) for values in rows]

    def check(self, table: BoundTable, values: Sequence[Any], mac: object) -> None:
        """Raise IntegrityFault unless `mac` is that of `values`: those of `table.names`, in this order."""
        if mac is None:
            raise IntegrityFault(table.name, table.key_text(values), "has no MAC")
        if not (self._fits(self._root, table, values, mac) or self._fits_another(table, values, mac)):
            raise IntegrityFault(table.name, table.key_text(values), "does not match its MAC")

    def _fits_another(self, table: BoundTable, values: Sequence[Any], mac: object) -> bool:
        """Return whether the MAC is of a root that a rotation of the service key has brought or replaces."""
        if self._roots is None:
            return False
        accepted = self._roots.row_mac_keys()
        self._root = accepted[0]
        if any(self._fits(root, table, values, mac) for root in accepted):
            return True
        prepared = self._roots.prepared_row_mac_key()
        if prepared is None or not self._fits(prepared, table, values, mac):
            accepted = self._roots.row_mac_keys()  # their files were read again
            return any(self._fits(root, table, values, mac) for root in accepted)
        self._roots.accept_prepared()
        return True

    def _fits(self, root: bytes, table: BoundTable, values: Sequence[Any], mac: object) -> bool:
        try:
            return type(mac) is bytes and hmac.compare_digest(self._mac(root, table, values), mac)
        except (TypeError, ValueError):  # SQLite stores values of any type in any column
            return False

    def _mac(self, root: bytes, table: BoundTable, values: Sequence[Any]) -> bytes:
        key = self._keys.get((root, table.name, table.names))
        if key is None:
            purpose = "row of " + table.name + " " + ",".join(table.names)
            key = self._keys[root, table.name, table.names] = derive(root, purpose)
        return _VERSION + blake2b(encode(values), digest_size=_MAC_BYTES, key=key).digest()


def encode(values: Iterable[Any]) -> bytes:
    """Encode values so that no two lists give the same bytes. Raises TypeError for types of no column.

    JSON in the shortest form; bytes, and numbers whose text could be another's, as objects that no other
    value gives.
    """
    return orjson.dumps([value if type(value) in _PLAIN else _tagged(value) for value in values])


def _tagged(value: object) -> dict[str, str]:
    if type(value) is bytes:
        return {"bytes": value.hex()}
    if type(value) is float:
        return {"float": value.hex()}
    raise TypeError(f"no column holds a {type(value).__name__}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BoundTable:
    """A table whose rows have MACs. `bound_table` makes it."""

    table: Table
    name: str
    names: tuple[str, ...]
    """The covered columns, sorted."""
    key_names: tuple[str, ...]
    """The primary key's columns; all are covered."""
    writers: tuple[tuple[str, Callable[[Any], Any]], ...]
    """By covered column: converts a value to the type that the database returns for it."""
    defaults: Mapping[str, Any]
    """Values of covered columns that a row gets when it names none."""

    def key_text(self, values: Sequence[Any]) -> str:
        """Write the primary key of a row; `values` are those of `names`."""
        known = dict(zip(self.names, values, strict=True))
        return "/".join(str(known[name]) for name in self.key_names)

    def with_columns(self, names: Iterable[str]) -> BoundTable:
        """Return the same table with only these columns covered, as an earlier release declared it."""
        kept = tuple(sorted(set(names) & set(_names(self.table))))
        return _describe(self.table, kept)


def bound_tables() -> tuple[BoundTable, ...]:
    """List the tables whose rows have MACs, parents before children."""
    return tuple(bound_of(table) for table in metadata.sorted_tables if table.name in BOUND)


def bound_table(table: object) -> BoundTable | None:
    """Return the description of a table whose rows have MACs, else None."""
    return bound_of(table) if isinstance(table, Table) and table.name in BOUND else None


@lru_cache(maxsize=64)
def bound_of(table: Table) -> BoundTable:
    """Describe a table whose rows have MACs."""
    left_out = {ROW_MAC, *BOUND[table.name]}
    return _describe(table, tuple(sorted(name for name in _names(table) if name not in left_out)))


def _names(table: Table) -> list[str]:
    return [column.name for column in table.columns]


def _describe(table: Table, names: tuple[str, ...]) -> BoundTable:
    return BoundTable(
        table=table,
        name=table.name,
        names=names,
        key_names=tuple(column.name for column in table.primary_key),
        writers=tuple((name, converter_of(table.c[name])) for name in names),
        defaults={name: default_of(table.c[name]) for name in names},
    )


def converter_of(column: ColumnElement[Any]) -> Callable[[Any], Any]:
    """Return the conversion of a value to the type that reading the column returns."""
    if isinstance(column.type, Boolean):
        return lambda value: None if value is None else bool(value)
    if isinstance(column.type, Integer):  # with BigInteger
        return lambda value: None if value is None else int(value)
    if isinstance(column.type, Float):
        return lambda value: None if value is None else float(value)
    if isinstance(column.type, LargeBinary):
        return lambda value: None if value is None else bytes(value)
    return lambda value: None if value is None else str.__str__(value)  # of an enumeration: its text


def default_of(column: Any) -> Any:
    """Return the value that a row gets in a column that it does not name."""
    if column.server_default is None:
        return None
    text = str(column.server_default.arg)
    if isinstance(column.type, Boolean):
        return text == "true"
    return int(text) if isinstance(column.type, Integer) else text
