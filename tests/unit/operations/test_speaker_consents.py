"""Consents of speakers: recorded, listed, expired, withdrawn, and required before an enrollment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text
from voices_testbed import enroll, strangers

from sonant.errors import Conflict, ResourceNotFound, Validation
from sonant.storage.database.schema import speaker_consents

TERMS = {"TextHash": "ab" * 32, "TextVersion": "3", "Purpose": "verification", "Channel": "letter"}


@pytest.fixture
def domain_id(testbed):
    return testbed.new_domain()


def give(testbed, domain_id, speaker_id="ada-0", **more):
    return testbed.call("PutConsent", DomainId=domain_id, SpeakerId=speaker_id, **TERMS, **more)["Consent"]


def described(testbed, domain_id, speaker_id="ada-0"):
    return testbed.call("DescribeConsent", DomainId=domain_id, SpeakerId=speaker_id)["Consent"]


def history(testbed, domain_id, speaker_id="ada-0"):
    found = testbed.call("ListConsents", DomainId=domain_id, SpeakerId=speaker_id)["Consents"]
    return [one["Status"] for one in found]


def test_consent_is_recorded_with_its_terms_and_who_recorded_it(testbed, domain_id):
    until = testbed.clock() + timedelta(days=30)
    given = give(testbed, domain_id, Evidence="form 17", ExpiresAt=until)
    assert {name: given[name] for name in TERMS} == TERMS
    assert (given["Evidence"], given["Status"], given["ExpiresAt"]) == ("form 17", "VALID", until)
    assert given["RecordedBy"].startswith("arn:aws:iam::")
    assert described(testbed, domain_id) == given


def test_consent_of_either_id_is_the_same(testbed, domain_id):
    (generated,) = enroll(testbed, domain_id, strangers(1), prefix="ada")
    given = give(testbed, domain_id)
    assert described(testbed, domain_id, generated) == given


def test_valid_consent_counts_before_a_newer_one_that_has_expired(testbed, domain_id):
    first = give(testbed, domain_id)
    testbed.clock.advance(days=1)
    give(testbed, domain_id, ExpiresAt=testbed.clock() + timedelta(days=1))
    testbed.clock.advance(days=2)
    assert described(testbed, domain_id)["ConsentId"] == first["ConsentId"]
    assert history(testbed, domain_id) == ["EXPIRED", "VALID"]


def test_consent_of_impossible_times_is_refused(testbed, domain_id):
    now = testbed.clock()
    with pytest.raises(Validation):
        give(testbed, domain_id, GivenAt=now + timedelta(hours=1))
    with pytest.raises(Validation):
        give(testbed, domain_id, GivenAt=now, ExpiresAt=now)
    with pytest.raises(Validation, match="before 1970"):
        give(testbed, domain_id, GivenAt=datetime(1969, 12, 31, tzinfo=UTC))


@pytest.mark.parametrize("operation", ["WithdrawConsent", "OptOutSpeaker"])
def test_withdrawal_and_opt_out_end_consents_and_delete_the_voice(testbed, domain_id, operation):
    enroll(testbed, domain_id, strangers(1), prefix="ada")
    give(testbed, domain_id)
    testbed.call(operation, DomainId=domain_id, SpeakerId="ada-0")
    assert history(testbed, domain_id) == ["WITHDRAWN"]
    exported = testbed.call("ExportSpeaker", DomainId=domain_id, SpeakerId="ada-0")
    assert (exported["Speaker"]["Status"], exported["Voiceprint"]) == ("OPTED_OUT", None)
    assert testbed.call("DescribeDeletionReceipt", DomainId=domain_id, SpeakerId="ada-0")["Receipt"]
    with pytest.raises(Conflict):
        give(testbed, domain_id)


def test_withdrawal_by_somebody_unknown_opts_out(testbed, domain_id):
    give(testbed, domain_id, "bob")
    answer = testbed.call("WithdrawConsent", DomainId=domain_id, SpeakerId="bob")
    assert answer["Withdrawn"] == 1
    speaker = testbed.call("DescribeSpeaker", DomainId=domain_id, SpeakerId="bob")["Speaker"]
    assert speaker["Status"] == "OPTED_OUT"


def test_deleted_speaker_leaves_no_consents(testbed, domain_id):
    enroll(testbed, domain_id, strangers(1), prefix="ada")
    give(testbed, domain_id)
    testbed.call("DeleteSpeaker", DomainId=domain_id, SpeakerId="ada-0")
    with pytest.raises(ResourceNotFound):
        described(testbed, domain_id)
    with testbed.store.database.read() as connection:
        assert connection.execute(select(speaker_consents)).all() == []


def test_enrollment_in_a_call_needs_the_consent_that_is_required(testbed, domain_id):
    rules = testbed.call("PutPrivacyRules", DomainId=domain_id, ConsentRequired=True)["PrivacyRules"]
    assert testbed.call("DescribePrivacyRules", DomainId=domain_id)["PrivacyRules"] == rules
    testbed.call("StartSession", DomainId=domain_id, SessionName="call", SpeakerId="bob")
    with pytest.raises(Conflict, match="requires a consent"):
        testbed.call("EnrollBySession", DomainId=domain_id, SessionNameOrId="call")
    give(testbed, domain_id, "bob")
    testbed.call("EnrollBySession", DomainId=domain_id, SessionNameOrId="call")


def test_consent_that_something_else_has_prolonged_does_not_count(testbed, domain_id):
    testbed.call("PutPrivacyRules", DomainId=domain_id, ConsentRequired=True)
    testbed.call("StartSession", DomainId=domain_id, SessionName="call", SpeakerId="bob")
    give(testbed, domain_id, "bob", ExpiresAt=testbed.clock() + timedelta(days=1))
    testbed.clock.advance(hours=25)
    with testbed.store.database.engine.begin() as connection:
        connection.execute(text("UPDATE speaker_consents SET expires_at = NULL"))
    with pytest.raises(Conflict, match="requires a consent"):
        testbed.call("EnrollBySession", DomainId=domain_id, SessionNameOrId="call")
