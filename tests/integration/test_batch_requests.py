"""Single requests that fail: each with its code and a message that says what is wrong; no other is harmed."""

import pytest
from batch_values import entry

from sonant.settings import MIB, Audio, Enrollment, Quotas

GOOD = entry("good", "customer-good", "s3://calls/english.wav")


def only_error(outcome):
    """The one error of a job whose request `good` succeeded."""
    assert outcome.status == "COMPLETED_WITH_ERRORS"
    assert outcome.successes == {"good": "NEW_ENROLLMENT"}
    ((_, error),) = outcome.errors.items()
    return error


def refused(testbed, *files, speaker_id="customer-bad", **how):
    """What is told about a request for these files, beside a good one."""
    domain_id = testbed.new_domain()
    error = only_error(testbed.enroll(domain_id, [entry("bad", speaker_id, *files), GOOD], **how))
    assert list(testbed.speakers(domain_id)) == ["customer-good"]
    assert list(testbed.voiceprints(domain_id)) == ["customer-good"]
    return error


# --- the entry


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SpeakerId": None}, "SpeakerId is missing"),
        ({"SpeakerId": "two words"}, "SpeakerId must satisfy regular expression pattern"),
        ({"SpeakerId": "id#" + "a" * 22}, "a generated id (id#...) is not supported here"),
        ({"AudioSpecifications": []}, "AudioSpecifications must hold 1 to 10 files, holds 0"),
        (
            {"AudioSpecifications": GOOD["AudioSpecifications"] * 11},
            "AudioSpecifications must hold 1 to 10 files, holds 11",
        ),
        (
            {"AudioSpecifications": [{"S3Uri": "s3://calls/english.wav", "ChannelId": 2}]},
            "AudioSpecifications 1: ChannelId must be a whole number from 0 to 1",
        ),
        (
            {"AudioSpecifications": [{"S3Uri": "s3://calls/english.wav"}]},
            "AudioSpecifications 1: ChannelId is missing",
        ),
        (
            {"AudioSpecifications": [{"S3Uri": "/etc/passwd", "ChannelId": 0}]},
            "AudioSpecifications 1: S3Uri must satisfy regular expression pattern",
        ),
    ],
)
def test_an_entry_with_a_bad_field(testbed, domain, changes, message):
    bad = {**entry("bad", "customer-bad", "s3://calls/english.wav"), **changes}
    code, told = only_error(testbed.enroll(domain, [bad, GOOD]))
    assert code == 400
    assert message in told


def test_entries_without_a_request_id_are_reported_by_their_number(testbed, domain):
    outcome = testbed.enroll(domain, [GOOD, {"SpeakerId": "x"}, 7])
    assert outcome.result["Errors"] == [
        {
            "RequestId": "",
            "ErrorCode": 400,
            "ErrorMessage": "request 2 of the manifest needs a RequestId of 1 to 256 characters",
        },
        {"RequestId": "", "ErrorCode": 400, "ErrorMessage": "request 3 of the manifest is not an object"},
    ]


def test_when_every_request_fails_the_job_is_completed_with_errors(testbed, domain):
    outcome = testbed.enroll(
        domain, [entry("a", "x", "s3://calls/none"), entry("b", "two words", "s3://calls/x")]
    )
    assert outcome.status == "COMPLETED_WITH_ERRORS"
    assert {request: code for request, (code, _) in outcome.errors.items()} == {"a": 404, "b": 400}
    assert outcome.successes == {}


# --- the object


def test_a_missing_object(testbed):
    assert refused(testbed, "s3://calls/never-recorded.wav") == (
        404,
        "s3://calls/never-recorded.wav: there is no such object",
    )


def test_a_missing_bucket(testbed):
    assert refused(testbed, "s3://no-such-bucket/a.wav") == (
        404,
        "s3://no-such-bucket: there is no such bucket",
    )


