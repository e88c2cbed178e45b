"""Two Regions in one service, told apart by what calls are signed for, on the wire, in jobs and in calls."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from carried_calls import opened, stream_url
from carried_calls import refused as refused_stream
from client_faults import refused
from fault_scenarios import NAME_A_DOMAIN
from sample_requests import OWN, Furnished, furnish, method
from service_process import ACCOUNT, KEY_ALIAS, REGION, ROLE, ServiceProcess, running
from waiting import PATIENCE_S, wait_until

from sonant.demo.recordings import ManifestEntry, write_manifest

pytestmark = pytest.mark.xdist_group("regions")

LONDON = "eu-west-2"
PASSWORD = "a password of some length"
NEW = {"Name": "calls", "ServerSideEncryptionConfiguration": {"KmsKeyId": KEY_ALIAS}}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with running(
        tmp_path_factory.mktemp("regions") / "data",
        REGIONS=LONDON,
        EVENTS_SINKS="file",
        EVENTS_POLL_S="0.05",
        QUOTAS_DOMAINS_PER_ACCOUNT="10",
        QUOTAS_WATCHLISTS_PER_DOMAIN="10",
        QUOTAS_ACTIVE_ENROLLMENT_JOBS_PER_DOMAIN="10",
        JOBS_POLL_S="0.05",
        JOBS_WORKERS="1",
        LIVE_ASTERISK_USER="pbx",
        LIVE_ASTERISK_PASSWORD=PASSWORD,
    ) as service:
        (service.data / "buckets" / "calls").mkdir()
        yield service


@pytest.fixture(scope="module")
def first(service: ServiceProcess) -> Furnished:
    """What the first Region has."""
    return furnish(service)


@pytest.fixture(scope="module")
def london(service: ServiceProcess) -> Any:
    return service.client(region=LONDON)


@pytest.fixture(scope="module")
def domain_id(london: Any) -> str:
    """A domain in London."""
    return str(london.create_domain(**NEW)["Domain"]["DomainId"])


@pytest.mark.parametrize("operation", sorted(NAME_A_DOMAIN))
def test_no_operation_finds_the_other_regions_domain(
    service: ServiceProcess, first: Furnished, operation: str
) -> None:
    client = (service.own_client if operation in OWN else service.client)(region=LONDON)
    fault = refused(method(client, operation), **first.requests[operation])
    assert (fault.code, fault.resource_type) == ("ResourceNotFoundException", "DOMAIN")


def test_each_region_lists_its_own(
    service: ServiceProcess, first: Furnished, london: Any, domain_id: str
) -> None:
    assert [one["DomainId"] for one in london.list_domains()["DomainSummaries"]] == [domain_id]
    ours = [one["DomainId"] for one in service.voice_id.list_domains()["DomainSummaries"]]
    assert first.domain_id in ours
    assert domain_id not in ours


def test_call_for_an_unserved_region_is_refused_naming_the_setting(
    service: ServiceProcess,
) -> None:
    with pytest.raises(Exception, match=rf"'eu-west-1'.* serves {REGION}, {LONDON}: .*\(SONANT_REGIONS\)"):
        service.client(region="eu-west-1").list_domains()


def test_a_policy_may_allow_one_region_only(service: ServiceProcess) -> None:
    user = service.user(
        {
            "Effect": "Allow",
            "Action": "*",
            "Resource": "*",
            "Condition": {"StringEquals": {"aws:RequestedRegion": LONDON}},
        }
    )
    assert service.client(user, region=LONDON).list_domains()["DomainSummaries"] is not None
    assert refused(service.client(user).list_domains).code == "AccessDeniedException"


def test_a_job_runs_in_its_region_and_its_sealed_result_is_read_back(
    service: ServiceProcess, london: Any, domain_id: str, recording: bytes
) -> None:
    bucket = service.data / "buckets" / "calls"
    (bucket / "ada.wav").write_bytes(recording)
    entry = ManifestEntry(request_id="r", speaker_id="ada", audio=(("s3://calls/ada.wav", 0),))
    (bucket / "manifest.json").write_bytes(write_manifest([entry]))
    job_id = london.start_speaker_enrollment_job(
        DomainId=domain_id,
        DataAccessRoleArn=ROLE,
        InputDataConfig={"S3Uri": "s3://calls/manifest.json"},
        OutputDataConfig={"S3Uri": "s3://calls/results", "KmsKeyId": KEY_ALIAS},
    )["Job"]["JobId"]
    waiting = ServiceProcess(data=service.data, process=service.process)
    waiting.__dict__["voice_id"] = london
    job = waiting.ended_job(domain_id, job_id)
    assert "FailureDetails" not in job
    read = service.sonant("object", "get", f"s3://calls/results/{job_id}/manifest.json.out")
    assert {"Errors", "SuccessfulEnrollments"} <= set(json.loads(read.out)), read.err
    watched = service.sonant("job", "watch", job_id, "--quiet", SONANT_REGION=LONDON)
    assert watched.out.splitlines()[0] == f"{job_id} {job['JobStatus']}", watched.err


def test_events_and_the_audit_trail_tell_the_region(
    service: ServiceProcess, first: Furnished, london: Any, domain_id: str
) -> None:
    london.describe_domain(DomainId=domain_id)
    service.voice_id.describe_domain(DomainId=first.domain_id)
    shown = service.sonant("audit", "show", "--operation", "DescribeDomain", "--json")
    told = {
        (line["awsRegion"], line["resources"][0]["ARN"])
        for line in map(json.loads, shown.out.splitlines())
        if "errorCode" not in line
    }
    assert (LONDON, f"arn:aws:voiceid:{LONDON}:{ACCOUNT}:domain/{domain_id}") in told
    assert (REGION, f"arn:aws:voiceid:{REGION}:{ACCOUNT}:domain/{first.domain_id}") in told
    assert {region for region, arn in told if domain_id in arn} == {LONDON}


def test_events_come_from_the_region_of_their_domain(
    service: ServiceProcess, first: Furnished, london: Any, domain_id: str
) -> None:
    london.opt_out_speaker(DomainId=domain_id, SpeakerId="of-london")
    service.voice_id.opt_out_speaker(DomainId=first.domain_id, SpeakerId="of-the-first")
    wanted = {domain_id: LONDON, first.domain_id: REGION}
    path = service.data / "events" / "events.jsonl"

    def found() -> dict[str, str]:
        told = map(json.loads, path.read_text().splitlines() if path.exists() else [])
        return {one["detail"]["domainId"]: one["region"] for one in told if "Speaker" in one["detail-type"]}

    wait_until(lambda: f"{wanted}, not {found()}", lambda: found() == wanted)


# --- calls --------------------------------------------------------------------------------------------


def start(service: ServiceProcess, domain_id: str) -> dict[str, str]:
    """A session of London that waits for its call."""
    name = str(uuid.uuid4())
    service.own_client(region=LONDON).start_session(DomainId=domain_id, SessionName=name)
    return {"DomainId": domain_id, "SessionNameOrId": name}


def status(service: ServiceProcess, of: dict[str, str]) -> str:
    return str(service.own_client(region=LONDON).describe_session(**of)["Session"]["StreamingStatus"])


def test_a_stream_finds_the_domain_of_the_region_it_is_signed_for(
    service: ServiceProcess, domain_id: str
) -> None:
    session = start(service, domain_id)
    assert refused_stream(stream_url(service, session)).fault == "ResourceNotFoundException"
    with opened(stream_url(service, session, region=LONDON)) as connection:
        assert json.loads(connection.recv(timeout=PATIENCE_S))["type"] == "begun"


def test_a_carrier_finds_the_domain_in_whatever_region_it_is(service: ServiceProcess, domain_id: str) -> None:
    session = start(service, domain_id)
    known = base64.b64encode(f"pbx:{PASSWORD}".encode()).decode()
    url = f"ws://127.0.0.1:{service.port}/stream/asterisk?domain={domain_id}&session={session['SessionNameOrId']}"
    headers = {"Authorization": f"Basic {known}"}
    with opened(url, subprotocols=["media"], additional_headers=headers) as connection:
        connection.send("MEDIA_START connection_id:a channel:WebSocket/b format:ulaw optimal_frame_size:160")
        connection.send(bytes(160))
        wait_until("the call is on", lambda: status(service, session) == "ONGOING")
    told = service.sonant(
        "audit", "show", "--operation", "StreamAudio", "--principal", "carrier", "--json"
    ).out
    assert [json.loads(line)["awsRegion"] for line in told.splitlines()] == [LONDON]


def test_the_page_of_a_session_asks_in_its_region(service: ServiceProcess, domain_id: str) -> None:
    session = service.own_client(region=LONDON).describe_session(**start(service, domain_id))["Session"]
    key, place = service.credentials, session["SessionId"].removeprefix("id#")
    with httpx.Client(base_url=service.url) as web:
        web.post("/sign-in", data={"access-key-id": key.access_key, "secret-access-key": key.secret_key})
        shown = web.get(f"/sessions/{place}/state").json()
    assert shown["DescribeSession"]["Session"]["SessionId"] == session["SessionId"]
