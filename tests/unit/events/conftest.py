"""Fixtures: a real database, a domain, and a real HTTP server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from event_peers import DOMAIN_ID, NOON, Peer

from sonant.storage.database.engine import Database
from sonant.storage.database.row_macs import RowMacs
from sonant.storage.repositories.domains import Domain


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    database.migrate()
    database.check_rows_by(RowMacs(bytes(32)))
    yield database
    database.close()


@pytest.fixture
def domain() -> Domain:
    return Domain(
        domain_id=DOMAIN_ID,
        account_id="123456789012",
        region="eu-west-2",
        status="ACTIVE",
        kms_key_arn="arn:aws:kms:eu-west-2:123456789012:key/k",
        data_key_wrapped=b"",
        default_watchlist_id="wwwwwwwwwwwwwwwwwwwwww",
        name_sealed=b"",
        description_sealed=None,
        tags_sealed=b"",
        created_at=NOON,
        updated_at=NOON,
        version=0,
        suspended_at=None,
        update_status=None,
        update_old_key_arn=None,
        update_message=None,
        update_attempts=0,
        update_due_at=None,
    )


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()