@pytest.mark.parametrize(
    "uri",
    [
        "s3://calls/../jobs/secret.wav",
        "s3://calls/../../credentials",
        "s3://calls/x/../../../sonant.db",
        "s3://calls//etc/passwd",
        "s3://calls/../../../../../../etc/passwd",
        "s3://calls/%2e%2e/jobs/secret.wav",
        "s3://calls/.",
        "s3://calls/..",
        "s3://calls/./english.wav",
        "s3://calls/english.wav/",
        "s3://calls/english.wav/x",
    ],
)
def test_no_uri_leads_out_of_its_bucket(testbed, calls, uri):
    testbed.put("s3://jobs/secret.wav", calls["english.wav"])
    assert refused(testbed, uri) == (404, f"{uri}: there is no such object")


def test_a_uri_that_names_only_a_bucket_or_a_folder(testbed, calls):
    testbed.put("s3://calls/folder/a.wav", calls["english.wav"])
    assert refused(testbed, "s3://calls") == (400, "s3://calls/: names a bucket, an object is needed")
    assert refused(testbed, "s3://calls/folder") == (404, "s3://calls/folder: there is no such object")


def test_a_uri_longer_than_s3_allows_in_bytes(testbed):
    code, told = refused(testbed, "s3://calls/" + "é" * 600)
    assert (code, told) == (400, "a key in bucket calls has 1200 bytes, at most 1024 are allowed")


def test_a_bucket_folder_that_is_a_symbolic_link_is_not_followed(testbed, tmp_path, calls):
    (tmp_path / "english.wav").write_bytes(calls["english.wav"])
    link = testbed.settings.data / "buckets" / "linked"
    link.symlink_to(tmp_path)
    try:
        code, told = refused(testbed, "s3://linked/english.wav")
    finally:
        link.unlink()
    assert code == 403
    assert told.startswith("s3://linked")
    assert "symbolic link, which is never followed" in told


def test_a_recording_that_is_a_symbolic_link_is_not_followed(testbed):
    link = testbed.settings.data / "buckets" / "calls" / "linked.wav"
    link.symlink_to(testbed.settings.data / "buckets" / "calls" / "english.wav")
    try:
        code, told = refused(testbed, "s3://calls/linked.wav")
    finally:
        link.unlink()
    assert (code, told.partition(":")[0]) == (403, "s3")
    assert "symbolic link" in told


def test_a_file_over_the_limit_is_refused_with_its_size_before_it_is_read(testbed):
    path = testbed.settings.data / "buckets" / "calls" / "huge.wav"
    with path.open("wb") as file:
        file.truncate(20 * MIB + 1)  # sparse: it takes no room
    assert refused(testbed, "s3://calls/huge.wav") == (
        400,
        f"s3://calls/huge.wav: {20 * MIB + 1} bytes, at most {20 * MIB} are read",
    )


def test_a_file_of_exactly_the_limit_is_read(variant, calls):
    size = len(calls["english.wav"])
    assert variant(audio=Audio(max_file_bytes=size)).enroll_one("s3://calls/english.wav") == "NEW_ENROLLMENT"
    code, told = variant(audio=Audio(max_file_bytes=size - 1)).enroll_one("s3://calls/english.wav")
    assert (code, told) == (400, f"s3://calls/english.wav: {size} bytes, at most {size - 1} are read")


# --- rights


