"""Keyset paging: a page starts after the position of an item, not after a number of items.

A listing neither skips nor repeats an item when others are added or removed between its pages.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, or_

#: (created at in microseconds, id) of the last item of a page.
Position = tuple[int, str]


def page_of(
    query: Select[Any],
    created_at: ColumnElement[int],
    identifier: ColumnElement[str],
    after: Position | None,
    limit: int,
    newest_first: bool = False,
) -> Select[Any]:
    """Return the query for one page: oldest or newest first, ties by id; at most `limit` after the position
    `after`."""
    if newest_first:
        if after is not None:
            query = query.where(created_at <= after[0], or_(created_at < after[0], identifier < after[1]))
        return query.order_by(created_at.desc(), identifier.desc()).limit(limit)
    if after is not None:
        # The first condition lets the index start at the page, however far behind that is.
        query = query.where(created_at >= after[0], or_(created_at > after[0], identifier > after[1]))
    return query.order_by(created_at, identifier).limit(limit)
