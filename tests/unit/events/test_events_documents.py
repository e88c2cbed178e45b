"""Event documents: the AWS docs' event schema, field by field."""

from __future__ import annotations

from datetime import timedelta, timezone

import pytest
from event_peers import DOMAIN_ID, NOON

from sonant.events.documents import (
    ErrorInfo,
    batch_enrollment_event,
    batch_registration_event,
    document,
    fraudster_event,
    speaker_event,
)
from sonant.store.domains import Domain
from sonant.store.jobs import Job

EVENT_ID = "0e8b2c3e-6bd5-4a3c-9a54-2d3cb4d6f0a1"
SPEAKER_ID = "id#AbCdEfGhIjKlMnOpQrStUv"


def job(**changes: object) -> Job:
    values: dict[str, object] = {
        "job_id": "JJJJJJJJJJJJJJJJJJJJJJ",
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
                "WatchlistIds": ["wwwwwwwwwwwwwwwwwwwwww"],
            },
        },
        "entries_total": None,
        "entries_done": 0,
        "entries_failed": 0,
        "failure_code": None,
        "failure_message": None,
        "created_at": NOON,
        "started_at": None,
        "ended_at": None,
    }
    return Job(**{**values, **changes})  # type: ignore[arg-type]


def test_the_envelope_is_eventbridges(domain: Domain) -> None:
    told = document(speaker_event(domain, "DELETE_SPEAKER", speaker_id=SPEAKER_ID), EVENT_ID, NOON)
    assert {name: value for name, value in told.items() if name != "detail"} == {
        "version": "0",
        "id": EVENT_ID,
        "detail-type": "VoiceId Speaker Action",
        "source": "aws.voiceid",
        "account": "123456789012",
        "time": "2026-03-01T12:00:00Z",
        "region": "eu-west-2",
        "resources": [f"arn:aws:voiceid:eu-west-2:123456789012:domain/{DOMAIN_ID}"],
    }


def test_the_time_is_told_in_utc(domain: Domain) -> None:
    local = NOON.astimezone(timezone(timedelta(hours=9)))
    assert document(speaker_event(domain, "DELETE_SPEAKER", speaker_id=None), EVENT_ID, local)["time"] == (
        "2026-03-01T12:00:00Z"
    )


def test_a_speaker_enrolled_by_a_job_names_the_job_and_the_outcome(domain: Domain) -> None:
    event = speaker_event(
        domain,
        "ENROLL_SPEAKER",
        speaker_id=SPEAKER_ID,
        source="BATCH",
        source_id="JJJJJJJJJJJJJJJJJJJJJJ",
        enrollment_status="NEW_ENROLLMENT",
    )
    assert document(event, EVENT_ID, NOON)["detail"] == {
        "sourceId": EVENT_ID,
        "action": "ENROLL_SPEAKER",
        "status": "SUCCESS",
        "domainId": DOMAIN_ID,
        "generatedSpeakerId": SPEAKER_ID,
        "data": {
            "enrollmentSource": "BATCH",
            "enrollmentSourceId": "JJJJJJJJJJJJJJJJJJJJJJ",
            "enrollmentStatus": "NEW_ENROLLMENT",
        },
    }


def test_what_failed_says_why_in_name_text_and_number(domain: Domain) -> None:
    error = ErrorInfo(type="ConflictException", message="The domain is not active.", code=409)
    event = speaker_event(domain, "OPT_OUT_SPEAKER", speaker_id=None, error=error)
    assert event.detail == {
        "action": "OPT_OUT_SPEAKER",
        "status": "FAILURE",
        "domainId": DOMAIN_ID,
        "errorInfo": {
            "errorMessage": "The domain is not active.",
            "errorType": "ConflictException",
            "errorCode": 409,
        },
    }


def test_a_message_is_cut_to_a_bound(domain: Domain) -> None:
    event = speaker_event(domain, "DELETE_SPEAKER", speaker_id=None, error=ErrorInfo.of_code(400, "x" * 9999))
    assert len(event.detail["errorInfo"]["errorMessage"]) == 1024


@pytest.mark.parametrize("identifier", ["customer-17", "", "#id", "ID#AbCdEfGhIjKlMnOpQrStUv"])
def test_an_id_that_is_not_a_generated_one_is_never_told(domain: Domain, identifier: str) -> None:
    for event in (
        speaker_event(domain, "DELETE_SPEAKER", speaker_id=identifier),
        fraudster_event(domain, "DELETE_FRAUDSTER", fraudster_id=identifier),
    ):
        assert not {"generatedSpeakerId", "generatedFraudsterId"} & set(event.detail)


