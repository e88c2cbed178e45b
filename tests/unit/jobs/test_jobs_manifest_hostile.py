"""Manifests made to do harm: each ends soon, in little memory, with one sentence that quotes no customer."""

import json
import tracemalloc
from itertools import chain, repeat

import pytest

from sonant.assembly.jobs import manifest_rules
from sonant.jobs.faults import JobFault
from sonant.jobs.manifest import BadRequest, EnrollmentRequest, read_manifest
from sonant.settings import Jobs, Quotas, Settings

MIB = 1024 * 1024
RULES = manifest_rules(Settings())
#: ijson parses 64 KiB at a time; that many small events at once are the most that is ever held.
EVENTS_OF_A_CHUNK = 8 * MIB
#: Nothing that is refused at its beginning needs more: one chunk, and what stands before it.
BEGINNING = 65536 + 1024
HEAD = b'{"Version":"1.0","SpeakerEnrollmentRequests":['
NOT_JSON = (400, "the manifest is not valid JSON in UTF-8: at byte ")


def flood(piece, total=64 * MIB):
    """The same piece again and again, in chunks of about 64 KiB, `total` bytes at least."""
    chunk = piece * (65536 // len(piece) + 1)
    return repeat(chunk, total // len(chunk) + 1)


class Counted:
    """Chunks, and how many bytes of them have been taken."""

    def __init__(self, chunks):
        self._chunks, self.taken = iter(chunks), 0

    def __iter__(self):
        return self

    def __next__(self):
        chunk = next(self._chunks)
        self.taken += len(chunk)
        return chunk


def outcome(chunks, rules=RULES):
    """(code, message), how many bytes were taken, and the most memory that was in use, in bytes."""
    chunks = Counted(chunks)
    tracemalloc.start()
    try:
        with pytest.raises(JobFault) as failed:
            for _ in read_manifest(chunks, rules):
                pass
        return (failed.value.code, failed.value.message), chunks.taken, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def message(data):
    return outcome([data])[0]


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (
            lambda: flood(b"["),
            "must be a JSON object, is a list: put its entries under SpeakerEnrollmentRequests",
        ),
        (lambda: chain([b'{"x":'], flood(b"[")), "is nested deeper than 16 levels"),
        (lambda: chain([b'{"x":'], flood(b'{"a":')), "is nested deeper than 16 levels"),
        (lambda: chain([HEAD], flood(b"[")), "is nested deeper than 16 levels"),
        (lambda: chain([HEAD + b'{"AudioSpecifications":'], flood(b"[")), "is nested deeper than 16 levels"),
    ],
    ids=["top", "unknown field", "objects", "list of requests", "list of files"],
)
def test_64_mib_of_nesting_is_refused_at_its_beginning(chunks, expected):
    told, taken, peak = outcome(chunks())
    assert told == (400, f"the manifest {expected}")
    assert taken <= BEGINNING
    assert peak < EVENTS_OF_A_CHUNK


@pytest.mark.parametrize(
    "start",
    [b'{"x":[', HEAD + b'{"x":[', HEAD + b'{"AudioSpecifications":['],
    ids=["unknown field", "unknown field of a request", "list of files"],
)
@pytest.mark.parametrize("piece", [b"{},", b"1,", b'"",'])
def test_64_mib_of_small_values_are_refused_at_their_start(start, piece):
    told, taken, peak = outcome(chain([start], flood(piece)))
    assert told == (400, "the manifest holds more than 10000 fields and values in one place")
    assert taken <= BEGINNING
    assert peak < EVENTS_OF_A_CHUNK


def test_64_mib_of_unknown_fields_are_refused_at_their_beginning():
    told, taken, peak = outcome(chain([b"{"], flood(b'"a":0,')))
    assert told == (400, "the manifest holds more than 10000 fields and values in one place")
    assert taken <= BEGINNING
    assert peak < EVENTS_OF_A_CHUNK


@pytest.mark.slow
def test_many_swollen_requests_together_are_refused():
    entry = b'{"RequestId":"r%d","x":[' + b",".join([b"{}"] * 4000) + b"]},"
    told, taken, _ = outcome(chain([HEAD], (entry.replace(b"%d", b"%d" % n) for n in range(10_000))))
    assert told == (400, "the manifest holds far more fields and values than its requests need")
    assert taken < 4 * MIB, "of 120"


def test_one_endless_string_ends_at_the_size_limit():
    rules = manifest_rules(Settings(jobs=Jobs(max_manifest_bytes=8 * MIB)))
    told, taken, peak = outcome(chain([HEAD + b'{"RequestId":"'], flood(b"x", 10**12)), rules)
    assert told == (400, f"the manifest is larger than {8 * MIB} bytes")
    assert taken < 8 * MIB + BEGINNING
    assert peak < MIB