def test_no_right_to_read_one_recording(testbed, calls):
    testbed.put("s3://calls/secret/a.wav", calls["french.wav"])
    role = testbed.put_role(
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::calls/secret/*"},
    )
    assert refused(testbed, "s3://calls/secret/a.wav", role=role) == (
        403,
        f"the role {role} has no right s3:GetObject on s3://calls/secret/a.wav",
    )


def test_no_right_to_the_key_of_a_sealed_recording(testbed, calls):
    key = testbed.store.keys.create("of recordings")
    testbed.put("s3://calls/sealed.wav", calls["french.wav"], key.arn)
    role = testbed.put_role(
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": "kms:Decrypt", "Resource": key.arn},
    )
    assert refused(testbed, "s3://calls/sealed.wav", role=role) == (
        403,
        f"s3://calls/sealed.wav: the role {role} has no right kms:Decrypt on {key.arn}",
    )
    assert testbed.enroll_one("s3://calls/sealed.wav") == "NEW_ENROLLMENT"


def test_a_sealed_recording_whose_key_is_disabled(testbed, calls):
    key = testbed.store.keys.create("of recordings")
    testbed.put("s3://calls/sealed.wav", calls["french.wav"], key.arn)
    testbed.store.keys.disable(key.arn)
    assert refused(testbed, "s3://calls/sealed.wav") == (
        403,
        f"s3://calls/sealed.wav: key {key.key_id} is disabled",
    )


def test_a_sealed_recording_that_was_altered(testbed, calls):
    testbed.put("s3://calls/altered.wav", calls["french.wav"], "alias/sonant")
    (path,) = testbed.files_with("altered.wav")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    code, told = refused(testbed, "s3://calls/altered.wav")
    assert code == 400
    assert told.startswith("s3://calls/altered.wav: ")


# --- speech, quota


def test_too_little_speech_is_reported_with_measure_and_limit(testbed):
    code, told = refused(testbed, "s3://calls/english-short.wav")
    assert code == 400
    words = told.split()
    have, need = float(words[3]), float(words[10])
    start = f"not enough speech: {have:.1f} s of net speech, at least {need:.1f} s needed"
    recording = f"s3://calls/english-short.wav channel 0: {have:.1f} s of speech in 8.0 s of audio"
    assert told == f"{start}; {recording}"
    assert 2 < have < 5
    assert need == 6.0


def test_the_default_need_is_thirty_seconds(variant, make_call):
    testbed = variant(enrollment=Enrollment())
    testbed.put("s3://calls/29.wav", make_call("english", 5, net_speech_s=24))
    testbed.put("s3://calls/33.wav", make_call("english", 6, net_speech_s=36))
    code, told = testbed.enroll_one("s3://calls/29.wav")
    assert code == 400
    assert "27.8 s of net speech, at least 30.0 s needed; s3://calls/29.wav channel 0:" in told
    assert testbed.enroll_one("s3://calls/33.wav") == "NEW_ENROLLMENT"


def test_full_domain_refuses_new_speakers_and_serves_old_ones(variant):
    testbed = variant(quotas=Quotas(domains_per_account=1000, speakers_per_domain=2))
    domain_id = testbed.new_domain()
    entries = [
        entry("r1", "customer-1", "s3://calls/english.wav"),
        entry("r2", "customer-2", "s3://calls/french.wav"),
        entry("r3", "customer-3", "s3://calls/italian.wav"),
        entry("r4", "customer-1", "s3://calls/english-again.wav"),
    ]
    outcome = testbed.enroll(domain_id, entries, action="OVERWRITE")
    assert outcome.errors == {"r3": (402, "the domain already has 2 speakers, its quota")}
    assert outcome.successes == {
        "r1": "NEW_ENROLLMENT",
        "r2": "NEW_ENROLLMENT",
        "r4": "ENROLLMENT_OVERWRITE",
    }
    assert set(testbed.voiceprints(domain_id)) == {"customer-1", "customer-2"}


def test_the_quota_counts_speakers_of_every_status(variant):
    testbed = variant(quotas=Quotas(domains_per_account=1000, speakers_per_domain=1))
    domain_id = testbed.new_domain()
    testbed.call("OptOutSpeaker", DomainId=domain_id, SpeakerId="customer-9")
    outcome = testbed.enroll(domain_id, [entry("r1", "customer-1", "s3://calls/english.wav")])
    assert outcome.errors == {"r1": (402, "the domain already has 1 speakers, its quota")}
