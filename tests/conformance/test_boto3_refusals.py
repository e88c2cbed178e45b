"""Who may call and whether the service takes calls at all, through boto3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import Credentials
from client_faults import code_of, refused
from service_process import ACCOUNT, KEY_ALIAS, NO_JOBS, REGION, ROLE, ServiceProcess, running

REQUEST = {"Name": "calls", "ServerSideEncryptionConfiguration": {"KmsKeyId": KEY_ALIAS}}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


# --- consent and load ---------------------------------------------------------------------------------


def test_without_consent_no_domain_is_made(data: Path) -> None:
    with running(data, BIOMETRIC_CONSENT="false", **NO_JOBS) as service:
        fault = refused(service.voice_id.create_domain, **REQUEST)
        assert (fault.code, fault.resource_type) == ("ResourceNotFoundException", "COMPLIANCE_CONSENT")
        assert service.voice_id.list_domains()["DomainSummaries"] == []


def test_when_no_call_may_wait_calls_are_throttled(data: Path) -> None:
    with running(data, GATEWAY_MAX_WAITING="0", **NO_JOBS) as service:
        assert refused(service.voice_id.list_domains).code == "ThrottlingException"
        # Both official clients come back by themselves, and say so.
        cli = service.aws("voice-id", "list-domains", AWS_MAX_ATTEMPTS="2", AWS_RETRY_MODE="standard")
        assert cli.code == 255
        assert "An error occurred (ThrottlingException) when calling the ListDomains operation" in cli.err
        assert "(reached max retries: 1)" in cli.err


# --- rights -------------------------------------------------------------------------------------------


@pytest.fixture
def limited(service: ServiceProcess) -> Any:
    """Makes clients of users with the given policies."""
    return lambda *statements: service.client(service.user(*statements))


def allow(*actions: str, resource: str = "*") -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource}


def test_a_user_without_the_right_gets_an_error_that_names_the_right(
    service: ServiceProcess, domain_id: str
) -> None:
    credentials = service.user(allow("voiceid:ListSpeakers", "kms:*"))
    client = service.client(credentials)
    assert client.list_speakers(DomainId=domain_id)["SpeakerSummaries"] == []
    fault = refused(client.opt_out_speaker, DomainId=domain_id, SpeakerId="secret")
    assert fault.code == "AccessDeniedException"
    listed = service.sonant("access", "list").out.splitlines()
    (arn,) = [line.split()[-1] for line in listed if line.startswith(credentials.access_key)]
    assert fault.message == (
        f"User: {arn} is not authorized to perform: voiceid:OptOutSpeaker on resource: "
        f"arn:aws:voiceid:{REGION}:{ACCOUNT}:domain/{domain_id}"
    )


def test_rights_hold_for_the_domains_they_name(service: ServiceProcess, domain_id: str, limited: Any) -> None:
    arn = f"arn:aws:voiceid:{REGION}:{ACCOUNT}:domain/{domain_id}"
    client = limited(allow("voiceid:*", resource=arn), allow("kms:*"))
    assert client.describe_domain(DomainId=domain_id)
    other_id = service.domain("other")
    # One answer for a domain that is not allowed and for one that is not there.
    for foreign in (other_id, "AbCdEfGhIjKlMnOpQrStUv"):
        fault = refused(client.describe_domain, DomainId=foreign)
        assert fault.code == "AccessDeniedException"
        assert fault.message.endswith(f"domain/{foreign}")
    assert refused(client.list_domains).code == "AccessDeniedException"


def test_a_denial_wins(service: ServiceProcess, domain_id: str, limited: Any) -> None:
    client = limited(allow("*"), {"Effect": "Deny", "Action": "voiceid:Delete*", "Resource": "*"})
    client.opt_out_speaker(DomainId=domain_id, SpeakerId="customer")
    fault = refused(client.delete_speaker, DomainId=domain_id, SpeakerId="customer")
    assert fault.code == "AccessDeniedException"


def test_the_domains_key_must_be_allowed_too(service: ServiceProcess, domain_id: str, limited: Any) -> None:
    client = limited(allow("voiceid:*"))
    for call, more in (
        (client.describe_domain, {}),
        (client.list_speakers, {}),
        (client.opt_out_speaker, {"SpeakerId": "customer"}),
    ):
        fault = refused(call, DomainId=domain_id, **more)
        assert fault.code == "AccessDeniedException"
        assert "kms:Decrypt" in fault.message
    fault = refused(client.create_domain, **REQUEST)
    assert (fault.code, "kms:" in fault.message) == ("AccessDeniedException", True)


def test_starting_a_job_needs_the_right_to_pass_the_role(
    service: ServiceProcess, domain_id: str, limited: Any
) -> None:
    client = limited(allow("voiceid:*", "kms:*"))
    fault = refused(
        client.start_speaker_enrollment_job,
        DomainId=domain_id,
        DataAccessRoleArn=ROLE,
        InputDataConfig={"S3Uri": "s3://calls/absent.json"},
        OutputDataConfig={"S3Uri": "s3://calls/results"},
    )
    assert fault.code == "AccessDeniedException"
    assert f"iam:PassRole on resource: {ROLE}" in fault.message


def test_making_a_domain_with_tags_needs_the_right_to_tag(limited: Any) -> None:
    client = limited(allow("voiceid:CreateDomain", "kms:*"))
    fault = refused(client.create_domain, **REQUEST, Tags=[{"Key": "secret", "Value": "secret"}])
    assert (fault.code, "voiceid:TagResource" in fault.message) == ("AccessDeniedException", True)
    assert "secret" not in fault.message
    assert client.create_domain(**REQUEST)["Domain"]


def test_validation_comes_before_rights(domain_id: str, limited: Any) -> None:
    client = limited(allow("voiceid:ListDomains"))
    fault = refused(client.describe_speaker, DomainId=domain_id, SpeakerId="_")
    assert fault.code == "ValidationException"


# --- access keys --------------------------------------------------------------------------------------


def test_access_keys_come_and_go_while_the_service_runs(service: ServiceProcess) -> None:
    made = dict(line.split() for line in service.sonant("access", "create").out.splitlines())
    key_id = made["aws_access_key_id"]
    client = service.client(Credentials(key_id, made["aws_secret_access_key"]))
    assert code_of(client.list_domains) == "OK"

    assert service.sonant("access", "disable", key_id).code == 0
    assert code_of(client.list_domains) == "UnrecognizedClientException"

    assert service.sonant("access", "enable", key_id).code == 0
    assert code_of(client.list_domains) == "OK"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"secret_key": "wrong"}, "InvalidSignatureException"),
        ({"access_key": "AKIANOBODY"}, "UnrecognizedClientException"),
        # A permanent key comes without a session token.
        ({"token": "made-up"}, "UnrecognizedClientException"),
    ],
)
def test_credentials_that_are_not_ours_are_refused(
    service: ServiceProcess, change: dict[str, str], code: str
) -> None:
    ours = {"access_key": service.credentials.access_key, "secret_key": service.credentials.secret_key}
    assert code_of(service.client(Credentials(**{**ours, **change})).list_domains) == code
