"""Event documents: the form of Voice ID's sample events, member by member."""

from __future__ import annotations

import json
import re
from datetime import timedelta, timezone
from typing import Any

import pytest
from event_peers import DOMAIN_ID, NOON

from sonant.events.documents import (
    AbsentDomain,
    Event,
    batch_enrollment_event,
    batch_registration_event,
    document,
    fraud_detection_event,
    fraudster_event,
    speaker_event,
)
from sonant.events.error_info import ErrorInfo
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.jobs import Job

EVENT_ID = "0e8b2c3e-6bd5-4a3c-9a54-2d3cb4d6f0a1"
SPEAKER_ID = "id#AbCdEfGhIjKlMnOpQrStUv"
JOB_ID, WATCHLIST_ID = "J" * 22, "w" * 22


def job(**changes: object) -> Job:
    values: dict[str, object] = {
        "job_id": JOB_ID,
        "kind": "SPEAKER_ENROLLMENT",
        "domain_id": DOMAIN_ID,
        "status": "SUBMITTED",
        "name_sealed": b"sealed",
        "role_arn": "arn:aws:iam::123456789012:role/jobs",
        "input_uri": "s3://in/manifest.json",
        "output_uri": "s3://out/results",
        "output_kms_key": "alias/results",
        "config": {
            "ExistingEnrollmentAction": "OVERWRITE",
            "FraudDetectionConfig": {
                "FraudDetectionAction": "FAIL",
                "RiskThreshold": 70,
                "WatchlistIds": [WATCHLIST_ID],
            },
        },
        "entries_total": None,
        "entries_done": 0,
        "entries_failed": 0,
        "worked_s": 0.0,
        "failure_code": None,
        "failure_message": None,
        "created_at": NOON,
        "started_at": None,
        "ended_at": None,
    }
    return Job(**{**values, **changes})  # type: ignore[arg-type]


def detail_of(event: Event) -> dict[str, Any]:
    """The whole detail but for its `sourceId`, in its order."""
    told: dict[str, Any] = document(event, EVENT_ID, NOON)["detail"]
    assert list(told)[-1] == "sourceId"
    assert re.fullmatch("[A-Za-z0-9]{22}", told.pop("sourceId"))
    return told


