"""The types of jobs, as the console's job pages name them in paths and call their operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sonant.web.page import PageError, PageRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKind:
    """A type of job."""

    name: str
    """In paths."""
    code: str
    """In `texts.WORDS`."""
    label: str
    """Of its list."""
    describe: str
    list: str
    start: str


_ENROLLMENT = JobKind(
    name="enrollment",
    code="SPEAKER_ENROLLMENT",
    label="Enrollments",
    describe="DescribeSpeakerEnrollmentJob",
    list="ListSpeakerEnrollmentJobs",
    start="StartSpeakerEnrollmentJob",
)
_DRY_RUN = JobKind(
    name="dry-run",
    code="ENROLLMENT_DRY_RUN",
    label="Dry runs",
    describe="DescribeEnrollmentDryRun",
    list="ListEnrollmentDryRuns",
    start="StartEnrollmentDryRun",
)
_REGISTRATION = JobKind(
    name="registration",
    code="FRAUDSTER_REGISTRATION",
    label="Registrations of fraudsters",
    describe="DescribeFraudsterRegistrationJob",
    list="ListFraudsterRegistrationJobs",
    start="StartFraudsterRegistrationJob",
)
KINDS: Mapping[str, JobKind] = {one.name: one for one in (_ENROLLMENT, _DRY_RUN, _REGISTRATION)}


def kind_of(request: PageRequest, name: str) -> JobKind:
    """Return the type of job of a name. Raises PageError."""
    try:
        return KINDS[name]
    except KeyError:
        raise PageError(404, "There is no such type of job.") from None


def job_path(request: PageRequest, kind: JobKind, job_id: str) -> str:
    """Return the path of a job's page."""
    return f"{request.base}/jobs/{kind.name}/{job_id}"
