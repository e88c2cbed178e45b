"""Rates, temporary credentials, accounts and conditions of policies, through boto3."""

from __future__ import annotations

import json
import re
import shlex
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import Credentials
from client_faults import code_of, refused
from sample_requests import ENCRYPTION, NOBODY, arn_of
from service_process import ACCOUNT, KEY_ALIAS, NO_JOBS, ROLE, ServiceProcess, running

from sonant.storage.repositories import access

OTHER_ACCOUNT = "222222222222"
ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}


# --- request rates ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service with the default rates."""
    with running(tmp_path_factory.mktemp("rated") / "data", RATES_FACTOR="1", **NO_JOBS) as service:
        yield service


@pytest.mark.xdist_group("rates")
class TestRates:
    def test_a_burst_of_five_is_allowed_and_the_next_call_throttled(self, rated: ServiceProcess) -> None:
        # Two a second: five calls take much less than the half second that brings another one.
        codes = [code_of(rated.voice_id.describe_domain, DomainId=NOBODY) for _ in range(8)]
        assert codes[:5] == ["ResourceNotFoundException"] * 5
        assert "ThrottlingException" in codes[5:]
        fault = throttled(rated.voice_id.describe_domain, DomainId=NOBODY)
        assert fault.message == "Rate exceeded"
        # Each operation has a rate of its own, and so has each account.
        assert rated.voice_id.list_domains()["DomainSummaries"] == []
        other = rated.client(rated.user(ALL, account=OTHER_ACCOUNT))
        assert code_of(other.describe_domain, DomainId=NOBODY) == "ResourceNotFoundException"

    @pytest.mark.parametrize("mode", ["legacy", "standard"])
    def test_the_client_comes_back_by_itself(self, rated: ServiceProcess, mode: str) -> None:
        # Made first: making a client takes so long on a busy machine that calls are allowed again.
        patient = rated.client(attempts=6, retry_mode=mode)
        attempts = 0
        for _ in range(20):  # a call may be allowed again before the client asks
            throttled(rated.voice_id.list_domains)
            answer = patient.list_domains()
            assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
            attempts = answer["ResponseMetadata"]["RetryAttempts"]
            if attempts:
                break
        assert attempts >= 1

    def test_a_wrong_request_counts_and_a_badly_signed_one_does_not(self, rated: ServiceProcess) -> None:
        wrong = rated.client(Credentials(rated.credentials.access_key, "wrong"))
        for _ in range(20):
            assert code_of(wrong.list_tags_for_resource, ResourceArn=arn_of(NOBODY)) == (
                "InvalidSignatureException"
            )
        codes = [code_of(rated.unchecked.list_tags_for_resource) for _ in range(8)]
        assert codes[:5] == ["ValidationException"] * 5
        assert "ThrottlingException" in codes


def throttled(call: Any, **parameters: Any) -> Any:
    """Call until it is throttled, and look at how."""
    for _ in range(50):
        if code_of(call, **parameters) == "ThrottlingException":
            return refused(call, **parameters)
    raise AssertionError("fifty calls were not throttled")


# --- temporary credentials ----------------------------------------------------------------------------


