"""What becomes of speakers: new ones, known ones, refused ones, and the same one twice."""

import numpy as np
import pytest
from batch_values import entry

from sonant.errors import Conflict

ENGLISH, AGAIN, FRENCH = "s3://calls/english.wav", "s3://calls/english-again.wav", "s3://calls/french.wav"
SHORT = "s3://calls/english-short.wav"
OPTED_OUT = (409, "You cannot request an enrollment for an opted out speaker.")


def one(testbed, domain, *files, **how):
    """Enroll `customer-1` from these files: status or (code, message), and the generated id."""
    outcome = testbed.enroll(domain, [entry("r1", "customer-1", *files)], **how)
    if outcome.status == "COMPLETED":
        return outcome.successes["r1"], outcome.generated_id("r1")
    return outcome.errors["r1"]


def same(one, other):
    return float(one @ other) > 0.9999


def test_a_new_speaker_is_enrolled_with_a_generated_id(testbed, domain):
    status, generated_id = one(testbed, domain, ENGLISH)
    assert status == "NEW_ENROLLMENT"
    assert generated_id.startswith("id#")
    assert len(generated_id) == 25
    speaker = testbed.speakers(domain)["customer-1"]
    assert (speaker.status, speaker.speaker_id) == ("ENROLLED", generated_id)
    assert speaker.last_accessed_at is not None
    assert list(testbed.voiceprints(domain)) == ["customer-1"]


def test_different_voices_have_different_voiceprints(testbed, domain):
    testbed.enroll(
        domain,
        [entry("r1", "a", ENGLISH), entry("r2", "b", AGAIN), entry("r3", "c", FRENCH)],
    )
    found = testbed.voiceprints(domain)
    assert float(found["a"] @ found["b"]) > float(found["a"] @ found["c"]) + 0.05


def test_skip_leaves_an_enrolled_speaker_as_it_is_and_opens_no_audio(testbed, domain):
    first = one(testbed, domain, ENGLISH)
    before, speaker = (
        testbed.voiceprints(domain)["customer-1"],
        testbed.speakers(domain)["customer-1"],
    )
    assert one(testbed, domain, "s3://calls/never-recorded.wav") == ("DUPLICATE_SKIPPED", first[1])
    assert np.array_equal(testbed.voiceprints(domain)["customer-1"], before)
    assert testbed.speakers(domain)["customer-1"] == speaker


def test_skip_is_the_default(testbed, domain):
    one(testbed, domain, ENGLISH)
    assert one(testbed, domain, FRENCH)[0] == "DUPLICATE_SKIPPED"
    assert one(testbed, domain, FRENCH, action="SKIP")[0] == "DUPLICATE_SKIPPED"


def test_overwrite_replaces_the_voiceprint_and_keeps_the_id(testbed, domain):
    first = one(testbed, domain, ENGLISH)
    before = testbed.voiceprints(domain)["customer-1"]
    assert one(testbed, domain, FRENCH, action="OVERWRITE") == ("ENROLLMENT_OVERWRITE", first[1])
    after = testbed.voiceprints(domain)["customer-1"]
    assert not same(before, after)
    assert one(testbed, domain, ENGLISH, action="OVERWRITE") == ("ENROLLMENT_OVERWRITE", first[1])
    assert same(before, testbed.voiceprints(domain)["customer-1"])


def test_overwrite_enrolls_a_new_speaker_too(testbed, domain):
    assert one(testbed, domain, ENGLISH, action="OVERWRITE")[0] == "NEW_ENROLLMENT"


@pytest.mark.parametrize(
    "files", [[SHORT], ["s3://calls/never-recorded.wav"], [SHORT, "s3://calls/none.wav"]]
)
def test_the_old_voiceprint_stays_when_the_new_audio_fails(testbed, domain, files):
    one(testbed, domain, ENGLISH)
    before, speaker = (
        testbed.voiceprints(domain)["customer-1"],
        testbed.speakers(domain)["customer-1"],
    )
    assert one(testbed, domain, *files, action="OVERWRITE")[0] in (400, 404)
    assert np.array_equal(testbed.voiceprints(domain)["customer-1"], before)
    assert testbed.speakers(domain)["customer-1"] == speaker


