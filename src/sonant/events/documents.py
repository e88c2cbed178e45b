"""What happened, as the EventBridge documents of Voice ID: pure functions of domain and facts.

Names and fields are those of the AWS docs' event schema, camelCase. Documents hold generated ids,
configuration and S3 URIs as given; never a customer speaker id, a name, a description or a tag.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sonant.store.domains import Domain
from sonant.store.jobs import Job

SPEAKER = "VoiceId Speaker Action"
FRAUDSTER = "VoiceId Fraudster Action"
BATCH_ENROLLMENT = "VoiceId Batch Speaker Enrollment Action"
BATCH_REGISTRATION = "VoiceId Batch Fraudster Registration Action"

SOURCE = "aws.voiceid"

SpeakerAction = Literal["ENROLL_SPEAKER", "OPT_OUT_SPEAKER", "DELETE_SPEAKER"]
FraudsterAction = Literal["REGISTER_FRAUDSTER", "DELETE_FRAUDSTER"]
BatchStatus = Literal["SUBMITTED", "SUCCESS", "FAILURE"]

_MESSAGE_CHARACTERS = 1024

#: Exception names for the codes of result files and of FailureDetails.
_TYPES = {
    400: "ValidationException",
    402: "ServiceQuotaExceededException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    409: "ConflictException",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened in a domain."""

    domain: Domain
    type: str
    """The envelope's `detail-type`."""
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo:
    """Why something failed. `code` is the HTTP status of the answer or the code of the result file."""

    type: str
    message: str
    code: int

    @classmethod
    def of_code(cls, code: int, message: str) -> ErrorInfo:
        return cls(type=_TYPES.get(code, "InternalServerException"), message=message, code=code)


def speaker_event(
    domain: Domain,
    action: SpeakerAction,
    *,
    speaker_id: str | None,
    error: ErrorInfo | None = None,
    source: str | None = None,
    source_id: str | None = None,
    enrollment_status: str | None = None,
    fraud_detection: Mapping[str, Any] | None = None,
) -> Event:
    """A speaker was enrolled, opted out or deleted, or was not (`error`). `source` is BATCH with a job's id
    or SESSION with a session's; only a generated `speaker_id` is told. `fraud_detection` is what was
    found of an enrollment's voice, in the form of the evaluation event's `fraudDetectionResult`."""
    data = {
        "enrollmentSource": source,
        "enrollmentSourceId": source_id,
        "enrollmentStatus": enrollment_status,
        "fraudDetectionResult": fraud_detection,
    }
    told = {"generatedSpeakerId": _generated(speaker_id), "data": given(data) or None}
    return build_event(domain, SPEAKER, action, "FAILURE" if error else "SUCCESS", told, error)


def fraudster_event(
    domain: Domain,
    action: FraudsterAction,
    *,
    fraudster_id: str | None,
    watchlist_ids: Sequence[str] = (),
    error: ErrorInfo | None = None,
    source: str | None = None,
    source_id: str | None = None,
    registration_status: str | None = None,
) -> Event:
    """A fraudster was registered or deleted, or was not (`error`). `source` is BATCH with a job's id."""
    data = {
        "registrationSource": source,
        "registrationSourceId": source_id,
        "registrationStatus": registration_status,
    }
    told = {
        "generatedFraudsterId": _generated(fraudster_id),
        "watchlistIds": list(watchlist_ids) or None,
        "data": given(data) or None,
    }
    return build_event(domain, FRAUDSTER, action, "FAILURE" if error else "SUCCESS", told, error)


def batch_enrollment_event(
    domain: Domain, job: Job, status: BatchStatus, error: ErrorInfo | None = None
) -> Event:
    """A speaker enrollment job was submitted or has ended."""
    fraud = job.config["FraudDetectionConfig"]
    config = {
        "existingEnrollmentAction": job.config["ExistingEnrollmentAction"],
        "fraudDetectionConfig": given(
            {
                "fraudDetectionAction": fraud["FraudDetectionAction"],
                "riskThreshold": fraud["RiskThreshold"],
                "watchlistIds": fraud.get("WatchlistIds"),
            }
        ),
    }
    told = _batch(job, "enrollmentConfig", config)
    return build_event(domain, BATCH_ENROLLMENT, "BATCH_ENROLLMENT_REQUEST", status, told, error)


def batch_registration_event(
    domain: Domain, job: Job, status: BatchStatus, error: ErrorInfo | None = None
) -> Event:
    """A fraudster registration job was submitted or has ended."""
    config = given(
        {
            "duplicateRegistrationAction": job.config["DuplicateRegistrationAction"],
            "fraudsterSimilarityThreshold": job.config["FraudsterSimilarityThreshold"],
            "watchlistIds": job.config.get("WatchlistIds"),
        }
    )
    told = _batch(job, "registrationConfig", config)
    return build_event(domain, BATCH_REGISTRATION, "BATCH_REGISTRATION_REQUEST", status, told, error)


def document(event: Event, event_id: str, time: datetime) -> dict[str, Any]:
    """The whole document. `event_id` is also the detail's `sourceId`: EventBridge gives the envelope an id of
    its own, so this is what doubles are known by."""
    return {
        "version": "0",
        "id": event_id,
        "detail-type": event.type,
        "source": SOURCE,
        "account": event.domain.account_id,
        "time": time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": event.domain.region,
        "resources": [event.domain.arn],
        "detail": {"sourceId": event_id, **event.detail},
    }


def build_event(
    domain: Domain,
    type_: str,
    action: str,
    status: str,
    told: Mapping[str, Any],
    error: ErrorInfo | None,
) -> Event:
    """What all events have in common, around what one tells; members that are None are left out."""
    detail = {"action": action, "status": status, "domainId": domain.domain_id, **given(told)}
    if error is not None:
        detail["errorInfo"] = {
            "errorMessage": error.message[:_MESSAGE_CHARACTERS],
            "errorType": error.type,
            "errorCode": error.code,
        }
    return Event(domain=domain, type=type_, detail=detail)


def _batch(job: Job, config_member: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """What both kinds of job tell."""
    data = {
        "dataAccessRoleArn": job.role_arn,
        config_member: config,
        "inputDataConfig": {"s3Uri": job.input_uri},
        "outputDataConfig": given({"s3Uri": job.output_uri, "kmsKeyId": job.output_kms_key}),
    }
    return {"batchJobId": job.job_id, "data": data}


def _generated(identifier: str | None) -> str | None:
    """An id that we made; the customer's own are not told."""
    return identifier if identifier is not None and identifier.startswith("id#") else None


def given(members: Mapping[str, Any]) -> dict[str, Any]:
    """The members that are not None."""
    return {name: value for name, value in members.items() if value is not None}
