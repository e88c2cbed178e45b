"""A changed row is answered as an internal failure, and reported: once, in the log, a metric and an event."""

from __future__ import annotations

import json
import logging

import pytest
from operations_testbed import MovedClock, Operations
from sqlalchemy import select, text
from sqlite_template import put_tables

from sonant.assembly.integrity_reports import AGAIN_S, IntegrityReporter
from sonant.assembly.service import credential_finder
from sonant.errors import IntegrityFault
from sonant.gateway.models import load_models
from sonant.gateway.server import Gateway
from sonant.gateway.signature import Verifier
from sonant.gateway.throttle import Throttle
from sonant.iam import ALLOW_ALL
from sonant.operations import OPERATIONS
from sonant.operations.service import Caller
from sonant.settings import Events, Settings
from sonant.storage.database.schema import events
from sonant.storage.repositories import access, counters

USER = "arn:aws:iam::000000000000:user/ann"


@pytest.fixture
def testbed(tmp_path):
    put_tables(tmp_path / "data" / "sonant.db")
    made = Operations(Settings(data=tmp_path / "data", events=Events(sinks="file")), MovedClock())
    yield made
    made.close()


@pytest.fixture
def seconds(testbed):
    """The reporter's clock, and the reporter in its place."""
    now_s = [0.0]
    testbed.store.database.report_faults_to(IntegrityReporter(testbed.store, lambda: now_s[0]))
    return now_s


@pytest.fixture
def domain_id(testbed):
    """A domain with an opted-out speaker whose row says otherwise."""
    made = testbed.new_domain()
    testbed.call("OptOutSpeaker", DomainId=made, SpeakerId="ada")
    with testbed.store.database.write() as connection:
        connection.execute(text("UPDATE speakers SET status = 'ENROLLED'"))
    return made


def describe(testbed, domain_id):
    """The body of the answer that a caller gets."""
    with testbed.store.database.write() as connection:
        access.put_principal(connection, USER, "0" * 12, [ALLOW_ALL], testbed.clock())
        principal = access.find_principal(connection, USER)
    assert principal is not None
    find, region = credential_finder(testbed.store), testbed.settings.region
    gateway = Gateway(
        load_models(),
        OPERATIONS,
        testbed.service,
        Verifier(regions=[region], service="voiceid", skew_s=300.0, find=find),
        Throttle({}, lambda: 0.0),
        testbed.settings.gateway,
    )
    try:
        return gateway.call_internal(
            Caller(principal=principal, region=region),
            "AKIA",
            "DescribeSpeaker",
            {"DomainId": domain_id, "SpeakerId": "ada"},
            headers=[],
            source_ip="127.0.0.1",
            secure=False,
        )
    finally:
        gateway.close()


def stored_events(testbed):
    with testbed.store.database.read() as connection:
        found = [json.loads(one) for one in connection.execute(select(events.c.document)).scalars()]
    return [one for one in found if one["detail-type"] == "Sonant Integrity Fault"]


def counted(testbed):
    with testbed.store.database.read() as connection:
        return counters.read(connection).get((counters.INTEGRITY_FAULTS, "speakers"))


def test_caller_gets_an_internal_failure_that_names_nothing(testbed, domain_id, caplog):
    caplog.set_level(logging.ERROR)
    assert json.loads(describe(testbed, domain_id)) == {
        "__type": "com.amazonaws.voiceid#InternalServerException",
        "Message": "The request failed due to an unknown error on the server side.",
    }
    (record,) = [one for one in caplog.records if "integrity fault" in one.getMessage()][:1]
    assert record.exc_info is None
    assert "Traceback" not in caplog.text
    assert "ada" not in caplog.text


def test_row_is_reported_once_an_hour(testbed, seconds, domain_id):
    for now_s, reports in ((0.0, 1), (AGAIN_S - 1, 1), (AGAIN_S, 2)):
        seconds[0] = now_s
        with pytest.raises(IntegrityFault):
            testbed.call("DescribeSpeaker", DomainId=domain_id, SpeakerId="ada")
        assert (counted(testbed), len(stored_events(testbed))) == (reports, reports)


def test_event_names_the_row_and_its_domain(testbed, seconds, domain_id):
    with pytest.raises(IntegrityFault) as fault:
        testbed.call("DescribeSpeaker", DomainId=domain_id, SpeakerId="ada")
    (event,) = stored_events(testbed)
    assert event["detail"]["row"] == {"key": fault.value.key, "table": "speakers"}
    assert event["detail"]["domainId"] == domain_id
    assert event["resources"][0].endswith(domain_id)


def test_event_of_a_row_below_a_speaker_names_the_domain_too(testbed, seconds, domain_id):
    with testbed.store.database.read() as connection:
        key = connection.execute(text("SELECT speaker_id FROM speaker_keys")).scalar_one()
    IntegrityReporter(testbed.store)(IntegrityFault("speaker_keys", key, "does not match its MAC"))
    (event,) = stored_events(testbed)
    assert event["detail"]["domainId"] == domain_id


def test_event_of_a_user_has_no_domain(testbed, seconds, domain_id):
    with testbed.store.database.write() as connection:
        connection.execute(text('UPDATE principals SET tags = \'{"team": "fraud"}\''))
    with pytest.raises(IntegrityFault), testbed.store.database.read() as connection:
        access.find_principal(connection, access.list_principals(connection)[0])
    (event,) = stored_events(testbed)
    assert (event["detail"]["domainId"], event["resources"]) == (None, [])
    assert (event["detail"]["row"]["table"], event["account"]) == ("principals", "0" * 12)