def assumed(service: ServiceProcess, role: str = ROLE) -> Credentials:
    done = service.sonant("access", "assume-role", role)
    assert done.code == 0, done.err
    words = [word for line in done.out.splitlines() for word in shlex.split(line, comments=True)]
    found = dict(word.split("=", 1) for word in words if "=" in word)
    return Credentials(found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"], found["AWS_SESSION_TOKEN"])


def expired(service: ServiceProcess) -> Credentials:
    """Credentials as they were made two hours ago."""
    store = service.store
    with store.database.write() as connection:
        made = access.create_temporary(
            connection, store.secret, ROLE, store.clock() - timedelta(hours=2), timedelta(hours=1)
        )
    return Credentials(made.access_key_id, made.secret, made.session_token)


def test_temporary_credentials_have_the_rights_of_their_role(service: ServiceProcess, tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    statement = {"Effect": "Allow", "Action": "voiceid:ListDomains", "Resource": "*"}
    policy.write_text(json.dumps({"Version": "2012-10-17", "Statement": statement}))
    made = service.sonant("access", "role", "put", "lister", "--policy", str(policy))
    assert (made.code, made.err) == (0, "")

    given = assumed(service, made.out.strip())

    assert given.access_key.startswith("ASIA")
    client = service.client(given)
    assert code_of(client.list_domains) == "OK"
    fault = refused(client.describe_domain, DomainId=NOBODY)
    assert (fault.code, "lister" in fault.message) == ("AccessDeniedException", True)


def test_temporary_credentials_are_refused_without_their_token(service: ServiceProcess) -> None:
    given, other = assumed(service), assumed(service)
    for token in (None, "made-up", other.token):
        client = service.client(Credentials(given.access_key, given.secret_key, token))
        assert code_of(client.list_domains) == "UnrecognizedClientException"


def test_temporary_credentials_end(service: ServiceProcess) -> None:
    assert code_of(service.client(expired(service)).list_domains) == "ExpiredTokenException"


@pytest.mark.parametrize(
    "arguments", [("--duration", "899"), ("--duration", "43201")], ids=["too short", "too long"]
)
def test_their_life_has_limits(service: ServiceProcess, arguments: tuple[str, ...]) -> None:
    done = service.sonant("access", "assume-role", ROLE, *arguments)
    assert (done.code != 0, done.out) == (True, "")


# --- accounts -----------------------------------------------------------------------------------------


def test_two_accounts_know_nothing_of_each_other(service: ServiceProcess, domain_id: str) -> None:
    theirs = service.client(service.user(ALL, account=OTHER_ACCOUNT))
    service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId="customer")

    assert theirs.list_domains()["DomainSummaries"] == []
    for call, parameters in (
        (theirs.describe_domain, {"DomainId": domain_id}),
        (theirs.delete_domain, {"DomainId": domain_id}),
        (theirs.describe_speaker, {"DomainId": domain_id, "SpeakerId": "customer"}),
        (theirs.list_tags_for_resource, {"ResourceArn": arn_of(domain_id)}),
        (theirs.list_tags_for_resource, {"ResourceArn": arn_of(domain_id, account=OTHER_ACCOUNT)}),
    ):
        fault = refused(call, **parameters)
        assert fault.code in ("ResourceNotFoundException", "AccessDeniedException")
        assert fault.message == refused(call, **unknown(parameters)).message.replace(NOBODY, domain_id)


def unknown(parameters: dict[str, str]) -> dict[str, str]:
    """The same about a domain that nobody has."""
    return {
        name: re.sub("[a-zA-Z0-9]{22}$", NOBODY, value) if name != "SpeakerId" else value
        for name, value in parameters.items()
    }


def test_a_key_of_another_account_is_not_there(service: ServiceProcess, domain_id: str) -> None:
    domain = service.voice_id.describe_domain(DomainId=domain_id)["Domain"]
    ours = domain["ServerSideEncryptionConfiguration"]["KmsKeyId"]
    theirs = service.client(service.user(ALL, account=OTHER_ACCOUNT))
    for key in (ours, ours.rpartition("/")[2], KEY_ALIAS):
        fault = refused(
            theirs.create_domain, Name="calls", ServerSideEncryptionConfiguration={"KmsKeyId": key}
        )
        assert fault.code == "ValidationException"


# --- conditions ---------------------------------------------------------------------------------------


def on(condition: dict[str, dict[str, Any]], *actions: str, effect: str = "Allow") -> dict[str, Any]:
    return {"Effect": effect, "Action": list(actions), "Resource": "*", "Condition": condition}


KEYS = {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}


def test_a_condition_on_the_domains_tag(service: ServiceProcess) -> None:
    north, south = (service.domain(Tags=[{"Key": "team", "Value": team}]) for team in ("north", "south"))
    condition = {"StringEquals": {"aws:ResourceTag/team": "north"}}
    client = service.client(service.user(on(condition, "voiceid:*"), KEYS))
    assert client.describe_domain(DomainId=north)
    assert refused(client.describe_domain, DomainId=south).code == "AccessDeniedException"
    assert refused(client.describe_domain, DomainId=NOBODY).code == "AccessDeniedException"
    # The condition holds by what the tag is now.
    service.voice_id.tag_resource(ResourceArn=arn_of(south), Tags=[{"Key": "team", "Value": "north"}])
    assert client.list_speakers(DomainId=south)["SpeakerSummaries"] == []
    service.voice_id.untag_resource(ResourceArn=arn_of(north), TagKeys=["team"])
    assert refused(client.describe_domain, DomainId=north).code == "AccessDeniedException"


def test_a_condition_on_the_requests_tags(service: ServiceProcess) -> None:
    condition: dict[str, dict[str, Any]] = {
        "StringEquals": {"aws:RequestTag/team": "north"},
        "ForAllValues:StringEquals": {"aws:TagKeys": ["team", "stage"]},
    }
    client = service.client(
        service.user(
            on(condition, "voiceid:CreateDomain"), {**KEYS, "Action": ["kms:*", "voiceid:TagResource"]}
        )
    )

    def code(**tags: str) -> str:
        members = [{"Key": key, "Value": value} for key, value in tags.items()]
        return code_of(client.create_domain, Name="calls", Tags=members, **ENCRYPTION)

    assert code(team="north") == code(team="north", stage="x") == "OK"
    assert code(team="south") == code() == code(team="north", colour="red") == "AccessDeniedException"


def test_a_condition_on_the_keys_that_are_taken_away(service: ServiceProcess, domain_id: str) -> None:
    condition = {"ForAnyValue:StringEquals": {"aws:TagKeys": ["owner"]}}
    deny = on(condition, "voiceid:UntagResource", effect="Deny")
    client = service.client(service.user(ALL, deny))
    arn = arn_of(domain_id)
    assert code_of(client.untag_resource, ResourceArn=arn, TagKeys=["team"]) == "OK"
    assert (
        code_of(client.untag_resource, ResourceArn=arn, TagKeys=["team", "owner"]) == "AccessDeniedException"
    )


@pytest.mark.parametrize(
    ("address", "code"), [("127.0.0.0/8", "OK"), ("10.0.0.0/8", "AccessDeniedException")]
)
def test_a_condition_on_the_callers_address(service: ServiceProcess, address: str, code: str) -> None:
    statement = on({"IpAddress": {"aws:SourceIp": address}}, "voiceid:*")
    client = service.client(service.user(statement))
    assert code_of(client.list_domains) == code


def test_a_policy_that_is_replaced_holds_at_once(service: ServiceProcess, tmp_path: Any) -> None:
    name = f"user-{uuid.uuid4()}"
    policy = tmp_path / "policy.json"
    policy.write_text('{"Version": "2012-10-17", "Statement": []}')
    assert service.sonant("access", "user", "put", name).code == 0
    made = dict(line.split() for line in service.sonant("access", "create", "--user", name).out.splitlines())
    client = service.client(Credentials(made["aws_access_key_id"], made["aws_secret_access_key"]))
    assert refused(client.list_domains).message.startswith(f"User: arn:aws:iam::{ACCOUNT}:user/{name} is")
    policy.write_text(
        '{"Version": "2012-10-17", '
        '"Statement": {"Effect": "Allow", "Action": "voiceid:List*", "Resource": "*"}}'
    )
    assert service.sonant("access", "user", "put", name, "--policy", str(policy)).code == 0
    assert code_of(client.list_domains) == "OK"
    assert service.sonant("access", "user", "delete", name, "--yes").code == 0
    assert code_of(client.list_domains) == "UnrecognizedClientException"
