"""Reads and writes of speakers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from made_samples import made_sample

from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import domains, speakers

VAULT = Vault("d", bytes(32))
CREATED = datetime(2026, 3, 1, 12, 10, 30, tzinfo=UTC)
SAMPLE = made_sample([1.0], highpass_300hz=False)


@pytest.fixture
def connection(database):
    """A domain `d` with the speaker `ada`, who is not enrolled."""
    with database.write() as connection:
        domains.create(
            connection,
            VAULT,
            domain_id="d",
            account_id="0" * 12,
            region="us-east-1",
            name="calls",
            description=None,
            tags={},
            kms_key_arn="k",
            data_key_wrapped=b"w",
            watchlist_id="default",
            now=CREATED,
        )
        speakers.add(
            connection,
            VAULT,
            domain_id="d",
            speaker_id="id#1",
            customer_id="ada",
            status="PENDING",
            now=CREATED,
        )
        yield connection


def ada(connection):
    return speakers.find(connection, VAULT, "d", "ada")


def enroll(connection, moment):
    speakers.enroll(connection, ada(connection).seal(VAULT), "id#1", SAMPLE, moment)


def test_a_speaker_who_was_never_enrolled_has_no_last_access(connection):
    assert ada(connection).last_accessed_at is None


@pytest.mark.parametrize("minutes", [0, 20, 49])
def test_last_access_in_the_hour_of_creation_is_not_before_it(connection, minutes):
    enroll(connection, CREATED + timedelta(minutes=minutes))
    assert ada(connection).last_accessed_at == CREATED
    (listed,) = speakers.page(connection, "d", None, 10)
    assert listed.last_accessed_at == CREATED


def test_last_access_is_precise_to_the_hour(connection):
    enroll(connection, CREATED)
    speakers.set_last_accessed(connection, "id#1", CREATED + timedelta(hours=1, minutes=5))
    assert ada(connection).last_accessed_at == datetime(2026, 3, 1, 13, tzinfo=UTC)