def test_an_endless_stream_of_spaces_ends_at_the_size_limit():
    told, taken, peak = outcome(chain([b"{"], flood(b" ", 10**12)))
    assert told == (400, f"the manifest is larger than {64 * MIB} bytes")
    assert taken < 64 * MIB + BEGINNING
    assert peak < MIB


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"\xef\xbb\xbf",
        b"{",
        b'{"Version":"1.0"',
        b"{'Version':'1.0'}",
        b'{"Version":"1.0",}',
        b'{"Version":NaN}',
        b'{"Version":Infinity}',
        b'{"Version":01}',
        b'{"Version":"1.0" /* now */}',
        b'{"Version":"\x00"}',
        b"\x00" * 100,
        b'{"Version":"caf\xe9"}',
        b'{"Version":"\xff\xfe"}',
        b'{"Version":"\xc0\xaf"}',
        b'{"Version":"\xed\xa0\x80"}',
        json.dumps({"Version": "1.0"}).encode("utf-16"),
        b"RequestId,SpeakerId\nr1,customer-1\n",
    ],
)
def test_what_is_not_json_in_utf_8(data):
    code, told = message(data)
    assert (code, told[: len(NOT_JSON[1])]) == NOT_JSON


@pytest.mark.parametrize("tail", [b"x", b"{}", b"]", b"\xff", b"\x00"])
def test_something_behind_the_end(tail):
    entry = b'{"RequestId":"r1"}'
    code, told = message(HEAD + entry + b"]}" + tail)
    assert code == 400
    assert told.startswith(("the manifest has something behind its end: at byte 66 ", NOT_JSON[1] + "66 "))


def test_white_space_behind_the_end_is_nothing():
    found = list(read_manifest([HEAD + b'{"RequestId":"r1"}]}' + b" \r\n\t"], RULES))
    assert [entry.request_id for entry in found] == ["r1"]


@pytest.mark.parametrize(
    "number",
    [b"9" * 19, b"9" * 5000, b"-" + b"9" * 100_000, b"1e999999999", b"-1E+400"],
    ids=["64 bits", "5,000 digits", "100,000 digits", "exponent", "below"],
)
@pytest.mark.parametrize("place", [b'{"Version":"1.0","x":%s}', HEAD + b'{"ChannelId":%s}]}'])
def test_a_number_beyond_64_bits_fails_the_file_and_nothing_else(number, place):
    told, _, peak = outcome([place.replace(b"%s", number)])
    assert (told[0], told[1][: len(NOT_JSON[1])]) == NOT_JSON
    assert "a number of more than 64 bits" in told[1]
    assert peak < MIB, "it is refused before it becomes a number"


def test_a_number_with_very_many_decimals_is_only_a_wrong_channel():
    item = b'{"S3Uri":"s3://calls/a","ChannelId":0.' + b"1" * 100_000 + b"}"
    entry = b'{"RequestId":"r1","SpeakerId":"a","AudioSpecifications":[' + item + b"]}"
    assert list(read_manifest([HEAD + entry + b"]}"], RULES)) == [
        BadRequest(
            request_id="r1",
            message="AudioSpecifications 1: ChannelId must be a whole number from 0 to 1",
        )
    ]


def test_nesting_up_to_the_limit_is_read():
    entry = b'{"RequestId":"r1","x":' + b"[" * 13 + b"]" * 13 + b"}"
    assert len(list(read_manifest([HEAD + entry + b"]}"], RULES))) == 1
    assert message(HEAD + entry.replace(b"[]", b"[[]]") + b"]}")[1].endswith("nested deeper than 16 levels")


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b'{"RequestId":"r1","SpeakerId":"jane-doe-1980" oops',
        HEAD + b'{"RequestId":"jane-doe-1980"},{"RequestId":"jane-doe-1980"}]}',
        HEAD + b'{"RequestId":"r1","SpeakerId":"jane-doe-1980\xff"}]}',
    ],
)
def test_no_message_quotes_an_id_of_the_file(data):
    assert "jane" not in message(data)[1]


def test_no_message_of_a_request_quotes_its_ids():
    entry = {"RequestId": "r1", "SpeakerId": "jane doe 1980", "AudioSpecifications": []}
    data = json.dumps({"Version": "1.0", "SpeakerEnrollmentRequests": [entry]}).encode()
    (found,) = read_manifest([data], RULES)
    assert isinstance(found, BadRequest)
    assert "jane" not in found.message


ENTRY = (
    b'{"RequestId":%s,"SpeakerId":"customer","AudioSpecifications":[{"S3Uri":"s3://calls/a","ChannelId":0}]}'
)


def peak_over(count, request_id):
    """Read `count` requests: how many of each kind, and the most memory in use, in bytes."""
    rules = manifest_rules(Settings(quotas=Quotas(speakers_per_enrollment_job=count)))
    kinds = {EnrollmentRequest: 0, BadRequest: 0}
    requests = (ENTRY % request_id(number) + b"," for number in range(count - 1))
    tracemalloc.start()
    try:
        for entry in read_manifest(chain([HEAD], requests, [ENTRY % request_id(count) + b"]}"]), rules):
            kinds[type(entry)] += 1
        return kinds, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_memory_is_flat_over_200_000_requests():
    kinds, peak = peak_over(200_000, lambda _number: b"0")  # no usable id: nothing is kept
    assert kinds == {EnrollmentRequest: 0, BadRequest: 200_000}
    assert peak < 200_000


@pytest.mark.slow
def test_of_a_request_that_was_read_only_a_digest_of_its_id_is_kept():
    kinds, peak = peak_over(20_000, lambda number: b'"%d%s"' % (number, b"x" * 200))
    assert kinds == {EnrollmentRequest: 20_000, BadRequest: 0}
    assert peak < 200 * 20_000
