"""Searches the audit trail for records, newest first, file by file from the newest day back."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sonant.audit import chain
from sonant.audit.names import chain_folders

#: Time and id of a record, by which records are in order.
Position = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Which records are looked for. None and empty texts select nothing."""

    account_id: str
    unknown_callers: bool
    """Whether records of callers who could not be identified belong to the result."""
    since: datetime | None = None
    until: datetime | None = None
    operation: str = ""
    principal: str = ""
    """An ARN, an access key id, or a part of either."""
    resource: str = ""
    """A part of a resource's ARN, such as a domain's id."""
    failed: bool = False
    """Only calls that were refused or failed."""

    def has(self, record: dict[str, Any]) -> bool:
        """Return whether a record is looked for. Raises KeyError, TypeError or AttributeError for none."""
        identity, time = record["userIdentity"], record["eventTime"]
        caller = f"{identity.get('arn', '')} {identity.get('accessKeyId', '')}"
        resources = record.get("resources") or ()
        return (
            self._is_of_account(record, resources)
            and (self.since is None or time >= _text(self.since))
            and (self.until is None or time < _text(self.until))
            and (not self.operation or record["eventName"].lower() == self.operation.lower())
            and self.principal in caller
            and (not self.resource or any(self.resource in one["ARN"] for one in resources))
            and (not self.failed or "errorCode" in record)
        )

    def _is_of_account(self, record: dict[str, Any], resources: Any) -> bool:
        account_id = record.get("recipientAccountId")
        if account_id is not None:
            return bool(account_id == self.account_id)
        if resources:
            return any(one.get("accountId") == self.account_id for one in resources)
        return self.unknown_callers


def newest(trail: Path, search: Search, before: Position | None, limit: int) -> list[dict[str, Any]]:
    """Return the newest records that a search has, at most `limit`, before a position. Lines that are no
    records are left out: `verify` reports them."""
    by_day: dict[str, list[Path]] = {}
    for folder in chain_folders(trail):
        for path in chain.files(folder):
            by_day.setdefault(path.stem[9:], []).append(path)
    found: list[dict[str, Any]] = []
    for day in sorted(by_day, reverse=True):
        if len(found) >= limit or (search.since is not None and day < f"{search.since:%Y-%m-%d}"):
            break
        if search.until is not None and day > f"{search.until:%Y-%m-%d}":
            continue
        matching = (one for path in by_day[day] for one in _matching(path, search, before))
        found += heapq.nlargest(limit - len(found), matching, key=position)
    return found


def position(record: dict[str, Any]) -> Position:
    """Return the position of a record."""
    return record["eventTime"], record["eventID"]


def _matching(path: Path, search: Search, before: Position | None) -> Iterator[dict[str, Any]]:
    for line in chain.lines(path):
        try:
            record = json.loads(line)
            if search.has(record) and (before is None or position(record) < before):
                yield record
        except (ValueError, KeyError, TypeError, AttributeError):
            continue


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
