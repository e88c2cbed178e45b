"""Whom events tell to forget."""

from __future__ import annotations

import json
from itertools import permutations

import pytest

from sonant.errors import SetupError
from sonant.retention.deletions import CutLine, Deletion, DeletionLog, Person, documents

ACCOUNT, DOMAIN, OTHER = "0" * 12, "AbCdEfGhIjKlMnOpQrStUv", "aBcDeFgHiJkLmNoPqRsTuV"
ADA, BOB, EVE = ("id#" + letter * 22 for letter in "abe")


def speaker(action, identifier, *, status="SUCCEEDED", domain=DOMAIN, **more):
    detail = {"action": action, "status": status, "domainId": domain, "generatedSpeakerId": identifier}
    told = {"source": "aws.voiceid", "account": ACCOUNT, "detail-type": "VoiceId Speaker Action"}
    return {**told, "detail": detail, **more}


def fraudster(action, identifier):
    told = speaker(action, identifier)
    told["detail"]["generatedFraudsterId"] = told["detail"].pop("generatedSpeakerId")
    return {**told, "detail-type": "VoiceId Fraudster Action"}


def taken(*given):
    forgotten = DeletionLog(sources=frozenset(("aws.voiceid", "voiceid")))
    for document in given:
        forgotten.add(document)
    return forgotten


def ends(*given):
    return {person.generated_id: end for person, end in taken(*given).deletions.items()}


def test_whoever_was_deleted_or_opted_out_is_forgotten_and_nobody_else():
    found = taken(
        speaker("ENROLL_SPEAKER", ADA),
        speaker("DELETE_SPEAKER", BOB),
        speaker("OPT_OUT_SPEAKER", EVE, source="voiceid"),
        fraudster("REGISTER_FRAUDSTER", ADA),
        fraudster("DELETE_FRAUDSTER", ADA),
    )
    assert {person.generated_id: end for person, end in found.deletions.items()} == {
        BOB: Deletion.DELETE_SPEAKER,
        EVE: Deletion.OPT_OUT_SPEAKER,
        ADA: Deletion.DELETE_FRAUDSTER,
    }
    assert (found.events, found.others) == (5, 0)


@pytest.mark.parametrize("word", ["SUCCEEDED", "SUCCESS"])
def test_the_word_of_this_release_and_of_those_before_it_is_understood(word):
    assert ends(speaker("DELETE_SPEAKER", ADA, status=word)) == {ADA: Deletion.DELETE_SPEAKER}


@pytest.mark.parametrize(
    ("actions", "end"),
    [
        (("ENROLL_SPEAKER", "OPT_OUT_SPEAKER"), Deletion.OPT_OUT_SPEAKER),
        (("ENROLL_SPEAKER", "OPT_OUT_SPEAKER", "DELETE_SPEAKER"), Deletion.DELETE_SPEAKER),
    ],
)
def test_order_of_deletions_does_not_matter_as_ids_are_never_reused(actions, end):
    for order in permutations(actions):
        assert ends(*(speaker(action, ADA) for action in order)) == {ADA: end}


def test_one_person_is_forgotten_once_in_each_domain():
    found = taken(
        *[speaker("DELETE_SPEAKER", ADA)] * 2, speaker("DELETE_SPEAKER", ADA, domain=OTHER)
    ).deletions
    assert found == {
        Person(account=ACCOUNT, domain_id=domain, generated_id=ADA): Deletion.DELETE_SPEAKER
        for domain in (DOMAIN, OTHER)
    }


def test_failures_and_events_of_other_things_say_nothing():
    session = {"detail-type": "VoiceId Start Session Action", "detail": {"status": "STREAMING_ENDED"}}
    found = taken(
        speaker("DELETE_SPEAKER", ADA, status="FAILED"),
        speaker("DELETE_SPEAKER", ADA, status="FAILURE"),
        speaker("DELETE_FRAUDSTER", ADA),
        fraudster("DELETE_SPEAKER", ADA),
        {"source": "aws.voiceid", **session},
    )
    assert (found.deletions, found.events, found.others) == ({}, 5, 0)


@pytest.mark.parametrize(
    "strange",
    [
        {},
        {"source": "aws.voiceid", "detail": []},
        {"eventVersion": "1.10", "eventName": "DeleteSpeaker"},
        speaker("DELETE_SPEAKER", ADA, source="aws.s3"),
        speaker("DELETE_SPEAKER", ADA, source=["aws.voiceid"]),
        speaker("DELETE_SPEAKER", None),
        speaker("DELETE_SPEAKER", "ada"),
        speaker("DELETE_SPEAKER", ADA + "\n"),
        speaker("DELETE_SPEAKER", ADA, domain="../" + DOMAIN),
        speaker("DELETE_SPEAKER", ADA, account="\x1b[2J"),
    ],
)
def test_what_is_no_event_of_ours_is_counted_as_such(strange):
    found = taken(strange)
    assert (found.deletions, found.events, found.others) == ({}, 0, 1)


def test_a_file_holds_documents_or_arrays_of_them_and_perhaps_a_torn_end(tmp_path):
    one, two, three = (speaker("DELETE_SPEAKER", identifier) for identifier in (ADA, BOB, EVE))
    file = tmp_path / "events.jsonl"
    file.write_text(f"{json.dumps(one)}\n\n{json.dumps([two, three])}\n" + '{"detail": {"act')
    assert list(documents(file)) == [one, two, three, CutLine(line=4)]


def test_a_file_that_may_be_no_text_at_all_is_not_taken_for_a_torn_line(tmp_path):
    file = tmp_path / "sonant.backup"
    file.write_bytes(b"\x00\x01\x02")
    with pytest.raises(SetupError, match="line 1: this is no event"):
        list(documents(file))


@pytest.mark.parametrize("line", ["not json", "3", '["x"]', "\udcff", "[" * 100_000])
def test_a_line_that_is_no_event_is_named(tmp_path, line):
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"{}\n" + line.encode(errors="surrogateescape") + b"\n{}\n")
    with pytest.raises(SetupError, match="line 2: this is no event"):
        list(documents(file))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(SetupError, match=r"absent\.jsonl cannot be read: No such file"):
        list(documents(tmp_path / "absent.jsonl"))
