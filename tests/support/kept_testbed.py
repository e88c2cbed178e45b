"""A testbed whose clock is moved by hand: what is put into it and what an operator finds in its files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from made_samples import made_sample
from sqlalchemy import func, select

from sonant.ids import new_generated_id
from sonant.storage.crypto.vault import open_vault
from sonant.storage.database.schema import metadata, speaker_keys, voiceprints
from sonant.storage.repositories import domains, speakers, watchlists

START = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)
VECTOR = np.frombuffer(bytes(range(64)) * 16, "<f4")


@dataclass
class MovedClock:
    now: datetime = START

    def __call__(self) -> datetime:
        return self.now


def vault_of(testbed, connection, domain_id):
    domain = domains.find_by_id(connection, domain_id)
    assert domain is not None
    return open_vault(testbed.store.keys, domain_id, domain.arn, domain.data_key_wrapped)


def enroll(testbed, domain_id, *customers):
    """Enrolled speakers without a recording; their generated ids."""
    made = []
    with testbed.store.database.write() as connection:
        vault = vault_of(testbed, connection, domain_id)
        for customer in customers:
            speaker_id = new_generated_id()
            seal = speakers.add(
                connection,
                vault,
                domain_id=domain_id,
                speaker_id=speaker_id,
                customer_id=customer,
                status="PENDING",
                now=testbed.service.clock(),
            )
            sample = made_sample(VECTOR, net_speech_s=6.0)
            speakers.enroll(connection, seal, speaker_id, sample, testbed.service.clock(), audio=b"fLaC")
            made.append(speaker_id)
    return made


def add_fraudster(testbed, domain_id):
    fraudster_id = new_generated_id()
    with testbed.store.database.write() as connection:
        domain = domains.find_by_id(connection, domain_id)
        assert domain is not None
        _, wrapped = vault_of(testbed, connection, domain_id).new_speaker(fraudster_id)
        watchlists.add_fraudster(
            connection,
            fraudster_id=fraudster_id,
            domain_id=domain_id,
            wrapped=wrapped,
            watchlist_id=domain.default_watchlist_id,
            now=testbed.service.clock(),
        )
    return fraudster_id, wrapped


def secrets_of(testbed, speaker_id):
    """The wrapped key and the sealed voiceprint, as they stand in the database now."""
    with testbed.store.database.read() as connection:
        wrapped = connection.execute(
            select(speaker_keys.c.wrapped).where(speaker_keys.c.speaker_id == speaker_id)
        ).scalar_one()
        vector, audio = connection.execute(
            select(voiceprints.c.vector_sealed, voiceprints.c.audio_sealed).where(
                voiceprints.c.speaker_id == speaker_id
            )
        ).one()
    return wrapped, vector, audio


def files_with(testbed, *wanted):
    """Names of the data folder's files that hold any of some bytes."""
    return [
        path.name
        for path in sorted(testbed.settings.data.rglob("*"))
        if path.is_file() and any(one in path.read_bytes() for one in wanted)
    ]


#: Tables whose rows hang on no domain.
OF_THE_INSTALLATION = ("principals", "access_keys", "consents", "client_tokens", "counters", "key_checks")


def rows_left(testbed):
    """Rows by table, of those that hang on domains."""
    with testbed.store.database.read() as connection:
        counts = {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in metadata.sorted_tables
            if table.name
            not in ("principals", "access_keys", "consents", "client_tokens", "counters", "key_checks")
        }
    return {name: count for name, count in counts.items() if count}
