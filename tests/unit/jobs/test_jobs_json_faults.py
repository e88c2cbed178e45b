"""A manifest that is not JSON: the message gives the place and the cause, and quotes no customer."""

from __future__ import annotations

import gzip
import json

import pytest

from sonant.assembly.jobs import manifest_rules
from sonant.jobs.faults import JobFault
from sonant.jobs.manifest import read_manifest
from sonant.settings import Settings

RULES = manifest_rules(Settings())


def entry(number):
    audio = [{"S3Uri": f"s3://calls/{number}.wav", "ChannelId": 0}]
    return {"RequestId": f"r{number}", "SpeakerId": f"secret-{number}", "AudioSpecifications": audio}


#: Three requests, one a line: line 1 is the head, request n stands on line n + 1.
GOOD = (
    b'{"Version":"1.0","SpeakerEnrollmentRequests":[\n'
    + b",\n".join(json.dumps(entry(number)).encode() for number in (1, 2, 3))
    + b"\n]}"
)


def fault(data, block=None):
    """The message for a manifest that comes in blocks of so many bytes."""
    blocks = [data] if block is None else [data[at : at + block] for at in range(0, len(data), block)]
    with pytest.raises(JobFault) as failed:
        list(read_manifest(blocks, RULES))
    assert failed.value.code == 400
    assert "secret" not in failed.value.message, "customers' ids are not quoted"
    return failed.value.message


def changed(old, new, count=1):
    data = GOOD.replace(old, new, count)
    assert data != GOOD
    return data


@pytest.mark.parametrize(
    ("data", "byte", "line", "cause"),
    [
        (changed(b"}]}\n]}", b"}]},\n]}"), -2, "5, request 3", "a comma before ]: remove the comma"),
        (changed(b'"ChannelId": 0}', b'"ChannelId": 0,}'), b",}", "2, request 1", "a comma before }"),
        (changed(b"},\n", b"}\n"), b'{"RequestId": "r2"', "3, request 1", "no comma or colon between two"),
        (changed(b'"r2", ', b'"r2" '), b'"SpeakerId": "secret-2"', "3, request 2", "no comma or colon"),
        (changed(b": 0", b": '0'"), b"'0'", "2, request 1", "a single quotation mark"),
        (changed(b'"r2"', b"\xe2\x80\x9cr2\xe2\x80\x9d"), b"\xe2\x80\x9cr2", "3, request 2", "a typographic"),
        (changed(b'"r1"', b'"r\n1"'), b'\n1"', "2, request 1", "a line break or another control character"),
        (changed(b'"r1"', b'"r\\1"'), b'1", "Sp', "2, request 1", "a backslash before a character"),
        (changed(b'"r1"', b'"r\xe9"'), b"\xe9", "2, request 1", "a byte that is not UTF-8"),
        (changed(b": 0", b": None"), b"None", "2, request 1", "None, which is no JSON"),
        (changed(b": 0", b": nought"), b"nought", "2, request 1", "a word without quotation marks"),
        (changed(b'"RequestId": "r2"', b'RequestId: "r2"'), b"RequestId: ", "3, request 2", "a word without"),
        (changed(b'{"RequestId": "r2"', b'// r2\n{"RequestId": "r2"'), b"// r2", "3, request 1", "a comment"),
        (changed(b": 0", b": "), b"}]},\n{", "2, request 1", "the character }"),
        (GOOD[:-2], None, "5, request 3", "the file ends before all"),
        (GOOD[:200], None, "3, request 2", "the file ends before all"),
    ],
)  # fmt: skip
def test_fault_has_byte_line_request_and_cause(data, byte, line, cause):
    if isinstance(byte, bytes):
        assert byte in data
        offset = data.index(byte) + (1 if byte in (b",}",) else 0)
    else:
        offset = len(data) + (byte or 0)
    told = fault(data)

    assert told.startswith(f"the manifest is not valid JSON in UTF-8: at byte {offset} (line {line}) ")
    assert cause in told


@pytest.mark.parametrize("block", [1, 2, 7, 64])
def test_place_does_not_depend_on_the_blocks_of_the_file(block):
    data = changed(b'"r2", ', b'"r2" ')

    assert fault(data, block) == fault(data)


def test_place_in_a_large_file_is_exact():
    many = b",\n".join(json.dumps(entry(number)).encode() for number in range(1, 2001))
    data = b'{"Version":"1.0","SpeakerEnrollmentRequests":[\n' + many + b"]}"
    at = data.index(b'"r1900"') + len(b'"r1900"')
    broken = data[:at] + b" " + data[at + 1 :]

    expected = broken.index(b'"SpeakerId"', at)

    assert f"at byte {expected} (line 1901, request 1900) " in fault(broken)


def test_a_byte_order_mark_counts_as_bytes_of_the_file():
    data = b"\xef\xbb\xbf" + changed(b'"r2", ', b'"r2" ')

    expected = data.index(b'"SpeakerId": "secret-2"')

    assert f"at byte {expected} " in fault(data)


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "the file holds nothing but spaces and line breaks"),
        (gzip.compress(GOOD), "it is compressed with gzip: store the unpacked file"),
        (b"PK\x03\x04" + bytes(40), "it is a ZIP archive or a spreadsheet"),
        (GOOD.decode().encode("utf-16"), "it is text in UTF-16: save it as UTF-8"),
        (GOOD.decode().encode("utf-16-le"), "it is text in UTF-16: save it as UTF-8"),
        (GOOD.decode().encode("utf-16-be"), "it is text in UTF-16: save it as UTF-8"),
        (GOOD.decode().encode("utf-32"), "it is text in UTF-32: save it as UTF-8"),
        (b"<!DOCTYPE html><html><body>403</body></html>", "it is a page of HTML"),
        (b"<?xml version='1.0'?><Error/>", "it is XML or HTML"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "it is a recording"),
        (b"RequestId,SpeakerId\nr1,secret-1\n", "a word without quotation marks"),
        (GOOD.replace(b'"', b"'"), "a single quotation mark"),
    ],
)
def test_what_is_taken_for_a_manifest_by_mistake_is_named(data, cause):
    assert cause in fault(data)


@pytest.mark.parametrize("block", [None, 1, 50])
def test_one_object_a_line_is_named_json_lines(block):
    data = b"\n".join(json.dumps(entry(number)).encode() for number in (1, 2))
    told, second = fault(data, block), data.index(b"\n") + 1

    assert told.startswith(f"the manifest has something behind its end: at byte {second} (line 2) ")
    assert "JSON Lines" in told


def test_text_behind_the_end_has_its_place():
    assert fault(GOOD + b"\n;").endswith(
        f"at byte {len(GOOD) + 1} (line 6) the character ; stands behind the end of the object"
    )


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"[]", "a list: put its entries under SpeakerEnrollmentRequests"),
        (b'"x"', "a string"),
        (b"null", "null"),
    ],
)
def test_a_file_of_another_value_is_named(data, kind):
    assert fault(data) == f"the manifest must be a JSON object, is {kind}"
