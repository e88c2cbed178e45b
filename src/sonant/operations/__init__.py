"""What each operation means: one function an operation, `(service, caller, request) -> answer`.

A new operation is a function in its resource's file and a line here; the service model does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sonant.operations import (
    consent,
    domains,
    dry_runs,
    duplicates,
    enrollment_jobs,
    evaluations,
    fraudsters,
    registration_jobs,
    sessions,
    speakers,
    tags,
    watchlists,
)
from sonant.operations.service import Answer, Caller, Request, Service

#: Operations that may take seconds. They have threads of their own, so that they keep no other call waiting.
LONG = frozenset({"CompareRecording", "ListVoiceDuplicates"})
#: Operations that change something, but seldom: answers that take no more than reading, None for all others.
UNCHANGING: Mapping[str, Callable[[Service, Caller, Request], Answer | None]] = {
    "EvaluateSession": evaluations.stored_evaluation,
}
#: Names of operations as in the service models, to their functions.
OPERATIONS: Mapping[str, Callable[[Service, Caller, Request], Answer | None]] = {
    "AssociateFraudster": fraudsters.associate_fraudster,
    "CompareRecording": speakers.compare_recording,
    "CreateDomain": domains.create_domain,
    "CreateWatchlist": watchlists.create_watchlist,
    "DeleteDomain": domains.delete_domain,
    "DeleteFraudster": fraudsters.delete_fraudster,
    "DeleteSpeaker": speakers.delete_speaker,
    "DeleteWatchlist": watchlists.delete_watchlist,
    "DescribeComplianceConsent": consent.describe_compliance_consent,
    "DescribeDomain": domains.describe_domain,
    "DescribeEnrollmentDryRun": dry_runs.describe_enrollment_dry_run,
    "DescribeFraudster": fraudsters.describe_fraudster,
    "DescribeFraudsterRegistrationJob": registration_jobs.describe_fraudster_registration_job,
    "DescribeSession": sessions.describe_session,
    "DescribeSpeaker": speakers.describe_speaker,
    "DescribeSpeakerEnrollmentJob": enrollment_jobs.describe_speaker_enrollment_job,
    "DescribeWatchlist": watchlists.describe_watchlist,
    "DisassociateFraudster": fraudsters.disassociate_fraudster,
    "EndStream": sessions.end_stream,
    "EnrollBySession": sessions.enroll_by_session,
    "EvaluateSession": evaluations.evaluate_session,
    "ExportSpeaker": speakers.export_speaker,
    "ImportOptOuts": speakers.import_opt_outs,
    "ListDomains": domains.list_domains,
    "ListEnrollmentDryRuns": dry_runs.list_enrollment_dry_runs,
    "ListFraudsterRegistrationJobs": registration_jobs.list_fraudster_registration_jobs,
    "ListFraudsters": fraudsters.list_fraudsters,
    "ListSessions": sessions.list_sessions,
    "ListSpeakerEnrollmentJobs": enrollment_jobs.list_speaker_enrollment_jobs,
    "ListSpeakers": speakers.list_speakers,
    "ListTagsForResource": tags.list_tags_for_resource,
    "ListVoiceDuplicates": duplicates.list_voice_duplicates,
    "ListWatchlists": watchlists.list_watchlists,
    "OptOutSpeaker": speakers.opt_out_speaker,
    "RegisterComplianceConsent": consent.register_compliance_consent,
    "RestoreDomain": domains.restore_domain,
    "StartEnrollmentDryRun": dry_runs.start_enrollment_dry_run,
    "StartFraudsterRegistrationJob": registration_jobs.start_fraudster_registration_job,
    "StartSession": sessions.start_session,
    "StartSpeakerEnrollmentJob": enrollment_jobs.start_speaker_enrollment_job,
    "TagResource": tags.tag_resource,
    "UntagResource": tags.untag_resource,
    "UpdateDomain": domains.update_domain,
    "UpdateSession": sessions.update_session,
    "UpdateWatchlist": watchlists.update_watchlist,
}
