"""An installation with an audit trail, and what somebody with access to its files may do to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from event_peers import NOON
from sqlalchemy import delete
from sqlite_template import put_tables

from sonant.assembly import audit_trail
from sonant.assembly.installation import Store, open_store
from sonant.audit import chain
from sonant.audit.chain_keys import RootKey
from sonant.audit.record import AuditedOperation, Record
from sonant.audit.trail import Trail
from sonant.settings import Audit, Settings
from sonant.storage.database.schema import audit_chains

READ = AuditedOperation(name="DescribeSpeaker", read_only=True, request=dict, response=dict)
WRITE = AuditedOperation(name="OptOutSpeaker", read_only=False, request=dict, response=dict)


def call(number: int = 0, operation: AuditedOperation = WRITE, **changes: Any) -> Record:
    """A call of Ann's."""
    values: dict[str, Any] = {
        "operation": operation,
        "time": NOON,
        "request_id": f"request-{number}",
        "source_ip": "192.0.2.7",
        "headers": [],
        "principal_arn": "arn:aws:iam::123456789012:user/ann",
        "account_id": "123456789012",
        "access_key_id": "AKIDEXAMPLE",
        "parameters": {"DomainId": "d"},
        "response": None,
        "error": None,
    }
    return Record(**{**values, **changes})


@dataclass(frozen=True)
class Installation:
    """An opened installation with its trail's folder."""

    store: Store

    @property
    def folder(self) -> Path:
        return self.store.settings.data / "audit"

    @property
    def keys(self) -> Path:
        return self.store.settings.data / "audit-keys"

    def files(self) -> list[Path]:
        return chain.files(self.folder)

    @contextmanager
    def trail(self) -> Iterator[Trail]:
        """The trail, as while a service runs."""
        trail, close = audit_trail.open_trail(self.store)
        assert trail is not None
        try:
            yield trail
        finally:
            close()

    def run(self, calls: int, first: int = 0) -> None:
        """Run a service for so many calls."""
        with self.trail() as trail:
            for number in range(first, first + calls):
                trail.add(call(number))

    def reasons(self, *kept: RootKey, expected: str = "") -> list[str]:
        """The names of the faults that `audit verify` finds."""
        report = audit_trail.verify(self.store.settings, kept, self.store, expected=frozenset((expected,)))
        return [fault.reason.value for one in report.reports for fault in one.faults]

    def forget_in_database(self) -> None:
        with self.store.database.write() as connection:
            connection.execute(delete(audit_chains))


@contextmanager
def installation(
    data: Path, clock: Callable[[], Any] = lambda: NOON, **settings: Any
) -> Iterator[Installation]:
    """An installation whose audit trail has small files."""
    new = not (data / "keys").exists()
    if new:
        put_tables(data / "sonant.db")
    chosen = Settings(data=data, audit=Audit(**{"max_file_bytes": 4000, "heads_s": 3600.0, **settings}))
    store = open_store(chosen, create=new, clock=clock)
    try:
        yield Installation(store)
    finally:
        store.database.close()


def rechain(folder: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Change records and compute all hashes anew, as anybody can who has read how."""
    files = chain.files(folder)
    records = change([json.loads(line) for path in files for line in path.read_bytes().splitlines()])
    head, lines = chain.BEGINNING, []
    for record in records:
        mac = record.pop("mac", None)
        record.pop("hash"), record.pop("previousHash")
        line, head = chain.seal(record, head)
        if mac is not None:
            line = line[:-3] + b'","mac":"' + mac.encode() + b'"}\n'
        lines.append(line)
    for path in files[1:]:
        path.unlink()
    files[0].write_bytes(b"".join(lines))
    assert chain.verify(folder).broken is None, "the hashes alone show nothing"