@pytest.mark.parametrize("action", ["SKIP", "OVERWRITE"])
@pytest.mark.parametrize("status", ["EXPIRED", "PENDING"])
def test_expired_and_pending_speakers_are_enrolled_anew_under_their_id(testbed, domain, status, action):
    first = one(testbed, domain, ENGLISH)
    testbed.set_speaker_status(domain, "customer-1", status)
    before = testbed.voiceprints(domain)["customer-1"]
    assert one(testbed, domain, FRENCH, action=action) == ("NEW_ENROLLMENT", first[1])
    assert testbed.speakers(domain)["customer-1"].status == "ENROLLED"
    assert not same(testbed.voiceprints(domain)["customer-1"], before)


@pytest.mark.parametrize("action", ["SKIP", "OVERWRITE"])
def test_an_expired_speaker_stays_so_when_its_audio_fails(testbed, domain, action):
    one(testbed, domain, ENGLISH)
    testbed.set_speaker_status(domain, "customer-1", "EXPIRED")
    assert one(testbed, domain, SHORT, action=action)[0] == 400
    assert testbed.speakers(domain)["customer-1"].status == "EXPIRED"


@pytest.mark.parametrize("action", ["SKIP", "OVERWRITE"])
@pytest.mark.parametrize("known", [True, False])
def test_a_speaker_who_opted_out_is_refused_and_opens_no_audio(testbed, domain, known, action):
    if known:
        one(testbed, domain, ENGLISH)
    testbed.call("OptOutSpeaker", DomainId=domain, SpeakerId="customer-1")
    assert one(testbed, domain, "s3://calls/never-recorded.wav", action=action) == OPTED_OUT
    assert testbed.speakers(domain)["customer-1"].status == "OPTED_OUT"
    assert testbed.voiceprints(domain) == {}


# --- while the job runs


def test_speaker_who_opts_out_during_processing_is_not_enrolled(testbed, domain):
    entries = [entry("r1", "customer-1", ENGLISH), entry("r2", "customer-2", FRENCH)]
    outcome = testbed.enroll(
        domain,
        entries,
        during={0: lambda: testbed.call("OptOutSpeaker", DomainId=domain, SpeakerId="customer-1")},
    )
    assert outcome.errors == {"r1": OPTED_OUT}
    assert outcome.successes == {"r2": "NEW_ENROLLMENT"}
    assert list(testbed.voiceprints(domain)) == ["customer-2"]


def test_speaker_who_opts_out_during_an_overwrite_keeps_nothing(testbed, domain):
    one(testbed, domain, ENGLISH)
    outcome = testbed.enroll(
        domain,
        [entry("r1", "customer-1", FRENCH)],
        action="OVERWRITE",
        during={1: lambda: testbed.call("OptOutSpeaker", DomainId=domain, SpeakerId="customer-1")},
    )
    assert outcome.errors == {"r1": OPTED_OUT}
    assert testbed.voiceprints(domain) == {}


DELETED_SINCE = (
    "the speaker was deleted after the job was submitted; submit the request again to enroll the speaker"
)


def test_speaker_deleted_while_the_audio_is_processed_is_not_enrolled(testbed, domain):
    one(testbed, domain, ENGLISH)
    outcome = testbed.enroll(
        domain,
        [entry("r1", "customer-1", FRENCH)],
        action="OVERWRITE",
        during={0: lambda: testbed.call("DeleteSpeaker", DomainId=domain, SpeakerId="customer-1")},
    )
    assert outcome.errors == {"r1": (409, DELETED_SINCE)}


def test_speaker_deleted_before_being_skipped_is_refused_for_a_retry(testbed, domain):
    """Its audio was not listened to, because it was enrolled; now there is nothing to skip."""
    testbed.enroll(domain, [entry("r1", "customer-2", FRENCH)])
    entries = [entry("r1", "customer-1", ENGLISH), entry("r2", "customer-2", FRENCH)]
    outcome = testbed.enroll(
        domain,
        entries,
        during={1: lambda: testbed.call("DeleteSpeaker", DomainId=domain, SpeakerId="customer-2")},
    )
    assert outcome.successes == {"r1": "NEW_ENROLLMENT"}
    assert outcome.errors == {"r2": (409, DELETED_SINCE)}


