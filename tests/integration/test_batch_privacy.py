"""What lies on the disk: no customer in plain text anywhere, and nothing left of who was forgotten."""

import re
import sqlite3

import pytest
from batch_values import entry
from sqlalchemy import text

from sonant.assembly.installation import DEFAULT_ALIAS
from sonant.errors import AccessDenied, KeyUnusable

SECRETS = {
    "customer": "jane-doe-1980-05-17",
    "other customer": "john-roe-1975-11-02",
    "refused customer": "jill-poe-1990-01-30",
    "bad customer": "jack doe 1960",
    "domain": "Blackwater-Savings",
    "description": "callers of the pension desk",
    "tag": "confidential-merger",
    "job": "enroll-pensioners",
}


def every_byte(testbed):
    """(path, content) of every file of the data folder, the recordings that users put there left out."""
    for path in sorted(testbed.settings.data.rglob("*")):
        if path.is_file() and "calls" not in path.parts:
            yield path, path.read_bytes()


def found_in(testbed, *wanted):
    return [(path.name, item) for path, data in every_byte(testbed) for item in wanted if item in data]


def plain_text_found(testbed):
    """Secrets in any encoding that a text is likely to be written in."""
    return [
        (path.name, name)
        for path, data in every_byte(testbed)
        for name, secret in SECRETS.items()
        for form in (secret.encode(), secret.encode("utf-16-le"), secret.encode().hex().encode())
        if form in data
    ]


def checkpoint(testbed):
    """Bring everything from the write-ahead log into the database and empty the log."""
    connection = sqlite3.connect(testbed.settings.data / "sonant.db")
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    connection.close()
    assert busy == 0
    assert (testbed.settings.data / "sonant.db-wal").stat().st_size == 0


def test_no_customer_and_no_name_stands_anywhere_in_plain_text(own_testbed, caplog, capfd, monkeypatch):
    monkeypatch.setenv("WORKERS", "spawned")  # what a forked one prints is not captured
    testbed = own_testbed
    caplog.set_level("DEBUG", logger="sonant")
    domain_id = testbed.new_domain(
        SECRETS["domain"],
        Description=SECRETS["description"],
        Tags=[{"Key": "project", "Value": SECRETS["tag"]}],
    )
    testbed.call("OptOutSpeaker", DomainId=domain_id, SpeakerId=SECRETS["refused customer"])
    entries = [
        entry("r1", SECRETS["customer"], "s3://calls/english.wav"),
        entry("r2", SECRETS["other customer"], "s3://calls/none.wav"),
        entry("r3", SECRETS["other customer"], "s3://calls/french.wav"),
        entry("r4", SECRETS["refused customer"], "s3://calls/french.wav"),
        entry("r5", SECRETS["bad customer"], "s3://calls/french.wav"),
        entry("r6", SECRETS["customer"], "s3://calls/french.wav"),
    ]
    seen = []
    outcome = testbed.enroll(
        domain_id,
        entries,
        name=SECRETS["job"],
        manifest_key=DEFAULT_ALIAS,
        output_key=DEFAULT_ALIAS,
        during={n: lambda: seen.append(plain_text_found(testbed)) for n in (0, 1, 2, 3)},
    )
    assert outcome.job["JobName"] == SECRETS["job"]
    assert outcome.successes == {"r1": "NEW_ENROLLMENT", "r3": "NEW_ENROLLMENT", "r6": "DUPLICATE_SKIPPED"}
    failed = testbed.enroll(
        domain_id, b'{"x": "%s"' % SECRETS["customer"].encode(), manifest_key=DEFAULT_ALIAS
    )
    assert failed.status == "FAILED"
    testbed.set_speaker_status(domain_id, SECRETS["customer"], "EXPIRED")
    testbed.call("DeleteSpeaker", DomainId=domain_id, SpeakerId=SECRETS["other customer"])
    assert seen == [[]] * 4
    assert plain_text_found(testbed) == []
    checkpoint(testbed)
    assert plain_text_found(testbed) == []
    told = "".join(capfd.readouterr()) + caplog.text
    assert f"job {outcome.job['JobId']}" in told, "the log was looked at"
    assert [name for name, secret in SECRETS.items() if secret in told] == []
    assert not re.search("jane|john|jill|jack", told)


def test_the_search_finds_what_is_there(own_testbed):
    domain_id = own_testbed.new_domain()
    own_testbed.enroll(domain_id, [entry("r1", SECRETS["customer"], "s3://calls/english.wav")])
    assert {name for _, name in plain_text_found(own_testbed)} == {"customer"}
    assert {path for path, _ in plain_text_found(own_testbed)} == {"manifest.json", "manifest.json.out"}


