"""The last lines of the audit trail's chains: a count that is not beside the files."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, inspect, select, update

from sonant.storage.database.rows import insert_of
from sonant.storage.database.schema import audit_chains
from sonant.storage.times import to_us


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedChain:
    """A chain as it was counted last."""

    chain_id: str
    name: str
    host: str
    sequence: int
    head: str


def record(connection: Connection, key: bytes, chain: RecordedChain, now: datetime) -> None:
    """Record a chain's last line, unless a later one is recorded. `key` is that of the codes of the rows."""
    statement = insert_of(connection.dialect.name)(audit_chains)
    given = statement.excluded
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[audit_chains.c.chain_id],
            set_={name: given[name] for name in ("name", "host", "sequence", "head", "mac", "recorded_at")},
            where=audit_chains.c.sequence < given.sequence,
        ),
        {
            "chain_id": chain.chain_id,
            "name": chain.name,
            "host": chain.host,
            "sequence": chain.sequence,
            "head": chain.head,
            "mac": _mac(key, chain),
            "recorded_at": to_us(now),
        },
    )


def list_recorded(
    connection: Connection, keys: Sequence[bytes]
) -> tuple[Sequence[RecordedChain], Sequence[str]] | None:
    """Return the recorded chains, and the ids of those whose rows were changed by somebody without the keys.

    None for a database of an earlier release, which has no such table.
    """
    if not inspect(connection).has_table(audit_chains.name):
        return None
    found, changed = [], []
    for row in connection.execute(select(audit_chains).order_by(audit_chains.c.chain_id)):
        chain = _chain(row)
        found.append(chain)
        if not any(hmac.compare_digest(row.mac, _mac(key, chain)) for key in keys):
            changed.append(chain.chain_id)
    return found, changed


def renew_codes(connection: Connection, old: bytes, new: bytes) -> int:
    """Give rows codes under another key and return how many. Rows that somebody has changed stay."""
    renewed = 0
    for row in connection.execute(select(audit_chains).with_for_update()).all():
        chain = _chain(row)
        if hmac.compare_digest(row.mac, _mac(old, chain)):
            at_row = audit_chains.c.chain_id == row.chain_id
            connection.execute(update(audit_chains).where(at_row).values(mac=_mac(new, chain)))
            renewed += 1
    return renewed


def _chain(row: Any) -> RecordedChain:
    return RecordedChain(
        chain_id=row.chain_id, name=row.name, host=row.host, sequence=row.sequence, head=row.head
    )


def _mac(key: bytes, chain: RecordedChain) -> bytes:
    facts = "\n".join((chain.chain_id, chain.name, chain.host, str(chain.sequence), chain.head))
    return hmac.digest(key, b"recorded chain " + facts.encode(), "sha256")
