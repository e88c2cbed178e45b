"""Builds events as EventBridge documents of Voice ID. All functions are pure.

Detail types, members and values are those of Voice ID's sample events; `schema.json` defines them in order.
Documents hold generated ids, configuration and S3 URIs as given; never a customer speaker id, a name, a
description or a tag.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from sonant.events.error_info import ErrorInfo
from sonant.events.schema import normalize, source_of
from sonant.ids import new_id
from sonant.storage.repositories.domains import domain_arn
from sonant.storage.repositories.jobs import Job

SPEAKER = "VoiceId Speaker Action"
FRAUDSTER = "VoiceId Fraudster Action"
BATCH_ENROLLMENT = "VoiceId Batch Speaker Enrollment Action"
BATCH_REGISTRATION = "VoiceId Batch Fraudster Registration Action"
FRAUD_DETECTION = "Sonant Enrollment Fraud Detection"
"""Sonant's own: the result of fraud detection on the voice of an enrollment."""

SOURCE, OWN_SOURCE = "aws.voiceid", "sonant"
"""Sources of Voice ID's detail types, and of Sonant's own."""

SUBMITTED, SUCCEEDED, FAILED = "SUBMITTED", "SUCCEEDED", "FAILED"

SpeakerAction = Literal["ENROLL_SPEAKER", "OPT_OUT_SPEAKER", "DELETE_SPEAKER"]
FraudsterAction = Literal["REGISTER_FRAUDSTER", "DELETE_FRAUDSTER"]
EnrollmentSource = Literal["BATCH_ENROLLMENT", "SESSION"]
RegistrationSource = Literal["BATCH_REGISTRATION"]


