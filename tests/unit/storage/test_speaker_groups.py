"""Speakers of a group are found and enrolled as single ones are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from made_samples import made_sample
from sqlalchemy import select, update

from sonant.errors import IntegrityFault
from sonant.jobs.speaker_lookup import SpeakerLookup
from sonant.storage.crypto.vault import Vault
from sonant.storage.database import schema
from sonant.storage.database.bound_connection import unverified
from sonant.storage.repositories import domains, erasure, speaker_groups, speakers
from sonant.storage.repositories.speaker_groups import NewSpeaker

VAULT = Vault("d", bytes(32))
NOW = datetime(2026, 3, 1, 12, 10, 30, tzinfo=UTC)


def sample(number):
    return made_sample(np.eye(8, dtype=np.float32)[number % 8], model_id="m", snr_db=20.0)


@pytest.fixture
def connection(database):
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
            now=NOW,
        )
        yield connection


def enroll(connection, numbers, audio=None):
    new = [
        NewSpeaker(
            speaker_id=f"id#{n}",
            customer_id=f"c{n}",
            customer_id_hash=VAULT.lookup(f"c{n}"),
            sample=sample(n),
            audio=audio,
        )
        for n in numbers
    ]
    return speaker_groups.enroll_new(connection, VAULT, "d", new, NOW)


def hashes(*numbers):
    return [VAULT.lookup(f"c{n}") for n in numbers]


def test_a_group_of_speakers_is_enrolled_as_single_ones_are(connection):
    seals = enroll(connection, range(300), audio=b"flac")
    assert len(seals) == 300
    assert speakers.count(connection, "d") == 300
    for number in (0, 7, 299):
        found = speakers.find(connection, VAULT, "d", f"c{number}")
        assert found is not None
        assert (found.speaker_id, found.status) == (f"id#{number}", "ENROLLED")
        stored = speakers.load_voiceprint(connection, VAULT, found)
        assert stored is not None
        assert stored.audio == b"flac"
        assert stored.created_at == NOW
        assert stored.sample.quality == sample(number).quality
    enroll(connection, range(300, 302))
    assert speakers.count(connection, "d") == 302


def test_its_rows_have_what_the_rows_of_single_ones_have(connection):
    """All columns but sealed ones, MACs and ids."""
    enroll(connection, [1])
    seal = speakers.add(
        connection,
        VAULT,
        domain_id="d",
        speaker_id="id#2",
        customer_id="c2",
        status="PENDING",
        now=NOW,
    )
    speakers.enroll(connection, seal, "id#2", sample(2), NOW)
    for table in (schema.speakers, schema.voiceprints, schema.speaker_keys):
        own = {"speaker_id", "customer_id_hash", "row_mac"}
        plain = [column for column in table.c if column.name not in own and "sealed" not in column.name]
        plain = [column for column in plain if column.name != "wrapped"]
        first, second = (
            connection.execute(
                unverified(select(*plain, table.c.row_mac.is_not(None)), "compared").where(
                    table.c.speaker_id == speaker_id
                )
            ).one()
            for speaker_id in ("id#1", "id#2")
        )
        assert tuple(first) == tuple(second)


def test_statuses_of_a_group_are_those_of_single_speakers(connection):
    enroll(connection, range(4))
    speakers.add(
        connection, VAULT, domain_id="d", speaker_id="id#p", customer_id="c4", status="PENDING", now=NOW
    )
    speakers.opt_out(connection, VAULT, "d", "id#1", NOW)
    speakers.delete_speaker(connection, VAULT, "d", "id#2", NOW)
    erasure.remember(connection, "d", VAULT.lookup("c5"), "OPTED_OUT", NOW)
    wanted = hashes(*range(7))
    known = SpeakerLookup(connection, "d", wanted)
    found = {one: known.status(one) for one in wanted}
    assert found == {one: speakers.find_status(connection, "d", one) for one in wanted}
    assert sorted(status.status for status in found.values() if status is not None) == [
        "ENROLLED",
        "ENROLLED",
        "OPTED_OUT",
        "OPTED_OUT",
        "PENDING",
    ]


def test_speakers_and_erasures_of_a_group_are_those_of_single_ones(connection):
    enroll(connection, range(3))
    speakers.delete_speaker(connection, VAULT, "d", "id#2", NOW + timedelta(minutes=1))
    known = SpeakerLookup(connection, "d", hashes(*range(4)))
    for number, one in enumerate(hashes(*range(4))):
        assert known.speaker(one) == speakers.find(connection, VAULT, "d", f"c{number}")
        assert known.erased(one) == erasure.find_erased(connection, "d", one)


def test_a_changed_row_hides_no_other_speaker_of_the_group(connection):
    enroll(connection, range(3))
    forged = update(schema.speakers).where(schema.speakers.c.speaker_id == "id#1").values(status="OPTED_OUT")
    connection.execute(unverified(forged, "an attack"))
    known = SpeakerLookup(connection, "d", hashes(*range(3)))
    first, second, third = hashes(0, 1, 2)
    for look in (known.status, known.speaker):
        assert look(first) is not None
        assert look(third) is not None
        with pytest.raises(IntegrityFault):
            look(second)


def test_nothing_is_asked_for_an_empty_group(connection):
    assert speaker_groups.find_statuses(connection, "d", []) == {}
    assert speaker_groups.find_speakers(connection, "d", []) == {}
    assert speaker_groups.enroll_new(connection, VAULT, "d", [], NOW) == []
    assert speakers.count(connection, "d") == 0
