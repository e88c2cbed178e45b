"""Connections that check the MACs of rows when they are read, and make them when rows are written.

Repositories run their statements as usual. A query that returns columns of bound tables (see
`schema.binding`) is widened by the columns that the MACs cover, each row is checked, and the caller gets the
columns that it asked for. An insert gets the MAC of its values. An update checks the rows that it changes
first, so that it never makes a MAC for what something else has written there.

    not checked: counts and other aggregates, groups, deletes, and statements marked by `unverified`
    left out:    rows that were changed, of queries marked by `without_changed_rows`
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import (
    Column,
    Connection,
    Insert,
    Join,
    Label,
    Select,
    Table,
    Update,
    bindparam,
    select,
    tuple_,
    update,
)
from sqlalchemy.engine import IteratorResult, Result
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.sql.elements import BindParameter

from sonant.errors import IntegrityFault
from sonant.storage.database.row_macs import BoundTable, RowMacs, bound_table
from sonant.storage.database.schema.binding import ROW_MAC

#: Execution option of engines: the `RowGuard` of their database.
GUARD = "sonant_row_guard"
#: Execution option of statements whose rows are not checked: the reason.
UNVERIFIED = "sonant_unverified"

#: Execution option of queries that leave rows out which were changed.
LEAVE_OUT = "sonant_leave_out"

_CHUNK = 500


@dataclass(slots=True)
class RowGuard:
    """What a database's connections check rows with."""

    macs: RowMacs | None = None
    """None until the installation's keys have been opened; bound tables cannot be used before."""
    left_out: list[IntegrityFault] = field(default_factory=list)
    """Faults of rows that queries have left out and that are not reported yet."""

    def require(self) -> RowMacs:
        if self.macs is None:
            raise RuntimeError("bound tables were used before the key of their MACs was opened")
        return self.macs


_Statement = TypeVar("_Statement", Select[Any], Update)


def unverified(statement: _Statement, reason: str) -> _Statement:
    """Mark a statement whose rows are neither checked nor given MACs; `reason` is for the reader."""
    return statement.execution_options(**{UNVERIFIED: reason})


def without_changed_rows(statement: Select[Any]) -> Select[Any]:
    """Mark a query of many rows, one of which must not keep the others from being worked on.

    Rows that something else has changed are left out, and reported when the transaction has ended.
    """
    return statement.execution_options(**{LEAVE_OUT: True})


