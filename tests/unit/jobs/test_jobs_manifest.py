"""The manifest of an enrollment job: what is read from it, and what is wrong with each field."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonant.assembly.jobs import manifest_rules
from sonant.jobs.faults import JobFault
from sonant.jobs.manifest import AudioFile, BadRequest, EnrollmentRequest, parser_name, read_manifest
from sonant.settings import Quotas, Settings

RULES = manifest_rules(Settings(quotas=Quotas(speakers_per_enrollment_job=5)))
URI_RULE = r"must satisfy regular expression pattern: ^s3://[a-z0-9][\.\-a-z0-9]{1,61}[a-z0-9](/.*)?$"
FILE = {"S3Uri": "s3://calls/a.wav", "ChannelId": 0}
ENTRY = {"RequestId": "r1", "SpeakerId": "customer-1", "AudioSpecifications": [FILE]}


def manifest(*entries, **changes):
    return {"Version": "1.0", "SpeakerEnrollmentRequests": list(entries), **changes}


def read(document):
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return list(read_manifest([data], RULES))


def fault(document):
    with pytest.raises(JobFault) as failed:
        read(document)
    return failed.value.code, failed.value.message


def wrong(**changes):
    """The message for an entry with these fields changed; `...` takes one away."""
    entry = {name: value for name, value in {**ENTRY, **changes}.items() if value is not ...}
    (found,) = read(manifest(entry))
    assert isinstance(found, BadRequest), found
    assert found.request_id == "r1"
    return found.message


def wrong_file(**changes):
    item = {name: value for name, value in {**FILE, **changes}.items() if value is not ...}
    return wrong(AudioSpecifications=[FILE, item]).removeprefix("AudioSpecifications 2: ")


# --- what is read


def test_a_request_is_read_with_its_files_in_order():
    second = {"S3Uri": "s3://calls/b.wav", "ChannelId": 1}
    assert read(manifest({**ENTRY, "AudioSpecifications": [FILE, second]})) == [
        EnrollmentRequest(
            request_id="r1",
            speaker_id="customer-1",
            audio=(
                AudioFile(s3_uri="s3://calls/a.wav", channel=0),
                AudioFile(s3_uri="s3://calls/b.wav", channel=1),
            ),
        )
    ]


def test_both_spellings_of_the_uri_are_read():
    (entry,) = read(
        manifest({**ENTRY, "AudioSpecifications": [{"S3URI": "s3://calls/a.wav", "ChannelId": 1}]})
    )
    assert entry.audio == (AudioFile(s3_uri="s3://calls/a.wav", channel=1),)


def test_requests_come_in_the_order_of_the_file_good_and_bad():
    entries = [{**ENTRY, "RequestId": f"r{n}", "SpeakerId": "a b" if n % 2 else "ab"} for n in range(5)]
    found = read(manifest(*entries))
    assert [entry.request_id for entry in found] == ["r0", "r1", "r2", "r3", "r4"]
    assert [type(entry) for entry in found] == [EnrollmentRequest, BadRequest] * 2 + [EnrollmentRequest]


def test_version_behind_the_list_is_read_and_unknown_fields_are_ignored():
    document = {
        "Comment": {"by": ["somebody", None, 1.5, True]},
        "SpeakerEnrollmentRequests": [{**ENTRY, "Note": [{"any": "thing"}]}],
        "Version": "1.0",
    }
    assert [entry.request_id for entry in read(document)] == ["r1"]


def test_a_byte_order_mark_is_dropped_however_the_stream_is_cut():
    data = b"\xef\xbb\xbf" + json.dumps(manifest(ENTRY)).encode()
    for cuts in ([data], [data[:1], data[1:2], data[2:]], [data[:2], b"", data[2:]], [data[:3], data[3:]]):
        assert [entry.request_id for entry in read_manifest(cuts, RULES)] == ["r1"]


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
entries = st.fixed_dictionaries(
    {},
    optional={
        "SpeakerId": st.sampled_from(["customer-1", "a b", "id#" + "x" * 22]) | values,
        "AudioSpecifications": st.lists(st.just(FILE) | values, max_size=4) | values,
        "Note": values,
    },
)


@given(st.data())
def test_a_stream_gives_the_same_requests_however_it_is_cut(data):
    found = data.draw(st.lists(entries, min_size=1, max_size=5))
    numbered = [{"RequestId": f"r{n}é", **entry} for n, entry in enumerate(found)]
    whole = json.dumps(manifest(*numbered), ensure_ascii=data.draw(st.booleans())).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    at_once = list(read_manifest([whole], RULES))
    assert list(read_manifest(pieces, RULES)) == at_once
    assert list(read_manifest((bytes([byte]) for byte in whole), RULES)) == at_once
    assert [entry.request_id for entry in at_once] == [entry["RequestId"] for entry in numbered]


# --- what is wrong with the file


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "must be a JSON object, is a list: put its entries under SpeakerEnrollmentRequests"),
        ("manifest", "must be a JSON object, is a string"),
        ({}, 'must have "Version": "1.0"'),
        (manifest(ENTRY, Version="2.0"), 'must have "Version": "1.0"'),
        (manifest(ENTRY, Version=1.0), 'must have "Version": "1.0"'),
        (manifest(ENTRY, Version=None), 'must have "Version": "1.0"'),
        ({"SpeakerEnrollmentRequests": [ENTRY]}, 'must have "Version": "1.0"'),
        ({"Version": "1.0"}, "has no list SpeakerEnrollmentRequests"),
        ({"Version": "1.0", "speakerEnrollmentRequests": [ENTRY]}, "has no list SpeakerEnrollmentRequests"),
        (
            {"Version": "1.0", "FraudsterRegistrationRequests": [ENTRY]},
            "has no list SpeakerEnrollmentRequests",
        ),
        (manifest(SpeakerEnrollmentRequests={}), "SpeakerEnrollmentRequests must be a list"),
        (manifest(SpeakerEnrollmentRequests=None), "SpeakerEnrollmentRequests must be a list"),
        (manifest(), "holds no requests"),
        (
            manifest(ENTRY, {**ENTRY, "RequestId": "r2"}, ENTRY),
            "uses one RequestId for requests 1 and 3; each must have its own",
        ),
        (
            manifest({"RequestId": "r1"}, ENTRY),
            "uses one RequestId for requests 1 and 2; each must have its own",
        ),
        (
            b'{"Version": "1.0", "Version": "1.0", "SpeakerEnrollmentRequests": []}',
            "holds the field 'Version' twice",
        ),
        (
            b'{"SpeakerEnrollmentRequests": [], "Version": "1.0", "SpeakerEnrollmentRequests": []}',
            "holds the field 'SpeakerEnrollmentRequests' twice",
        ),
    ],
)
def test_a_file_of_the_wrong_shape_fails_the_job(document, message):
    assert fault(document) == (400, f"the manifest {message}")


def test_more_requests_than_the_quota_fail_the_job_with_402():
    many = [{**ENTRY, "RequestId": f"r{n}"} for n in range(6)]
    assert len(read(manifest(*many[:5]))) == 5
    assert fault(manifest(*many)) == (402, "the manifest has more than 5 requests, the quota of a job")


# --- what is wrong with one request


@pytest.mark.parametrize("value", [None, 1, True, "text", [ENTRY]])
def test_a_request_that_is_no_object_is_reported_by_its_number(value):
    assert read(manifest(ENTRY, value))[1] == BadRequest(
        request_id="", message="request 2 of the manifest is not an object"
    )


@pytest.mark.parametrize("value", [..., None, 1, "", "x" * 257, ["r1"]])
def test_a_request_without_a_usable_request_id_is_reported_by_its_number(value):
    entry = {name: part for name, part in {**ENTRY, "RequestId": value}.items() if part is not ...}
    assert read(manifest(entry)) == [
        BadRequest(
            request_id="", message="request 1 of the manifest needs a RequestId of 1 to 256 characters"
        )
    ]


def test_requests_without_a_request_id_are_no_duplicates():
    assert [entry.request_id for entry in read(manifest({}, {}, ENTRY))] == ["", "", "r1"]


def test_the_longest_request_id_is_kept_whole():
    (entry,) = read(manifest({**ENTRY, "RequestId": "é" * 256}))
    assert entry.request_id == "é" * 256


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (..., "SpeakerId is missing"),
        (None, "SpeakerId is missing"),
        (7, "SpeakerId must be a string"),
        (["customer-1"], "SpeakerId must be a string"),
        ("", "SpeakerId must have length greater than or equal to 1"),
        ("x" * 257, "SpeakerId must have length less than or equal to 256"),
        (
            "two words",
            "SpeakerId must satisfy regular expression pattern: ^[a-zA-Z0-9][a-zA-Z0-9_-]*$",
        ),
        ("-x", "SpeakerId must satisfy regular expression pattern: ^[a-zA-Z0-9][a-zA-Z0-9_-]*$"),
        (
            "customer-1\n",
            "SpeakerId must satisfy regular expression pattern: ^[a-zA-Z0-9][a-zA-Z0-9_-]*$",
        ),
        (
            "id#AbCdEfGhIjKlMnOpQrStUv",
            "SpeakerId must be the customer's own id; a generated id (id#...) is not supported here",
        ),
    ],
)
def test_a_bad_speaker_id(value, message):
    assert wrong(SpeakerId=value) == message


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (..., "AudioSpecifications is missing"),
        (None, "AudioSpecifications is missing"),
        (FILE, "AudioSpecifications must be a list"),
        ([], "AudioSpecifications must hold 1 to 10 files, holds 0"),
        ([FILE] * 11, "AudioSpecifications must hold 1 to 10 files, holds 11"),
        ([FILE] * 1000, "AudioSpecifications must hold 1 to 10 files, holds 1000"),
        ([FILE, "s3://calls/b.wav"], "AudioSpecifications 2: must be an object"),
    ],
)
def test_a_bad_list_of_files(value, message):
    assert wrong(AudioSpecifications=value) == message


def test_ten_files_are_accepted():
    (entry,) = read(manifest({**ENTRY, "AudioSpecifications": [FILE] * 10}))
    assert len(entry.audio) == 10


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (..., "S3Uri is missing"),
        (None, "S3Uri is missing"),
        (1, "S3Uri must be a string"),
        ("", f"S3Uri {URI_RULE}"),
        ("https://calls/a.wav", f"S3Uri {URI_RULE}"),
        ("s3://UPPER/a.wav", f"S3Uri {URI_RULE}"),
        ("s3://calls/" + "x" * 1014, "S3Uri must have length less than or equal to 1024"),
    ],
)
def test_a_bad_uri(value, message):
    assert wrong_file(S3Uri=value) == message


@pytest.mark.parametrize(
    ("value", "message"),
    [(..., "ChannelId is missing"), (None, "ChannelId is missing")]
    + [
        (value, "ChannelId must be a whole number from 0 to 1")
        for value in (2, -1, 0.0, 1.0, 0.5, 1e300, 2**62, "0", True, [0])
    ],
)
def test_a_bad_channel(value, message):
    assert wrong_file(ChannelId=value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"RequestId":"r1","SpeakerId":"a","SpeakerId":"b","AudioSpecifications":[]}',
            "the field 'SpeakerId' stands twice in the request",
        ),
        (
            '{"RequestId":"r1","RequestId":"r2","SpeakerId":"a","AudioSpecifications":[]}',
            "the field 'RequestId' stands twice in the request",
        ),
        (
            '{"RequestId":"r1","SpeakerId":"a","AudioSpecifications":'
            '[{"S3Uri":"s3://calls/a","ChannelId":0,"ChannelId":1}]}',
            "AudioSpecifications 1: the field 'ChannelId' stands twice",
        ),
    ],
)
def test_a_field_that_stands_twice_in_a_request_makes_it_bad(text, message):
    data = b'{"Version":"1.0","SpeakerEnrollmentRequests":[' + text.encode() + b"]}"
    assert read(data) == [BadRequest(request_id="r1", message=message)]


def test_one_bad_request_leaves_the_others_alone():
    good = {**ENTRY, "RequestId": "r2"}
    assert [type(entry) for entry in read(manifest({**ENTRY, "SpeakerId": 1}, good))] == [
        BadRequest,
        EnrollmentRequest,
    ]


def test_the_parser_is_the_fast_one():
    assert parser_name().endswith("yajl2_c")
