"""What each operation means: one function an operation, `(service, caller, request) -> answer`.

A new operation is a function in its resource's file and a line here; the service model does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sonant.operations import domains, enrollment_jobs, speakers
from sonant.operations.service import Answer, Caller, Request, Service

OPERATIONS: Mapping[str, Callable[[Service, Caller, Request], Answer | None]] = {
    "CompareRecording": speakers.compare_recording,
    "CreateDomain": domains.create_domain,
    "DeleteSpeaker": speakers.delete_speaker,
    "DescribeDomain": domains.describe_domain,
    "DescribeSpeaker": speakers.describe_speaker,
    "DescribeSpeakerEnrollmentJob": enrollment_jobs.describe_speaker_enrollment_job,
    "ListDomains": domains.list_domains,
    "ListSpeakerEnrollmentJobs": enrollment_jobs.list_speaker_enrollment_jobs,
    "ListSpeakers": speakers.list_speakers,
    "OptOutSpeaker": speakers.opt_out_speaker,
    "StartSpeakerEnrollmentJob": enrollment_jobs.start_speaker_enrollment_job,
}
