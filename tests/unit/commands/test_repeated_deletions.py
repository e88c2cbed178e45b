"""Whom events tell to forget."""

from __future__ import annotations

import json

import pytest

from sonant.commands.repeated_deletions import Forgotten, _documents, forgotten
from sonant.errors import SetupError

DOMAIN, ADA, BOB = "AbCdEfGhIjKlMnOpQrStUv", "id#ada", "id#bob"


def speaker(action, identifier, at, *, status="SUCCESS", domain=DOMAIN):
    detail = {"action": action, "status": status, "domainId": domain, "generatedSpeakerId": identifier}
    return {"detail-type": "VoiceId Speaker Action", "time": f"2027-01-01T00:00:{at:02}Z", "detail": detail}


def fraudster(action, identifier, at):
    detail = {"action": action, "status": "SUCCESS", "domainId": DOMAIN, "generatedFraudsterId": identifier}
    return {"detail-type": "VoiceId Fraudster Action", "time": f"2027-01-01T00:00:{at:02}Z", "detail": detail}


def actions(*documents):
    return {one.identifier: one.action for one in forgotten(iter(documents))}


def test_whoever_was_deleted_or_opted_out_is_forgotten_and_nobody_else():
    assert actions(
        speaker("ENROLL_SPEAKER", ADA, 1),
        speaker("DELETE_SPEAKER", BOB, 2),
        speaker("OPT_OUT_SPEAKER", "id#eve", 3),
        fraudster("REGISTER_FRAUDSTER", "id#f1", 4),
        fraudster("DELETE_FRAUDSTER", "id#f2", 5),
    ) == {BOB: "DELETE_SPEAKER", "id#eve": "OPT_OUT_SPEAKER", "id#f2": "DELETE_FRAUDSTER"}


def test_the_last_of_opt_out_and_enrollment_counts_by_time_in_whatever_order_the_files_are_given():
    opted, enrolled = speaker("OPT_OUT_SPEAKER", ADA, 1), speaker("ENROLL_SPEAKER", ADA, 2)
    assert actions(opted, enrolled) == actions(enrolled, opted) == {}
    again = speaker("OPT_OUT_SPEAKER", ADA, 3)
    assert actions(again, opted, enrolled) == {ADA: "OPT_OUT_SPEAKER"}


def test_a_deletion_is_final():
    assert actions(speaker("DELETE_SPEAKER", ADA, 1), speaker("ENROLL_SPEAKER", ADA, 2)) == {
        ADA: "DELETE_SPEAKER"
    }


def test_one_person_is_forgotten_once_in_each_domain():
    found = forgotten(
        iter(
            [
                speaker("DELETE_SPEAKER", ADA, 1),
                speaker("DELETE_SPEAKER", ADA, 1),
                speaker("DELETE_SPEAKER", ADA, 1, domain="other"),
            ]
        )
    )
    assert found == [
        Forgotten(action="DELETE_SPEAKER", domain_id=domain, identifier=ADA) for domain in (DOMAIN, "other")
    ]


def test_failures_other_events_and_strange_documents_say_nothing():
    failed = speaker("DELETE_SPEAKER", ADA, 1, status="FAILURE")
    session = {"detail-type": "VoiceId Start Session Action", "detail": {"status": "SUCCESS"}}
    nobody = speaker("DELETE_SPEAKER", None, 1)
    assert actions(failed, session, nobody, {}, {"detail": [], "detail-type": 3}) == {}
    assert actions({**speaker("DELETE_SPEAKER", ADA, 1), "detail-type": ["x"]}) == {}


def test_a_file_holds_documents_or_arrays_of_them_and_perhaps_a_torn_end(tmp_path):
    one, two, three = (speaker("DELETE_SPEAKER", f"id#{number}", 1) for number in range(3))
    file = tmp_path / "events.jsonl"
    file.write_text(f"{json.dumps(one)}\n\n{json.dumps([two, three])}\n" + '{"detail": {"act')
    assert list(_documents(file)) == [one, two, three]


@pytest.mark.parametrize("line", ["not json", "3", '["x"]', "\udcff"])
def test_a_line_that_is_no_event_is_named(tmp_path, line):
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"{}\n" + line.encode(errors="surrogateescape") + b"\n{}\n")
    with pytest.raises(SetupError, match="line 2: this is no event"):
        list(_documents(file))