def test_a_deleted_fraudster_names_the_lists_it_was_on(domain: Domain) -> None:
    event = fraudster_event(domain, "DELETE_FRAUDSTER", fraudster_id=SPEAKER_ID, watchlist_ids=("one", "two"))
    assert event.type == "VoiceId Fraudster Action"
    assert event.detail == {
        "action": "DELETE_FRAUDSTER",
        "status": "SUCCESS",
        "domainId": DOMAIN_ID,
        "generatedFraudsterId": SPEAKER_ID,
        "watchlistIds": ["one", "two"],
    }


def test_a_job_tells_its_whole_configuration_but_not_its_name(domain: Domain) -> None:
    event = batch_enrollment_event(domain, job(), "SUBMITTED")
    assert event.type == "VoiceId Batch Speaker Enrollment Action"
    assert event.detail == {
        "action": "BATCH_ENROLLMENT_REQUEST",
        "status": "SUBMITTED",
        "domainId": DOMAIN_ID,
        "batchJobId": "JJJJJJJJJJJJJJJJJJJJJJ",
        "data": {
            "dataAccessRoleArn": "arn:aws:iam::123456789012:role/jobs",
            "enrollmentConfig": {
                "existingEnrollmentAction": "OVERWRITE",
                "fraudDetectionConfig": {
                    "fraudDetectionAction": "FAIL",
                    "riskThreshold": 70,
                    "watchlistIds": ["wwwwwwwwwwwwwwwwwwwwww"],
                },
            },
            "inputDataConfig": {"s3Uri": "s3://in/manifest.json"},
            "outputDataConfig": {"s3Uri": "s3://out/results", "kmsKeyId": "alias/results"},
        },
    }


def test_a_job_leaves_out_what_it_was_not_given(domain: Domain) -> None:
    config = {
        "ExistingEnrollmentAction": "SKIP",
        "FraudDetectionConfig": {"FraudDetectionAction": "IGNORE", "RiskThreshold": 50},
    }
    data = batch_enrollment_event(domain, job(output_kms_key=None, config=config), "SUCCESS").detail["data"]
    assert data["outputDataConfig"] == {"s3Uri": "s3://out/results"}
    assert "watchlistIds" not in data["enrollmentConfig"]["fraudDetectionConfig"]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (400, "ValidationException"),
        (402, "ServiceQuotaExceededException"),
        (403, "AccessDeniedException"),
        (404, "ResourceNotFoundException"),
        (409, "ConflictException"),
        (500, "InternalServerException"),
    ],
)
def test_a_result_files_code_has_an_exceptions_name(code: int, name: str) -> None:
    assert ErrorInfo.of_code(code, "why").type == name


# --- fraudsters ---------------------------------------------------------------------------------------


def test_a_registered_fraudster_names_list_job_and_status(domain: Domain) -> None:
    event = fraudster_event(
        domain,
        "REGISTER_FRAUDSTER",
        fraudster_id=SPEAKER_ID,
        watchlist_ids=("one",),
        source="BATCH",
        source_id="JJJJJJJJJJJJJJJJJJJJJJ",
        registration_status="NEW_REGISTRATION",
    )
    assert event.type == "VoiceId Fraudster Action"
    assert event.detail == {
        "action": "REGISTER_FRAUDSTER",
        "status": "SUCCESS",
        "domainId": DOMAIN_ID,
        "generatedFraudsterId": SPEAKER_ID,
        "watchlistIds": ["one"],
        "data": {
            "registrationSource": "BATCH",
            "registrationSourceId": "JJJJJJJJJJJJJJJJJJJJJJ",
            "registrationStatus": "NEW_REGISTRATION",
        },
    }


@pytest.mark.parametrize("lists", [None, ["wwwwwwwwwwwwwwwwwwwwww"]])
def test_a_registration_job_tells_its_whole_configuration(domain: Domain, lists: list[str] | None) -> None:
    config = {"DuplicateRegistrationAction": "SKIP", "FraudsterSimilarityThreshold": 0}
    given = config if lists is None else {**config, "WatchlistIds": lists}
    event = batch_registration_event(domain, job(config=given), "FAILURE", ErrorInfo.of_code(404, "none"))
    assert event.type == "VoiceId Batch Fraudster Registration Action"
    assert event.detail == {
        "action": "BATCH_REGISTRATION_REQUEST",
        "status": "FAILURE",
        "domainId": DOMAIN_ID,
        "batchJobId": "JJJJJJJJJJJJJJJJJJJJJJ",
        "data": {
            "dataAccessRoleArn": "arn:aws:iam::123456789012:role/jobs",
            "registrationConfig": {
                "duplicateRegistrationAction": "SKIP",
                "fraudsterSimilarityThreshold": 0,
                **({} if lists is None else {"watchlistIds": lists}),
            },
            "inputDataConfig": {"s3Uri": "s3://in/manifest.json"},
            "outputDataConfig": {"s3Uri": "s3://out/results", "kmsKeyId": "alias/results"},
        },
        "errorInfo": {
            "errorMessage": "none",
            "errorType": "ResourceNotFoundException",
            "errorCode": 404,
        },
    }
