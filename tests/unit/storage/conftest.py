"""Fixtures: a key store, a bucket, a database, and a manual clock."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sonant.storage.database.engine import Database
from sonant.storage.database.row_macs import RowMacs
from sonant.storage.keys.stores.local import LocalKeyStore
from sonant.storage.objects.stores.local import LocalObjectStore

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class MovedClock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return MovedClock()


@pytest.fixture
def open_keys(tmp_path, clock):
    """Opens the folder of keys, as another process would, with what is to be different."""
    known = {"region": "eu-west-1", "account": "123456789012", "clock": clock}
    return lambda **changed: LocalKeyStore(tmp_path / "keys", **{**known, **changed})


@pytest.fixture
def keys(tmp_path):
    """A key store with the key alias/sonant, on the real clock."""
    made = LocalKeyStore(
        tmp_path / "keys", region="us-east-1", account="0" * 12, clock=lambda: datetime.now(UTC)
    )
    made.create(alias="alias/sonant")
    return made


@pytest.fixture
def store(tmp_path, keys):
    """An object store with the bucket `calls`."""
    made = LocalObjectStore(tmp_path / "buckets", keys)
    made.create_bucket("calls")
    return made


@pytest.fixture
def bucket(tmp_path, store):
    """The folder of the bucket `calls`."""
    return tmp_path / "buckets" / "calls"


@pytest.fixture
def database(database_url):
    """An empty database of this release's schema."""
    made = Database(database_url)
    made.migrate()
    made.check_rows_by(RowMacs(bytes(32)))
    yield made
    made.close()
