"""One valid request for every operation, on a domain with everything they need."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from botocore import xform_name
from made_samples import made_sample
from service_process import ACCOUNT, KEY_ALIAS, REGION, ROLE, ServiceProcess
from sqlalchemy import update

from sonant.gateway.models import OWN_PREFIX, Operation, load_models
from sonant.ids import new_generated_id, new_id
from sonant.operations import OPERATIONS
from sonant.storage.crypto.vault import open_vault
from sonant.storage.database import schema
from sonant.storage.repositories import domains, jobs, session_streams, speakers, watchlists
from sonant.storage.times import to_us
from sonant.voice.models import shipped_encoder_id
from sonant.voice.models.packaged import packaged_entry

NOBODY = "AbCdEfGhIjKlMnOpQrStUv"
ENCRYPTION = {"ServerSideEncryptionConfiguration": {"KmsKeyId": KEY_ALIAS}}

#: Every operation that is served, by name.
SERVED: Mapping[str, Operation] = {
    operation.name: operation
    for operation in load_models().operations.values()
    if operation.name in OPERATIONS
}
OWN = frozenset(operation.name for operation in SERVED.values() if operation.target.startswith(OWN_PREFIX))

#: Members without a value while a job waits for a runner.
NOT_YET: Mapping[str, frozenset[str]] = {"ListJobOutcomes": frozenset({"Requests", "ResultS3Uri"})}

#: Clients that send the valid request of each operation. The Node client is generated from AWS's model: own
#: operations go through one of its commands, with their name and members.
CLIENTS: Mapping[str, frozenset[str]] = dict.fromkeys(("boto3", "AWS CLI", "Node.js"), frozenset(SERVED))

#: The recording in the valid request of CompareRecording, after `put_recording`.
RECORDING = "caller.wav"
#: The vector of the sample voiceprint; any vector of this size would do.


def arn_of(domain_id: str, account: str = ACCOUNT, region: str = REGION) -> str:
    return f"arn:aws:voiceid:{region}:{account}:domain/{domain_id}"


def method(client: Any, operation: str) -> Any:
    """The boto3 method of an operation."""
    return getattr(client, xform_name(operation))


def about(request: Mapping[str, Any], domain_id: str) -> dict[str, Any]:
    """The same request for another domain."""
    changed = dict(request)
    if "DomainId" in request:
        changed["DomainId"] = domain_id
    if "ResourceArn" in request:
        changed["ResourceArn"] = arn_of(domain_id)
    return changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Furnished:
    """Domains, and the contents of the first."""

    domain_id: str
    suspended_id: str
    default_list: str
    known_list: str
    requests: Mapping[str, dict[str, Any]]
    """By operation, in an order in which all can be sent once."""


def add_fraudster(service: ServiceProcess, domain_id: str, *watchlist_ids: str) -> str:
    """Store a fraudster on these watchlists."""
    store, fraudster_id = service.store, new_generated_id()
    with store.database.write() as connection:
        watchlists.add_fraudster(
            connection,
            fraudster_id=fraudster_id,
            domain_id=domain_id,
            wrapped=b"sealed",
            watchlist_id=watchlist_ids[0],
            now=store.clock(),
        )
        for watchlist_id in watchlist_ids[1:]:
            watchlists.associate(connection, fraudster_id, watchlist_id, store.clock())
    return fraudster_id


def add_enrolled(service: ServiceProcess, domain_id: str, customer_id: str) -> None:
    """Store an enrolled speaker."""
    store = service.store
    with store.database.write() as connection:
        domain = domains.find_by_id(connection, domain_id)
        assert domain is not None
        keys = store.accounts.keys(domain.account_id)
        vault = open_vault(keys, domain_id, domain.arn, domain.data_key_wrapped)
        speaker_id = new_generated_id()
        seal = speakers.add(
            connection,
            vault,
            domain_id=domain_id,
            speaker_id=speaker_id,
            customer_id=customer_id,
            status="PENDING",
            now=store.clock(),
        )
        model_id = domain.model_id or shipped_encoder_id()
        entry = packaged_entry(model_id)
        assert entry is not None
        dimensions = int(entry["dimensions"])
        sample = made_sample((dimensions**-0.5,) * dimensions, model_id=model_id)
        speakers.enroll(connection, seal, speaker_id, sample, store.clock(), audio=b"fLaC")


def start_sessions(service: ServiceProcess, domain_id: str) -> dict[str, str]:
    """Start sessions that wait for their first stream: with a speaker, without one, with one who opted out,
    one whose stream may be ended, and one whose stream another process has. Returns their ids by name."""
    named: dict[str, dict[str, str]] = {
        "contact-1": {"SpeakerId": "enrolled"},
        "no-speaker": {},
        "opted-out": {"SpeakerId": "stays"},
        "to-end": {},
        "ongoing": {},
    }
    own, store = service.own_client(), service.store
    found = {
        name: own.start_session(DomainId=domain_id, SessionName=name, **more)["Session"]["SessionId"]
        for name, more in named.items()
    }
    with store.database.write() as connection:
        now = store.clock()
        session_streams.claim(connection, found["ongoing"], 1, "elsewhere", now, now + timedelta(hours=1))
    return found


def put_recording(service: ServiceProcess, recording: bytes) -> None:
    """Store the recording in the valid request of CompareRecording."""
    (service.data / "buckets" / "calls" / RECORDING).write_bytes(recording)


def hold_job(service: ServiceProcess, job_id: str) -> None:
    """Give a job to another runner for the next hour."""
    store = service.store
    values = {
        "status": "IN_PROGRESS",
        "ended_at": None,
        "lease_owner": "elsewhere",
        "lease_until": to_us(store.clock() + timedelta(hours=1)),
    }
    with store.database.write() as connection:
        connection.execute(update(schema.jobs).where(schema.jobs.c.job_id == job_id).values(values))


def add_registration_job(service: ServiceProcess, domain_id: str, kind: str = jobs.REGISTRATION) -> str:
    """Store a registration job, or one of another kind, that has ended."""
    store, job_id = service.store, new_id()
    with store.database.write() as connection:
        jobs.insert_job(
            connection,
            job_id=job_id,
            kind=kind,
            domain_id=domain_id,
            name_sealed=None,
            role_arn=ROLE,
            input_uri="s3://calls/absent.json",
            output_uri="s3://calls/results",
            output_kms_key=None,
            config={"DuplicateRegistrationAction": "SKIP", "FraudsterSimilarityThreshold": 50},
            now=store.clock(),
        )
        # In the same transaction: no runner may see it before.
        connection.execute(
            update(schema.jobs).where(schema.jobs.c.job_id == job_id).values(status="COMPLETED")
        )
    return job_id


def furnish(service: ServiceProcess) -> Furnished:
    """Create all that the requests need; takes three domains and two active jobs of the quotas."""
    api = service.voice_id
    first, other = service.domain("furnished"), service.domain("deleted")
    suspended = service.domain("suspended")
    api.delete_domain(DomainId=suspended)
    at: dict[str, Any] = {"DomainId": first}
    default = api.list_watchlists(**at)["WatchlistSummaries"][0]["WatchlistId"]
    known, empty = (
        api.create_watchlist(**at, Name=name)["Watchlist"]["WatchlistId"] for name in ("known", "empty")
    )
    on_one, on_two, gone = (
        add_fraudster(service, first, *lists) for lists in ((default,), (default, known), (default,))
    )
    for name in ("stays", "goes"):
        api.opt_out_speaker(**at, SpeakerId=name)
    add_enrolled(service, first, "enrolled")
    sessions = start_sessions(service, first)
    job_id = service.start_job(first)["JobId"]
    registration_id = add_registration_job(service, first)
    dry_run_id = add_registration_job(service, first, jobs.DRY_RUN)
    arn = {"ResourceArn": arn_of(first)}
    start = {
        "DataAccessRoleArn": ROLE,
        "InputDataConfig": {"S3Uri": "s3://calls/absent.json"},
        "OutputDataConfig": {"S3Uri": "s3://calls/results"},
    }
    requests: dict[str, dict[str, Any]] = {
        "RegisterComplianceConsent": {},
        "DescribeComplianceConsent": {},
        "CreateDomain": {"Name": "made", **ENCRYPTION},
        "DescribeDomain": at,
        "ListDomains": {},
        "UpdateDomain": {**at, "Name": "changed", **ENCRYPTION},
        "TagResource": {**arn, "Tags": [{"Key": "team", "Value": "north"}]},
        "ListTagsForResource": arn,
        "UntagResource": {**arn, "TagKeys": ["team"]},
        "DescribeWatchlist": {**at, "WatchlistId": known},
        "ListWatchlists": at,
        "UpdateWatchlist": {**at, "WatchlistId": known, "Name": "changed"},
        "DescribeFraudster": {**at, "FraudsterId": on_one},
        "ListFraudsters": {**at, "WatchlistId": default},
        "AssociateFraudster": {**at, "FraudsterId": on_one, "WatchlistId": known},
        "DisassociateFraudster": {**at, "FraudsterId": on_two, "WatchlistId": known},
        "DeleteFraudster": {**at, "FraudsterId": gone},
        "OptOutSpeaker": {**at, "SpeakerId": "new"},
        "DescribeSpeaker": {**at, "SpeakerId": "stays"},
        "ListSpeakers": at,
        "ListVoiceDuplicates": at,
        "ExportSpeaker": {**at, "SpeakerId": "enrolled"},
        "UnlockSpeaker": {**at, "SpeakerId": "enrolled"},
        "PutConsent": {
            **at,
            "SpeakerId": "enrolled",
            "TextHash": "0" * 64,
            "TextVersion": "2",
            "Purpose": "verification of callers",
            "Channel": "web page",
            "Evidence": "form 17",
            "GivenAt": 1_700_000_000,
            "ExpiresAt": 4_000_000_000,
        },
        "DescribeConsent": {**at, "SpeakerId": "enrolled"},
        "ListConsents": {**at, "SpeakerId": "enrolled"},
        "WithdrawConsent": {**at, "SpeakerId": "withdraws"},
        "PutPrivacyRules": {**at, "ConsentRequired": False},
        "DescribePrivacyRules": at,
        "ImportOptOuts": {**at, "SpeakerIds": ["one", "two"]},
        "CompareRecording": {
            **at,
            "DataAccessRoleArn": ROLE,
            "AudioSpecification": {"S3Uri": f"s3://calls/{RECORDING}", "ChannelId": 0},
            "SpeakerIds": ["enrolled"],
        },
        "StartSession": {**at, "SessionName": "contact-2"},
        "DescribeSession": {**at, "SessionNameOrId": "contact-1"},
        "ListSessions": at,
        "UpdateSession": {
            **at,
            "SessionNameOrId": sessions["contact-1"],
            "AuthenticationConfiguration": {"AcceptanceThreshold": 80},
        },
        "EnrollBySession": {**at, "SessionNameOrId": "contact-1"},
        "EvaluateSession": {**at, "SessionNameOrId": "contact-1"},
        "RestartStream": {**at, "SessionNameOrId": "ongoing"},
        "EndStream": {**at, "SessionNameOrId": "to-end"},
        "StartSpeakerEnrollmentJob": {**at, **start},
        "StartFraudsterRegistrationJob": {**at, **start},
        "DescribeSpeakerEnrollmentJob": {**at, "JobId": job_id},
        "StartEnrollmentDryRun": {**at, **start},
        "DescribeEnrollmentDryRun": {**at, "JobId": dry_run_id},
        "ListEnrollmentDryRuns": at,
        "StopJob": {**at, "JobId": registration_id},
        "ListSpeakerEnrollmentJobs": at,
        "DescribeFraudsterRegistrationJob": {**at, "JobId": registration_id},
        "ListFraudsterRegistrationJobs": at,
        "ListJobOutcomes": {**at, "JobId": job_id},
        "DescribeActivity": at,
        "DescribeDeletionReceipt": {**at, "SpeakerId": "stays"},
        "ListAuditRecords": {},
        "DescribeAuditTrail": {},
        "ListSettings": {},
        "ListKeys": {},
        "ListPrincipals": {},
        "DeleteSpeaker": {**at, "SpeakerId": "goes"},
        "DeleteWatchlist": {**at, "WatchlistId": empty},
        "CreateWatchlist": {**at, "Name": "made"},
        "DeleteDomain": {"DomainId": other},
        "RestoreDomain": {"DomainId": suspended},
    }
    return Furnished(
        domain_id=first,
        suspended_id=suspended,
        default_list=default,
        known_list=known,
        requests=json.loads(json.dumps(requests)),
    )
