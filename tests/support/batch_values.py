"""What goes into a job and what comes out of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

FINAL = ("COMPLETED", "COMPLETED_WITH_ERRORS", "FAILED")


def entry(request_id: str, speaker_id: str, *files: str | tuple[str, int]) -> dict[str, Any]:
    """One request of a manifest; a file is a URI (channel 0) or (URI, channel)."""
    audio = [(item, 0) if isinstance(item, str) else item for item in files]
    return {
        "RequestId": request_id,
        "SpeakerId": speaker_id,
        "AudioSpecifications": [{"S3Uri": uri, "ChannelId": channel} for uri, channel in audio],
    }


def fraud_entry(request_id: str, *files: str | tuple[str, int]) -> dict[str, Any]:
    """The same for a fraudster, who has no id yet."""
    made = entry(request_id, "", *files)
    del made["SpeakerId"]
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class KindOfJob:
    """What a kind of job is called in operations and files."""

    noun: str
    config: str
    requests: str
    successes: str


ENROLLMENT = KindOfJob(
    noun="SpeakerEnrollmentJob",
    config="EnrollmentConfig",
    requests="SpeakerEnrollmentRequests",
    successes="SuccessfulEnrollments",
)
REGISTRATION = KindOfJob(
    noun="FraudsterRegistrationJob",
    config="RegistrationConfig",
    requests="FraudsterRegistrationRequests",
    successes="SuccessfulRegistrations",
)


def manifest(entries: Iterable[dict[str, Any]], kind: KindOfJob = ENROLLMENT) -> bytes:
    return json.dumps({"Version": "1.0", kind.requests: list(entries)}).encode()


@dataclass(slots=True, kw_only=True)
class Outcome:
    """A job that has ended, and its result file if there is one."""

    job: dict[str, Any]
    result: dict[str, Any] | None
    kind: KindOfJob = ENROLLMENT

    @property
    def status(self) -> str:
        return str(self.job["JobStatus"])

    @property
    def failure(self) -> tuple[int, str]:
        return self.job["FailureDetails"]["StatusCode"], self.job["FailureDetails"]["Message"]

    @property
    def errors(self) -> dict[str, tuple[int, str]]:
        """Code and message by request id, in the order of the file."""
        assert self.result is not None, self.job
        lines = self.result["Errors"]
        return {line["RequestId"]: (line["ErrorCode"], line["ErrorMessage"]) for line in lines}

    @property
    def successes(self) -> dict[str, str]:
        """Status by request id, in the order of the file."""
        assert self.result is not None, self.job
        status = "EnrollmentStatus" if self.kind is ENROLLMENT else "RegistrationStatus"
        return {line["RequestId"]: line[status] for line in self.result[self.kind.successes]}

    def generated_id(self, request_id: str) -> str:
        assert self.result is not None
        return str(
            self.line(request_id)["GeneratedSpeakerId" if self.kind is ENROLLMENT else "GeneratedFraudsterId"]
        )

    def line(self, request_id: str) -> dict[str, Any]:
        """A success's line in the file."""
        assert self.result is not None
        (found,) = [x for x in self.result[self.kind.successes] if x["RequestId"] == request_id]
        return dict(found)
