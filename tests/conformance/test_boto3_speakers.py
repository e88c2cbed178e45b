"""OptOutSpeaker, DescribeSpeaker, ListSpeakers and DeleteSpeaker through boto3."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime, timedelta

import pytest
from client_faults import refused
from service_process import ServiceProcess
from waiting import wait_until

NOBODY = "AbCdEfGhIjKlMnOpQrStUv"


def test_somebody_never_seen_can_opt_out(service: ServiceProcess, domain_id: str) -> None:
    before = datetime.now(UTC)

    speaker = service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId="customer_1")["Speaker"]

    assert set(speaker) == {
        "CreatedAt",
        "CustomerSpeakerId",
        "DomainId",
        "GeneratedSpeakerId",
        "Status",
        "UpdatedAt",
    }
    assert speaker["DomainId"] == domain_id
    assert speaker["CustomerSpeakerId"] == "customer_1"
    assert re.fullmatch("id#[a-zA-Z0-9]{22}", speaker["GeneratedSpeakerId"])
    assert speaker["Status"] == "OPTED_OUT"
    assert speaker["CreatedAt"] == speaker["UpdatedAt"]
    assert before - timedelta(seconds=1) <= speaker["CreatedAt"] <= datetime.now(UTC) + timedelta(seconds=1)


def test_opting_out_twice_changes_nothing(service: ServiceProcess, domain_id: str) -> None:
    first = service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId="customer")["Speaker"]
    again = service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId="customer")["Speaker"]
    assert again == first


def test_a_speaker_answers_to_both_ids(service: ServiceProcess, domain_id: str) -> None:
    speaker = service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId="customer")["Speaker"]
    for speaker_id in ("customer", speaker["GeneratedSpeakerId"]):
        found = service.voice_id.describe_speaker(DomainId=domain_id, SpeakerId=speaker_id)["Speaker"]
        assert found == speaker
    by_generated_id = service.voice_id.opt_out_speaker(
        DomainId=domain_id, SpeakerId=speaker["GeneratedSpeakerId"]
    )
    assert by_generated_id["Speaker"] == speaker


def test_customer_ids_differ_by_case(service: ServiceProcess, domain_id: str) -> None:
    lower = service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId="customer")["Speaker"]
    upper = service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId="CUSTOMER")["Speaker"]
    assert lower["GeneratedSpeakerId"] != upper["GeneratedSpeakerId"]


def test_domains_share_no_speakers(service: ServiceProcess, domain_id: str) -> None:
    other = service.domain("other")
    mine = service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId="customer")["Speaker"]
    for speaker_id in ("customer", mine["GeneratedSpeakerId"]):
        fault = refused(service.voice_id.describe_speaker, DomainId=other, SpeakerId=speaker_id)
        assert fault.resource_type == "SPEAKER"
    theirs = service.voice_id.opt_out_speaker(DomainId=other, SpeakerId="customer")["Speaker"]
    assert theirs["GeneratedSpeakerId"] != mine["GeneratedSpeakerId"]


def test_a_deleted_speaker_is_gone_and_may_come_back_as_another(
    service: ServiceProcess, domain_id: str
) -> None:
    first = service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId="customer")["Speaker"]

    answer = service.voice_id.delete_speaker(DomainId=domain_id, SpeakerId="customer")

    assert set(answer) == {"ResponseMetadata"}
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    for operation in (service.voice_id.describe_speaker, service.voice_id.delete_speaker):
        for speaker_id in ("customer", first["GeneratedSpeakerId"]):
            fault = refused(operation, DomainId=domain_id, SpeakerId=speaker_id)
            assert (fault.code, fault.resource_type) == ("ResourceNotFoundException", "SPEAKER")
    assert service.voice_id.list_speakers(DomainId=domain_id)["SpeakerSummaries"] == []
    # Within the second of the first call the signature would be the same, as that of a call sent again.
    now = datetime.now(UTC).replace(microsecond=0)
    wait_until("the next second", lambda: datetime.now(UTC) >= now + timedelta(seconds=1))
    second = service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId="customer")["Speaker"]
    assert second["GeneratedSpeakerId"] != first["GeneratedSpeakerId"]


def test_a_speaker_can_be_deleted_by_the_generated_id(service: ServiceProcess, domain_id: str) -> None:
    speaker = service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId="customer")["Speaker"]
    service.voice_id.delete_speaker(DomainId=domain_id, SpeakerId=speaker["GeneratedSpeakerId"])
    fault = refused(service.voice_id.describe_speaker, DomainId=domain_id, SpeakerId="customer")
    assert fault.resource_type == "SPEAKER"


def test_an_unknown_generated_id_cannot_opt_out(service: ServiceProcess, domain_id: str) -> None:
    fault = refused(service.voice_id.opt_out_speaker, DomainId=domain_id, SpeakerId=f"id#{NOBODY}")
    assert (fault.code, fault.resource_type) == ("ResourceNotFoundException", "SPEAKER")


def test_listing_shows_each_speaker_as_describing_it_does(service: ServiceProcess, domain_id: str) -> None:
    made = [
        service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId=f"customer-{number}")["Speaker"]
        for number in range(3)
    ]
    answer = service.voice_id.list_speakers(DomainId=domain_id)
    assert answer["SpeakerSummaries"] == made  # oldest first
    assert "NextToken" not in answer


def test_two_who_opt_the_same_person_out_at_one_moment_make_one_speaker(
    service: ServiceProcess, domain_id: str
) -> None:
    start, made = threading.Barrier(4), []

    def opt_out() -> None:
        start.wait()
        made.append(service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId="customer")["Speaker"])

    assert service.voice_id  # made before the threads start
    threads = [threading.Thread(target=opt_out) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 4
    assert len({speaker["GeneratedSpeakerId"] for speaker in made}) == 1
    assert len(service.voice_id.list_speakers(DomainId=domain_id)["SpeakerSummaries"]) == 1


@pytest.mark.parametrize("operation", ["describe_speaker", "opt_out_speaker", "delete_speaker"])
@pytest.mark.parametrize(
    "speaker_id",
    ["", "has space secret", "id#secret", "_secret", "secret\n", "s" * 257, f"id#{NOBODY}secret"],
)
def test_a_malformed_speaker_id_is_refused_without_repeating_it(
    service: ServiceProcess, domain_id: str, operation: str, speaker_id: str
) -> None:
    fault = refused(getattr(service.unchecked, operation), DomainId=domain_id, SpeakerId=speaker_id)
    assert fault.code == "ValidationException"
    assert "'speakerId'" in fault.message
    assert "secret" not in fault.message


@pytest.mark.parametrize("operation", ["describe_speaker", "delete_speaker"])
def test_not_found_does_not_repeat_the_id(service: ServiceProcess, domain_id: str, operation: str) -> None:
    fault = refused(getattr(service.voice_id, operation), DomainId=domain_id, SpeakerId="secret-person")
    assert (fault.code, fault.resource_type) == ("ResourceNotFoundException", "SPEAKER")
    assert "secret" not in fault.message