# --- reading


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCheck:
    """Where the columns of one bound table are in the rows of a widened query."""

    table: BoundTable
    positions: tuple[int, ...]
    """Of the columns `table.names`."""
    mac: int
    keys: tuple[int, ...]
    """Of the primary key; all null where an outer join has found no row."""

    def run(self, macs: RowMacs, row: Sequence[Any]) -> None:
        """Raise IntegrityFault unless the row is as it was written."""
        if all(row[at] is None for at in self.keys):
            return
        macs.check(self.table, [row[at] for at in self.positions], row[self.mac])


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPlan:
    """A widened query and the checks of its rows."""

    statement: Select[Any]
    visible: tuple[int, ...]
    """Positions of the columns that the caller asked for."""
    checks: tuple[RowCheck, ...]

    def checked(
        self, macs: RowMacs, rows: Iterable[Sequence[Any]], left_out: list[IntegrityFault] | None = None
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the visible values of rows, each checked before.

        Raises IntegrityFault; with a list `left_out`, leaves such rows out and appends their faults.
        """
        for row in _readable(self.checks, rows):
            try:
                for check in self.checks:
                    check.run(macs, row)
            except IntegrityFault as fault:
                if left_out is None:
                    raise
                left_out.append(fault)
                continue
            yield tuple([row[at] for at in self.visible])


def _readable(checks: Sequence[RowCheck], rows: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    """Yield rows. Raises IntegrityFault for a value that cannot be one of its column's type."""
    remaining = iter(rows)
    while True:
        try:
            row = next(remaining)
        except StopIteration:
            return
        except (TypeError, ValueError):
            raise wrong_type(checks) from None
        yield row


def wrong_type(checks: Sequence[RowCheck]) -> IntegrityFault:
    """Make the fault of a row with a value that its column cannot hold."""
    return IntegrityFault(checks[0].table.name, "(unknown)", "has a value of a wrong type")


#: What is known of statements that were run before.
read_plans: WeakKeyDictionary[Select[Any], ReadPlan | None] = WeakKeyDictionary()


def read_plan(statement: Select[Any]) -> ReadPlan | None:
    """Return how the rows of a query are checked; None for a query whose rows are not."""
    try:
        return read_plans[statement]
    except KeyError:
        plan = read_plans[statement] = _read_plan(statement)
        return plan


def _read_plan(statement: Select[Any]) -> ReadPlan | None:
    asked = [_plain(column) for column in statement.selected_columns]
    of_tables = {column.table for column in asked if column is not None}
    if not any(bound_table(table) for table in of_tables) or UNVERIFIED in statement.get_execution_options():
        return None
    if statement._group_by_clauses or statement._distinct:  # rows of such a query are not rows of the tables
        return None
    places = {(column.table, column.name): at for at, column in enumerate(asked) if column is not None}
    added: list[Label[Any]] = []

    def place(bound: BoundTable, name: str) -> int:
        key = (bound.table, name)
        if key not in places:
            places[key] = len(asked) + len(added)
            added.append(_hidden(bound.table, name))
        return places[key]

    checks = [
        RowCheck(
            table=bound,
            positions=tuple(place(bound, name) for name in bound.names),
            mac=place(bound, ROW_MAC),
            keys=tuple(place(bound, name) for name in bound.key_names),
        )
        for bound in map(bound_table, _tables(statement.get_final_froms()))
        if bound is not None
    ]
    visible = [at for at, column in enumerate(asked) if column is None or column.name != ROW_MAC]
    return ReadPlan(statement=statement.add_columns(*added), visible=tuple(visible), checks=tuple(checks))


@lru_cache(maxsize=1024)
def _hidden(table: Table, name: str) -> Label[Any]:
    """Return a column under a name that no query uses."""
    return table.c[name].label(f"_{table.name}_{name}")


def _plain(column: Any) -> Column[Any] | None:
    """Return the table's column that a selected column is, labelled or not; None for an expression."""
    inner = column.element if isinstance(column, Label) else column
    return inner if isinstance(inner, Column) else None


def _tables(sources: Iterable[Any]) -> Iterator[Any]:
    for source in sources:
        if isinstance(source, Join):
            yield from _tables((source.left, source.right))
        else:
            yield source


# --- writing


def given_values(statement: Insert | Update, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the values that a statement sets, by column name; None when one is an expression of SQL."""
    found = dict(parameters) if isinstance(statement, Insert) else {}
    for column, value in (statement._values or {}).items():
        name = column if isinstance(column, str) else column.name
        if not isinstance(value, BindParameter):
            return None
        found[name] = parameters.get(value.key, value.value)
    return found


def _set_names(statement: Insert | Update) -> set[str]:
    return {name if isinstance(name, str) else name.name for name in (statement._values or {})}


class BoundConnection(Connection):
    """A connection whose statements check and make the MACs of rows."""

    def execute(self, statement: Any, parameters: Any = None, *, execution_options: Any = None) -> Any:
        """Execute a statement as SQLAlchemy does. Raises IntegrityFault for a row that was changed."""
        if isinstance(statement, Select):
            plan = read_plan(statement)
            if plan is not None:
                return self._select(plan, statement, parameters)
        elif isinstance(statement, Insert | Update):
            bound = bound_table(statement.table)
            if bound is not None and UNVERIFIED not in statement.get_execution_options():
                run = self._insert if isinstance(statement, Insert) else self._update
                if execution_options:
                    statement = statement.execution_options(**execution_options)
                return run(bound, statement, parameters)
        return super().execute(statement, parameters, execution_options=execution_options)

    def scalar(self, statement: Any, parameters: Any = None, *, execution_options: Any = None) -> Any:
        return self.execute(statement, parameters, execution_options=execution_options).scalar()

    def scalars(self, statement: Any, parameters: Any = None, *, execution_options: Any = None) -> Any:
        return self.execute(statement, parameters, execution_options=execution_options).scalars()

    @property
    def macs(self) -> RowMacs:
        """The maker of this database's MACs."""
        guard: RowGuard = self.get_execution_options()[GUARD]
        return guard.require()

    def _select(self, plan: ReadPlan, statement: Select[Any], parameters: Any) -> Result[Any]:
        raw = super().execute(plan.statement, parameters)
        keys = list(raw.keys())
        names = [keys[at] for at in plan.visible]
        guard: RowGuard = self.get_execution_options()[GUARD]
        left_out = guard.left_out if LEAVE_OUT in statement.get_execution_options() else None
        return IteratorResult(SimpleResultMetaData(names), plan.checked(self.macs, raw, left_out), raw)

    def _insert(self, bound: BoundTable, statement: Insert, parameters: Any) -> Any:
        rows = _rows(parameters)
        if ROW_MAC in _set_names(statement) or any(ROW_MAC in row for row in rows):
            return super().execute(statement, parameters)  # a restored row has its own
        complete = [given_values(statement, row) for row in rows]
        if statement._post_values_clause is not None or any(
            values is None or not all(name in values for name in bound.key_names) for values in complete
        ):
            return self._insert_then_bind(bound, statement, rows)
        macs = [self.macs.make(bound, {**bound.defaults, **values}) for values in complete if values]
        if not parameters:
            return super().execute(statement.values({ROW_MAC: macs[0]}))
        with_macs = [{**row, ROW_MAC: mac} for row, mac in zip(rows, macs, strict=True)]
        return super().execute(statement, with_macs)

    def _insert_then_bind(self, bound: BoundTable, statement: Insert, rows: Sequence[Any]) -> Any:
        """Insert rows one by one whose key or values the database makes, and bind each."""
        result = None
        for row in rows:
            values = given_values(statement, row) or {}
            known = tuple(values.get(name) for name in bound.key_names)
            if None not in known:  # an upsert: the row may exist, and keeps what is not set
                self._checked_keys(bound, _is(bound, known), {})
            result = super().execute(statement, row or None)
            key = known if None not in known else tuple(result.inserted_primary_key or ())
            self._bind(bound, [key])
        return result

    def _update(self, bound: BoundTable, statement: Update, parameters: Any) -> Any:
        names = _set_names(statement)
        if ROW_MAC in names or not names & set(bound.names):
            return super().execute(statement, parameters)
        rows = _rows(parameters)
        results = [self._update_one(bound, statement, row) for row in rows]
        return results[-1]

    def _update_one(self, bound: BoundTable, statement: Update, parameters: Mapping[str, Any]) -> Any:
        found = self._checked_rows(bound, statement.whereclause, parameters, limit=2)
        given = given_values(statement, parameters)
        if len(found) == 1 and given is not None:
            values = {**found[0], **{name: given[name] for name in given if name in found[0]}}
            statement = statement.values({ROW_MAC: self.macs.make(bound, values)})
            return super().execute(statement, parameters or None)
        if not found:
            return super().execute(statement, parameters or None)
        keys = self._checked_keys(bound, statement.whereclause, parameters)
        result = super().execute(statement, parameters or None)
        self._bind(bound, keys)
        return result

    def _checked_rows(
        self, bound: BoundTable, condition: Any, parameters: Mapping[str, Any], limit: int | None = None
    ) -> list[dict[str, Any]]:
        """Lock and check the rows that a condition finds, and return the values of their covered columns."""
        return [
            dict(zip(bound.names, row, strict=True))
            for row in self._locked(bound, condition, parameters, limit)
        ]

    def _checked_keys(
        self, bound: BoundTable, condition: Any, parameters: Mapping[str, Any]
    ) -> list[tuple[Any, ...]]:
        """Lock and check the rows that a condition finds, and return their keys, which fit into memory."""
        at = [bound.names.index(name) for name in bound.key_names]
        return [tuple(row[index] for index in at) for row in self._locked(bound, condition, parameters, None)]

    def _locked(
        self, bound: BoundTable, condition: Any, parameters: Mapping[str, Any], limit: int | None
    ) -> Iterator[Sequence[Any]]:
        """Lock the rows that a condition finds, and yield the covered values of each, checked."""
        query = _whole_rows(bound)
        if condition is not None:
            query = query.where(condition)
        if limit is not None:
            query = query.limit(limit)
        macs = self.macs
        for row in _readable([_whole_check(bound)], super().execute(query, parameters or None)):
            macs.check(bound, row[:-1], row[-1])
            yield row[:-1]

    def _bind(self, bound: BoundTable, keys: Sequence[tuple[Any, ...]]) -> None:
        """Give rows that were written in this transaction the MACs of their present values."""
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            query = unverified(select(*[bound.table.c[name] for name in bound.names]), "to be bound")
            found = super().execute(query.where(_among(bound, chunk))).all()
            bind_rows(super().execute, self.macs, bound, [tuple(row) for row in found])


@lru_cache(maxsize=64)
def _whole_rows(bound: BoundTable) -> Select[Any]:
    """Return the query of the covered columns and the MAC of all rows, which locks them as an update does."""
    columns = [bound.table.c[name] for name in (*bound.names, ROW_MAC)]
    return unverified(
        select(*columns).with_for_update(of=bound.table, key_share=True), "checked by the caller"
    )


def _whole_check(bound: BoundTable) -> RowCheck:
    """Describe the rows of `_whole_rows`."""
    positions = tuple(range(len(bound.names)))
    keys = tuple(bound.names.index(name) for name in bound.key_names)
    return RowCheck(table=bound, positions=positions, mac=len(positions), keys=keys)


def bind_rows(
    execute: Callable[[Any, Any], Any], macs: RowMacs, bound: BoundTable, rows: Sequence[Sequence[Any]]
) -> None:
    """Store the MACs of rows; each has the values of `bound.names`, as they are in the database."""
    statement = update(bound.table).values({ROW_MAC: bindparam("new_mac")})
    for name in bound.key_names:
        statement = statement.where(bound.table.c[name] == bindparam(f"of_{name}"))
    changes = []
    for row in rows:
        values = dict(zip(bound.names, row, strict=True))
        keys = {f"of_{name}": values[name] for name in bound.key_names}
        changes.append({"new_mac": macs.make(bound, values), **keys})
    if changes:
        execute(statement, changes)


def _rows(parameters: Any) -> list[Mapping[str, Any]]:
    """Return the sets of parameters of a statement; one empty set when it has none."""
    if not parameters:
        return [{}]
    return list(parameters) if isinstance(parameters, Sequence) else [parameters]


def _is(bound: BoundTable, key: tuple[Any, ...]) -> Any:
    return _among(bound, [key])


def _among(bound: BoundTable, keys: Sequence[tuple[Any, ...]]) -> Any:
    columns = [bound.table.c[name] for name in bound.key_names]
    if len(columns) == 1:
        return columns[0].in_([key[0] for key in keys])
    return tuple_(*columns).in_(keys)