def same(told: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Equal, also in the order of members."""
    return json.dumps(told) == json.dumps(expected)


def test_the_envelope_has_eventbridges_members_in_their_order(domain: Domain) -> None:
    told = document(speaker_event(domain, "DELETE_SPEAKER", speaker_id=SPEAKER_ID), EVENT_ID, NOON)
    assert same(
        {**told, "detail": None},
        {
            "version": "0",
            "account": "123456789012",
            "region": "eu-west-2",
            "detail": None,
            "detail-type": "VoiceId Speaker Action",
            "source": "aws.voiceid",
            "id": EVENT_ID,
            "time": "2026-03-01T12:00:00.250Z",
            "resources": [f"arn:aws:voiceid:eu-west-2:123456789012:domain/{DOMAIN_ID}"],
        },
    )


def test_the_time_is_told_in_utc_to_the_millisecond(domain: Domain) -> None:
    local = NOON.astimezone(timezone(timedelta(hours=9)))
    told = document(speaker_event(domain, "DELETE_SPEAKER", speaker_id=None), EVENT_ID, local)
    assert told["time"] == "2026-03-01T12:00:00.250Z"


def test_missing_domain_has_an_event_in_the_callers_account(domain: Domain) -> None:
    absent = AbsentDomain(domain_id="N" * 22, account_id="210987654321", region="us-west-2")
    event = speaker_event(
        absent, "DELETE_SPEAKER", speaker_id=None, error=ErrorInfo.of_code(404, "no such domain")
    )
    told = document(event, EVENT_ID, NOON)
    assert (told["account"], told["region"]) == ("210987654321", "us-west-2")
    assert told["resources"] == [f"arn:aws:voiceid:us-west-2:210987654321:domain/{'N' * 22}"]
    assert told["detail"]["domainId"] == "N" * 22


def test_every_event_has_a_source_id_of_its_own(domain: Domain) -> None:
    event = speaker_event(domain, "DELETE_SPEAKER", speaker_id=SPEAKER_ID)
    ids = {document(event, EVENT_ID, NOON)["detail"]["sourceId"] for _ in range(50)}
    assert len(ids) == 50


def test_a_member_that_the_schema_does_not_know_is_refused(domain: Domain) -> None:
    event = speaker_event(domain, "DELETE_SPEAKER", speaker_id=SPEAKER_ID)
    more = Event(domain=domain, type=event.type, detail={**event.detail, "customerSpeakerId": "ann"})
    with pytest.raises(ValueError, match="customerSpeakerId"):
        document(more, EVENT_ID, NOON)


# --- speakers -----------------------------------------------------------------------------------------


def test_a_speaker_enrolled_by_a_job_names_the_job_and_the_outcome(domain: Domain) -> None:
    event = speaker_event(
        domain,
        "ENROLL_SPEAKER",
        speaker_id=SPEAKER_ID,
        source="BATCH_ENROLLMENT",
        source_id=JOB_ID,
        enrollment_status="NEW_ENROLLMENT",
    )
    assert same(
        detail_of(event),
        {
            "action": "ENROLL_SPEAKER",
            "data": {
                "enrollmentSource": "BATCH_ENROLLMENT",
                "enrollmentSourceId": JOB_ID,
                "enrollmentStatus": "NEW_ENROLLMENT",
            },
            "domainId": DOMAIN_ID,
            "errorInfo": None,
            "generatedSpeakerId": SPEAKER_ID,
            "status": "SUCCEEDED",
            "systemAttributes": None,
        },
    )


def test_a_speaker_enrolled_in_a_session_names_the_contact(domain: Domain) -> None:
    contact = "arn:aws:connect:us-west-2:123456789012:instance/i/contact/c"
    event = speaker_event(
        domain,
        "ENROLL_SPEAKER",
        speaker_id=SPEAKER_ID,
        source="SESSION",
        source_id="id#" + "s" * 22,
        contact_arn=contact,
    )
    assert detail_of(event)["systemAttributes"] == {"aws:connect:OriginalContactArn": contact}


def test_what_failed_says_why_in_type_text_and_number(domain: Domain) -> None:
    error = ErrorInfo.of_code(409, "The domain is not active.")
    event = speaker_event(domain, "OPT_OUT_SPEAKER", speaker_id=SPEAKER_ID, error=error)
    assert same(
        detail_of(event),
        {
            "action": "OPT_OUT_SPEAKER",
            "data": None,
            "domainId": DOMAIN_ID,
            "errorInfo": {
                "errorCode": 409,
                "errorMessage": "The domain is not active.",
                "errorType": "CONFLICT",
            },
            "generatedSpeakerId": SPEAKER_ID,
            "status": "FAILED",
            "systemAttributes": None,
        },
    )


def test_a_message_is_cut_to_a_bound(domain: Domain) -> None:
    event = speaker_event(domain, "DELETE_SPEAKER", speaker_id=None, error=ErrorInfo.of_code(400, "x" * 9999))
    assert len(event.detail["errorInfo"]["errorMessage"]) == 1024


@pytest.mark.parametrize("identifier", ["customer-17", "", "#id", "ID#AbCdEfGhIjKlMnOpQrStUv"])
def test_an_id_that_is_not_a_generated_one_is_never_told(domain: Domain, identifier: str) -> None:
    speaker = speaker_event(domain, "DELETE_SPEAKER", speaker_id=identifier)
    fraudster = fraudster_event(domain, "DELETE_FRAUDSTER", fraudster_id=identifier)
    assert detail_of(speaker)["generatedSpeakerId"] is None
    assert detail_of(fraudster)["generatedFraudsterId"] is None


@pytest.mark.parametrize(
    ("code", "type_"),
    [
        (400, "BAD_REQUEST"),
        (402, "SERVICE_QUOTA_EXCEEDED"),
        (403, "ACCESS_DENIED"),
        (404, "RESOURCE_NOT_FOUND"),
        (409, "CONFLICT"),
        (429, "THROTTLING"),
        (500, "INTERNAL_ERROR"),
        (503, "INTERNAL_ERROR"),
    ],
)
def test_a_code_has_a_type_of_error(code: int, type_: str) -> None:
    assert ErrorInfo.of_code(code, "why").type == type_


# --- fraudsters ---------------------------------------------------------------------------------------


def test_a_deleted_fraudster_names_the_lists_it_was_on(domain: Domain) -> None:
    lists = (WATCHLIST_ID, "v" * 22)
    event = fraudster_event(domain, "DELETE_FRAUDSTER", fraudster_id=SPEAKER_ID, watchlist_ids=lists)
    assert event.type == "VoiceId Fraudster Action"
    assert same(
        detail_of(event),
        {
            "action": "DELETE_FRAUDSTER",
            "data": None,
            "domainId": DOMAIN_ID,
            "errorInfo": None,
            "generatedFraudsterId": SPEAKER_ID,
            "status": "SUCCEEDED",
            "watchlistIds": list(lists),
        },
    )


def test_a_fraudster_that_could_not_be_deleted_is_named(domain: Domain) -> None:
    error = ErrorInfo.of_code(404, "The requested fraudster does not exist")
    event = fraudster_event(domain, "DELETE_FRAUDSTER", fraudster_id=SPEAKER_ID, error=error)
    assert list(detail_of(event)) == [
        *("action", "data", "domainId", "errorInfo", "generatedFraudsterId", "status")
    ]
    assert detail_of(event)["generatedFraudsterId"] == SPEAKER_ID


def test_a_registered_fraudster_names_list_job_and_status(domain: Domain) -> None:
    event = fraudster_event(
        domain,
        "REGISTER_FRAUDSTER",
        fraudster_id=SPEAKER_ID,
        watchlist_ids=(WATCHLIST_ID,),
        source="BATCH_REGISTRATION",
        source_id=JOB_ID,
        registration_status="NEW_REGISTRATION",
    )
    assert same(
        detail_of(event),
        {
            "action": "REGISTER_FRAUDSTER",
            "data": {
                "registrationSource": "BATCH_REGISTRATION",
                "registrationSourceId": JOB_ID,
                "registrationStatus": "NEW_REGISTRATION",
            },
            "domainId": DOMAIN_ID,
            "errorInfo": None,
            "generatedFraudsterId": SPEAKER_ID,
            "status": "SUCCEEDED",
            "watchlistIds": [WATCHLIST_ID],
        },
    )


# --- jobs ---------------------------------------------------------------------------------------------


def test_a_job_tells_its_whole_configuration_but_not_its_name(domain: Domain) -> None:
    event = batch_enrollment_event(domain, job(), "SUBMITTED")
    assert event.type == "VoiceId Batch Speaker Enrollment Action"
    assert same(
        detail_of(event),
        {
            "action": "BATCH_SPEAKER_ENROLLMENT_REQUEST",
            "batchJobId": JOB_ID,
            "data": {
                "dataAccessRoleArn": "arn:aws:iam::123456789012:role/jobs",
                "enrollmentConfig": {
                    "existingEnrollmentAction": "OVERWRITE",
                    "fraudDetectionConfig": {
                        "fraudDetectionAction": "FAIL",
                        "fraudDetectionThreshold": 70,
                        "watchlistIds": [WATCHLIST_ID],
                    },
                },
                "inputDataConfig": {"s3Uri": "s3://in/manifest.json"},
                "outputDataConfig": {"kmsKeyId": "alias/results", "s3Uri": "s3://out/results"},
            },
            "domainId": DOMAIN_ID,
            "errorInfo": None,
            "status": "SUBMITTED",
        },
    )


def test_a_job_tells_null_for_a_key_it_was_not_given_and_no_list(domain: Domain) -> None:
    config = {
        "ExistingEnrollmentAction": "SKIP",
        "FraudDetectionConfig": {"FraudDetectionAction": "IGNORE", "RiskThreshold": 50},
    }
    event = batch_enrollment_event(domain, job(output_kms_key=None, config=config), "COMPLETED_WITH_ERRORS")
    data = detail_of(event)["data"]
    assert data["outputDataConfig"] == {"kmsKeyId": None, "s3Uri": "s3://out/results"}
    assert "watchlistIds" not in data["enrollmentConfig"]["fraudDetectionConfig"]


@pytest.mark.parametrize("lists", [None, [WATCHLIST_ID]])
def test_a_registration_job_tells_its_whole_configuration(domain: Domain, lists: list[str] | None) -> None:
    config = {"DuplicateRegistrationAction": "SKIP", "FraudsterSimilarityThreshold": 0}
    given = config if lists is None else {**config, "WatchlistIds": lists}
    event = batch_registration_event(domain, job(config=given), "FAILED", ErrorInfo.of_code(404, "none"))
    assert event.type == "VoiceId Batch Fraudster Registration Action"
    assert same(
        detail_of(event),
        {
            "action": "BATCH_FRAUDSTER_REGISTRATION_REQUEST",
            "batchJobId": JOB_ID,
            "data": {
                "dataAccessRoleArn": "arn:aws:iam::123456789012:role/jobs",
                "inputDataConfig": {"s3Uri": "s3://in/manifest.json"},
                "outputDataConfig": {"kmsKeyId": "alias/results", "s3Uri": "s3://out/results"},
                "registrationConfig": {
                    "duplicateRegistrationAction": "SKIP",
                    "fraudsterSimilarityThreshold": 0,
                    **({} if lists is None else {"watchlistIds": lists}),
                },
            },
            "domainId": DOMAIN_ID,
            "errorInfo": {"errorCode": 404, "errorMessage": "none", "errorType": "RESOURCE_NOT_FOUND"},
            "status": "FAILED",
        },
    )


# --- what Voice ID had none of ------------------------------------------------------------------------


def test_what_was_found_of_a_voice_is_an_event_of_sonants_own(domain: Domain) -> None:
    event = fraud_detection_event(
        domain,
        speaker_id=SPEAKER_ID,
        source="BATCH_ENROLLMENT",
        source_id=JOB_ID,
        found={
            "decision": "LOW_RISK",
            "reasons": [],
            "configuration": {"riskThreshold": 50, "watchlistId": WATCHLIST_ID},
            "riskDetails": {"knownFraudsterRisk": {"riskScore": 0}},
        },
    )
    told = document(event, EVENT_ID, NOON)
    assert (told["source"], told["detail-type"]) == ("sonant", "Sonant Enrollment Fraud Detection")
    assert same(
        told["detail"]["fraudDetectionResult"],
        {
            "configuration": {"riskThreshold": 50, "watchlistId": WATCHLIST_ID},
            "decision": "LOW_RISK",
            "reasons": None,
            "riskDetails": {
                "knownFraudsterRisk": {"generatedFraudsterId": None, "riskScore": 0},
                "voiceSpoofingRisk": None,
            },
        },
    )
