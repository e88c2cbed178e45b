"""Half a surrogate pair in a manifest: the request that holds it is refused, its neighbours are not."""

from __future__ import annotations

import json
from itertools import repeat

import pytest
from counting import CountedBytes
from hypothesis import given
from hypothesis import strategies as st

from sonant.assembly.jobs import manifest_rules
from sonant.jobs import escapes
from sonant.jobs.escapes import NO_CHARACTER, whole_pairs
from sonant.jobs.manifest import BadRequest, EnrollmentRequest, read_manifest
from sonant.settings import Settings

RULES = manifest_rules(Settings())
HIGH, LOW = r"\ud83d", r"\ude00"
NO_TEXT = "holds half a surrogate pair, or another code point that is no character"

#: Pieces of JSON strings, such that every row of them is one.
PIECES = st.sampled_from(
    [HIGH, LOW, r"\uD800", r"\uDFFF", r"\\", r"\n", r"\/", r"\u0041", r"\uffee", "a", "u", "d83d", "é", "😀"]
)


def manifest(*requests):
    """The requests as they stand, each a text of JSON."""
    return f'{{"Version":"1.0","SpeakerEnrollmentRequests":[{",".join(requests)}]}}'.encode()


def request(request_id="r", speaker_id="s", uri="s3://calls/a.wav"):
    return (
        f'{{"RequestId":"{request_id}","SpeakerId":"{speaker_id}",'
        f'"AudioSpecifications":[{{"S3Uri":"{uri}","ChannelId":0}}]}}'
    )


def read(data):
    return list(read_manifest([data], RULES))


@pytest.mark.parametrize("half", [HIGH, LOW, HIGH + r"\u0041", LOW + HIGH, "\uffff"])
def test_a_half_pair_is_reported_by_the_field_that_holds_it(half):
    entries = read(
        manifest(
            request("before"),
            request("wrong-" + half),
            request("speaker", speaker_id="ada" + half),
            request("uri", uri="s3://calls/" + half),
            request("after"),
        )
    )
    assert [(entry.request_id, entry.message) for entry in entries[1:4]] == [
        ("", f"the RequestId of request 2 {NO_TEXT}"),
        ("speaker", f"SpeakerId {NO_TEXT}"),
        ("uri", f"AudioSpecifications 1: S3Uri {NO_TEXT}"),
    ]
    assert all(isinstance(entry, BadRequest) for entry in entries[1:4])
    assert [entry.request_id for entry in entries if isinstance(entry, EnrollmentRequest)] == [
        "before",
        "after",
    ]


def test_whole_pairs_and_escaped_backslashes_are_read_as_they_stand():
    (one,) = read(manifest(request(HIGH + LOW + r"\\ud83d", uri=r"s3:\/\/calls\/\ud83d\ude00.wav")))
    assert (one.request_id, one.audio[0].s3_uri) == (r"😀\ud83d", "s3://calls/😀.wav")


@given(pieces=st.lists(PIECES, max_size=12), size=st.integers(1, 13))
def test_text_cut_anywhere_equals_pythons_except_for_lone_surrogates(pieces, size):
    data = f'"{"".join(pieces)}"'.encode()
    whole = b"".join(whole_pairs(data[at : at + size] for at in range(0, len(data), size)))
    python = json.loads(data)
    assert json.loads(whole) == "".join(NO_CHARACTER if "\ud800" <= c <= "\udfff" else c for c in python)
    assert len(whole) == len(data)


@given(data=st.binary(max_size=60), size=st.integers(1, 13))
def test_bytes_without_a_unicode_escape_pass_as_they_are(data, size):
    data = data.replace(b"u", b"v")
    chunks = (data[at : at + size] for at in range(0, len(data), size))
    assert b"".join(whole_pairs(chunks)) == data


@pytest.mark.parametrize("piece", [rb"\ud800", rb"\udc00", rb"\ud83d\ude00", rb"\\", rb"\uz", b"a\\ud800"])
def test_endless_escapes_are_read_in_linear_time(piece, monkeypatch):
    looked_at = 0

    class Counting:
        def __init__(self, pattern):
            self._pattern = pattern

        def match(self, data, at):
            nonlocal looked_at
            found = self._pattern.match(data, at)
            looked_at += 1 if found is None else 1 + found.end() - at
            return found

    for name in ("_WHOLE", "_UNDECIDED", "_HALVES"):
        monkeypatch.setattr(escapes, name, Counting(getattr(escapes, name)))
    CountedBytes.copied = 0
    chunk = CountedBytes(piece * (65536 // len(piece)))
    taken = given = 0
    chunks = repeat(chunk, 16)
    for part in whole_pairs(chunks):
        given += len(part)
        taken = len(chunk) * (16 - chunks.__length_hint__())
        assert taken - given <= 11, "more is held back than an unfinished pair"
    assert given == taken == 16 * len(chunk)
    assert CountedBytes.copied <= 2 * taken
    assert looked_at <= 2 * taken