def stored(testbed, domain_id):
    """Everything of one speaker that could help to know the voice or the customer: name -> raw bytes."""
    speaker = testbed.speakers(domain_id)[SECRETS["customer"]]
    with testbed.store.database.read() as connection:
        row = connection.execute(
            text(
                "SELECT s.customer_id_sealed, k.wrapped, v.vector_sealed, v.audio_sealed FROM speakers s "
                "JOIN speaker_keys k USING (speaker_id) JOIN voiceprints v USING (speaker_id) "
                "WHERE speaker_id = :id"
            ),
            {"id": speaker.speaker_id},
        ).one()
    pieces = {
        "customer id, sealed": row.customer_id_sealed,
        "wrapped key": row.wrapped,
        "voiceprint, sealed": row.vector_sealed[:64],
        "end of the voiceprint, sealed": row.vector_sealed[-64:],
        "audio, sealed": row.audio_sealed[:64],
        "audio far in, sealed": row.audio_sealed[40_000:40_064],
    }
    never = {
        "voiceprint": testbed.voiceprints(domain_id, protected=True)[SECRETS["customer"]].tobytes()[:64],
        "audio": testbed.kept_audio(domain_id)[SECRETS["customer"]][1000:1064],
        "customer id": SECRETS["customer"].encode(),
    }
    return pieces, never


@pytest.mark.parametrize("operation", ["DeleteSpeaker", "OptOutSpeaker"])
def test_of_a_speaker_who_is_forgotten_no_byte_is_left(own_testbed, operation):
    testbed = own_testbed
    domain_id = testbed.new_domain()
    testbed.enroll(
        domain_id,
        [
            entry("r1", SECRETS["customer"], "s3://calls/english.wav"),
            entry("r2", SECRETS["other customer"], "s3://calls/french.wav"),
        ],
        manifest_key=DEFAULT_ALIAS,
        output_key=DEFAULT_ALIAS,
    )
    pieces, never = stored(testbed, domain_id)
    checkpoint(testbed)
    database = testbed.settings.data / "sonant.db"
    data = database.read_bytes()
    assert [name for name, piece in pieces.items() if piece not in data] == [], "the search can find it"
    assert found_in(testbed, *never.values()) == []
    testbed.call(operation, DomainId=domain_id, SpeakerId=SECRETS["customer"])
    checkpoint(testbed)
    assert found_in(testbed, *pieces.values()) == []
    assert found_in(testbed, *never.values()) == []
    assert list(testbed.voiceprints(domain_id)) == [SECRETS["other customer"]]
    present = set(testbed.speakers(domain_id))
    assert (SECRETS["customer"] in present) == (operation == "OptOutSpeaker")


def test_of_a_voiceprint_that_was_replaced_no_byte_is_left(own_testbed):
    testbed = own_testbed
    domain_id = testbed.new_domain()
    testbed.enroll(domain_id, [entry("r1", SECRETS["customer"], "s3://calls/english.wav")])
    pieces, _ = stored(testbed, domain_id)
    testbed.enroll(domain_id, [entry("r1", SECRETS["customer"], "s3://calls/french.wav")], action="OVERWRITE")
    checkpoint(testbed)
    old = {name: piece for name, piece in pieces.items() if "voiceprint" in name or "audio" in name}
    assert found_in(testbed, *old.values()) == []


def test_of_a_job_that_ended_no_request_is_left(own_testbed):
    testbed = own_testbed
    domain_id = testbed.new_domain()
    sealed: list[bytes] = []

    def look():
        with testbed.store.database.read() as connection:
            sealed.extend(
                row.request_sealed
                for row in connection.execute(text("SELECT request_sealed FROM job_entries"))
            )

    testbed.enroll(
        domain_id,
        [entry("r1", SECRETS["customer"], "s3://calls/english.wav")],
        during={0: look},
    )
    checkpoint(testbed)
    assert len(sealed) == 1
    assert found_in(testbed, *sealed) == []


def test_after_the_domain_s_key_is_gone_nothing_opens(own_testbed):
    testbed = own_testbed
    key = testbed.store.keys.create("of a domain")
    domain_id = testbed.new_domain(key=key.arn)
    testbed.enroll(domain_id, [entry("r1", SECRETS["customer"], "s3://calls/english.wav")])
    testbed.store.keys.disable(key.arn)
    with pytest.raises(KeyUnusable):
        testbed.voiceprints(domain_id)
    with pytest.raises(AccessDenied):
        testbed.call("DescribeSpeaker", DomainId=domain_id, SpeakerId=SECRETS["customer"])
    testbed.store.keys.enable(key.arn)
    assert list(testbed.voiceprints(domain_id)) == [SECRETS["customer"]]