def test_domain_that_requires_consents_enrolls_only_who_has_one(testbed, domain):
    testbed.call("PutPrivacyRules", DomainId=domain, ConsentRequired=True)
    terms = {"TextHash": "0" * 64, "TextVersion": "1", "Purpose": "verification", "Channel": "letter"}
    testbed.call("PutConsent", DomainId=domain, SpeakerId="customer-1", **terms)
    entries = [entry("r1", "customer-1", ENGLISH), entry("r2", "customer-2", FRENCH)]
    outcome = testbed.enroll(domain, entries)
    assert outcome.successes == {"r1": "NEW_ENROLLMENT"}
    assert outcome.errors == {"r2": (409, Conflict.TEXTS["CONSENT_MISSING"])}
    assert list(testbed.voiceprints(domain)) == ["customer-1"]


# --- the same speaker twice


def test_the_same_speaker_twice_is_treated_in_order_and_skipped(testbed, domain):
    entries = [
        entry("r1", "customer-1", SHORT),
        entry("r2", "customer-1", ENGLISH),
        entry("r3", "customer-1", FRENCH),
        entry("r4", "customer-2", FRENCH),
        entry("r5", "customer-1", "s3://calls/never-recorded.wav"),
    ]
    outcome = testbed.enroll(domain, entries)
    assert list(outcome.errors) == ["r1"]
    assert outcome.successes == {
        "r2": "NEW_ENROLLMENT",
        "r3": "DUPLICATE_SKIPPED",
        "r4": "NEW_ENROLLMENT",
        "r5": "DUPLICATE_SKIPPED",
    }
    assert list(outcome.successes) == ["r2", "r3", "r4", "r5"]
    ids = {request: outcome.generated_id(request) for request in outcome.successes}
    assert ids["r2"] == ids["r3"] == ids["r5"] != ids["r4"]


def test_the_same_speaker_twice_with_overwrite_ends_with_the_last_voice(testbed, domain):
    entries = [
        entry("r1", "customer-1", ENGLISH),
        entry("r2", "customer-1", FRENCH),
        entry("r3", "x", FRENCH),
    ]
    # One recording under two ids is what the replay guard is there for; here it only shows whose voice it is.
    outcome = testbed.enroll(domain, entries, action="OVERWRITE", fraud={"FraudDetectionAction": "IGNORE"})
    assert outcome.successes == {"r1": "NEW_ENROLLMENT", "r2": "ENROLLMENT_OVERWRITE", "r3": "NEW_ENROLLMENT"}
    assert outcome.generated_id("r1") == outcome.generated_id("r2")
    found = testbed.voiceprints(domain)
    assert same(found["customer-1"], found["x"])


def test_ids_that_differ_only_in_letter_case_are_different_speakers(testbed, domain):
    outcome = testbed.enroll(domain, [entry("r1", "Customer", ENGLISH), entry("r2", "customer", FRENCH)])
    assert set(outcome.successes.values()) == {"NEW_ENROLLMENT"}
    assert outcome.generated_id("r1") != outcome.generated_id("r2")


def test_the_same_customer_id_in_two_domains_is_two_speakers(testbed, domain):
    first = one(testbed, domain, ENGLISH)
    second = one(testbed, testbed.new_domain(), ENGLISH)
    assert first[0] == second[0] == "NEW_ENROLLMENT"
    assert first[1] != second[1]


@pytest.mark.parametrize("enrolled", [True, False], ids=["enrolled", "pending"])
def test_job_does_not_enroll_a_speaker_deleted_after_its_submission(testbed, domain, enrolled):
    if enrolled:
        one(testbed, domain, ENGLISH)
    else:
        testbed.call("OptOutSpeaker", DomainId=domain, SpeakerId="customer-1")
    job_id = testbed.start(domain, [entry("r1", "customer-1", ENGLISH)], action="OVERWRITE")
    testbed.call("DeleteSpeaker", DomainId=domain, SpeakerId="customer-1")
    testbed.run()
    code, message = testbed.outcome(domain, job_id).errors["r1"]
    assert (code, message.partition(";")[0]) == (
        409,
        "the speaker was deleted after the job was submitted",
    )
    assert testbed.speakers(domain) == {}
    assert one(testbed, domain, ENGLISH)[0] == "NEW_ENROLLMENT"