class EventDomain(Protocol):
    """The domain of an event, such as `storage.repositories.domains.Domain`."""

    @property
    def domain_id(self) -> str: ...

    @property
    def account_id(self) -> str: ...

    @property
    def region(self) -> str: ...

    @property
    def arn(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsentDomain:
    """A domain that does not exist: account and Region are those of the call."""

    domain_id: str
    account_id: str
    region: str

    @property
    def arn(self) -> str:
        return domain_arn(self.region, self.account_id, self.domain_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event in a domain."""

    domain: EventDomain
    type: str
    """The envelope's `detail-type`."""
    detail: Mapping[str, Any]


def speaker_event(
    domain: EventDomain,
    action: SpeakerAction,
    *,
    speaker_id: str | None,
    error: ErrorInfo | None = None,
    source: EnrollmentSource | None = None,
    source_id: str | None = None,
    enrollment_status: str | None = None,
    contact_arn: str | None = None,
) -> Event:
    """Build the event of a speaker who was enrolled, opted out or deleted, or was not (`error`).

    An enrollment has a `source` with the id of the job or session, and that session's `contact_arn`. A
    `speaker_id` that is not a generated one is left out.
    """
    data = None
    if source is not None:
        data = {
            "enrollmentSource": source,
            "enrollmentSourceId": source_id,
            "enrollmentStatus": enrollment_status,
        }
    members = {
        "data": data,
        "generatedSpeakerId": _generated(speaker_id),
        "systemAttributes": system_attributes(contact_arn),
    }
    return build_event(domain, SPEAKER, action, FAILED if error else SUCCEEDED, members, error)


def fraudster_event(
    domain: EventDomain,
    action: FraudsterAction,
    *,
    fraudster_id: str | None,
    watchlist_ids: Sequence[str] = (),
    error: ErrorInfo | None = None,
    source: RegistrationSource | None = None,
    source_id: str | None = None,
    registration_status: str | None = None,
) -> Event:
    """Build the event of a fraudster that was registered or deleted, or was not (`error`).

    A registration has a `source` with the job's id.
    """
    data = None
    if source is not None:
        data = {
            "registrationSource": source,
            "registrationSourceId": source_id,
            "registrationStatus": registration_status,
        }
    members = {
        "data": data,
        "generatedFraudsterId": _generated(fraudster_id),
        "watchlistIds": list(watchlist_ids) or None,
    }
    return build_event(domain, FRAUDSTER, action, FAILED if error else SUCCEEDED, members, error)


def fraud_detection_event(
    domain: EventDomain,
    *,
    speaker_id: str | None,
    source: EnrollmentSource,
    source_id: str,
    found: Mapping[str, Any],
) -> Event:
    """Build the event of fraud detection on an enrollment's voice, with any outcome of the enrollment.

    `found` has the form of the evaluation event's `fraudDetectionResult`.
    """
    members = {
        "data": {"enrollmentSource": source, "enrollmentSourceId": source_id},
        "fraudDetectionResult": {**found, "reasons": found["reasons"] or None},
        "generatedSpeakerId": _generated(speaker_id),
    }
    return build_event(domain, FRAUD_DETECTION, "ENROLL_SPEAKER", SUCCEEDED, members, None)


def batch_enrollment_event(
    domain: EventDomain, job: Job, status: str, error: ErrorInfo | None = None
) -> Event:
    """Build the event of a speaker enrollment job that was submitted or has ended with `status`."""
    fraud = job.config["FraudDetectionConfig"]
    config = {
        "existingEnrollmentAction": job.config["ExistingEnrollmentAction"],
        "fraudDetectionConfig": {
            "fraudDetectionAction": fraud["FraudDetectionAction"],
            "fraudDetectionThreshold": fraud["RiskThreshold"],
            "watchlistIds": fraud.get("WatchlistIds"),
        },
    }
    members = _batch(job, "enrollmentConfig", config)
    return build_event(domain, BATCH_ENROLLMENT, "BATCH_SPEAKER_ENROLLMENT_REQUEST", status, members, error)


def batch_registration_event(
    domain: EventDomain, job: Job, status: str, error: ErrorInfo | None = None
) -> Event:
    """Build the event of a fraudster registration job that was submitted or has ended with `status`."""
    config = {
        "duplicateRegistrationAction": job.config["DuplicateRegistrationAction"],
        "fraudsterSimilarityThreshold": job.config["FraudsterSimilarityThreshold"],
        "watchlistIds": job.config.get("WatchlistIds"),
    }
    members = _batch(job, "registrationConfig", config)
    return build_event(
        domain, BATCH_REGISTRATION, "BATCH_FRAUDSTER_REGISTRATION_REQUEST", status, members, error
    )


def document(event: Event, event_id: str, time: datetime) -> dict[str, Any]:
    """Return the document of an event, with a new `sourceId`.

    EventBridge replaces the envelope's id; receivers recognise repeated deliveries by `sourceId`.
    """
    return normalize(
        {
            "version": "0",
            "account": event.domain.account_id,
            "region": event.domain.region,
            "detail": {**event.detail, "sourceId": new_id()},
            "detail-type": event.type,
            "source": source_of(event.type),
            "id": event_id,
            "time": time_text(time),
            "resources": [event.domain.arn],
        }
    )


def build_event(
    domain: EventDomain,
    type_: str,
    action: str,
    status: str,
    members: Mapping[str, Any],
    error: ErrorInfo | None,
) -> Event:
    """Build an event of the common members and its own `members`."""
    detail = {
        "action": action,
        "domainId": domain.domain_id,
        "errorInfo": None if error is None else error.member,
        "status": status,
        **members,
    }
    return Event(domain=domain, type=type_, detail=detail)


def system_attributes(contact_arn: str | None) -> dict[str, str] | None:
    """Return the ARN of the contact in Amazon Connect; None for other calls."""
    return None if contact_arn is None else {"aws:connect:OriginalContactArn": contact_arn}


def time_text(moment: datetime) -> str:
    """Return a time as ISO 8601 in UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _batch(job: Job, config_member: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members that both kinds of jobs share."""
    data = {
        "dataAccessRoleArn": job.role_arn,
        config_member: config,
        "inputDataConfig": {"s3Uri": job.input_uri},
        "outputDataConfig": {"kmsKeyId": job.output_kms_key, "s3Uri": job.output_uri},
    }
    return {"batchJobId": job.job_id, "data": data}


def _generated(identifier: str | None) -> str | None:
    """Return a generated id, or None for one of the customer's own."""
    return identifier if identifier is not None and identifier.startswith("id#") else None
