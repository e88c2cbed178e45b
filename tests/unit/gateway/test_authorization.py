"""Authorization: action, resource, and the context of policy conditions."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from sqlite_template import put_tables

from sonant.assembly import installation, workers
from sonant.errors import AccessDenied
from sonant.gateway.authorization import authorize
from sonant.gateway.models import load_models
from sonant.iam import ALLOW_ALL, parse
from sonant.operations import OPERATIONS
from sonant.operations.service import Caller, Service
from sonant.settings import Settings
from sonant.storage.repositories.access import Principal

MODELS = load_models()
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ACCOUNT = "0" * 12
ARN = f"arn:aws:voiceid:us-east-1:{ACCOUNT}:domain/"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/reader"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    settings = Settings(data=tmp_path_factory.mktemp("testbed") / "data")
    put_tables(settings.data / "sonant.db")
    store = installation.open_store(settings, create=True)
    installation.first_start(store)
    yield Service(
        settings=settings,
        database=store.database,
        keys_of=store.accounts.keys,
        secret=store.secret,
        listener=workers.LocalListener(store),
        clock=store.clock,
    )
    store.database.close()


def caller(*statements, arn=f"arn:aws:iam::{ACCOUNT}:user/anna", account=ACCOUNT, tags=None):
    texts = [json.dumps({"Version": "2012-10-17", "Statement": list(statements)})] if statements else []
    policies = tuple(parse(text) for text in texts)
    return Caller(
        principal=Principal(arn=arn, account_id=account, policies=policies, tags=tags or {}),
        region="us-east-1",
    )


def allow(action, resource="*", **condition):
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    return {**statement, "Condition": condition} if condition else statement


@pytest.fixture(scope="module")
def domain_id(service):
    every = Principal(
        arn=f"arn:aws:iam::{ACCOUNT}:user/a", account_id=ACCOUNT, policies=(parse(ALLOW_ALL),), tags={}
    )
    answer = OPERATIONS["CreateDomain"](
        service,
        Caller(principal=every, region="us-east-1"),
        {
            "Name": "calls",
            "ServerSideEncryptionConfiguration": {"KmsKeyId": "alias/sonant"},
            "Tags": [{"Key": "team", "Value": "fraud"}],
        },
    )
    assert answer is not None
    return answer["Domain"]["DomainId"]


def authorized(service, who, operation, *, source_ip="10.1.2.3", secure=False, **parameters):
    prefix = "VoiceID" if f"VoiceID.{operation}" in MODELS.operations else "Sonant"
    return authorize(
        MODELS.find(f"{prefix}.{operation}"),
        parameters,
        who,
        service,
        source_ip=source_ip,
        secure=secure,
        now=NOW,
    )


def refusal(service, who, operation, **how):
    with pytest.raises(AccessDenied) as raised:
        authorized(service, who, operation, **how)
    return raised.value.message


@pytest.mark.parametrize("target", sorted(MODELS.operations))
def test_every_operation_requires_the_action_of_its_name(service, target):
    operation = target.partition(".")[2]
    action = f"{'voiceid' if target.startswith('VoiceID.') else 'sonant'}:{operation}"
    authorized(service, caller(allow(action)), operation)
    everything_else = caller(allow("*"), {"Effect": "Deny", "Action": action, "Resource": "*"})
    assert f"is not authorized to perform: {action} on resource: *" in refusal(
        service, everything_else, operation
    )


def test_a_caller_without_policies_is_denied_everything(service):
    assert refusal(service, caller(), "ListDomains") == (
        f"User: arn:aws:iam::{ACCOUNT}:user/anna is not authorized to perform: voiceid:ListDomains "
        "on resource: *"
    )


def test_the_resource_is_the_domain_arn_in_the_callers_account(service, domain_id):
    one = caller(allow("voiceid:*", ARN + domain_id))
    authorized(service, one, "DescribeDomain", DomainId=domain_id)
    authorized(service, one, "ListTagsForResource", ResourceArn=ARN + domain_id)
    assert refusal(service, one, "DescribeDomain", DomainId="b" * 22).endswith(ARN + "b" * 22)
    other = caller(allow("voiceid:*", ARN + domain_id), account="1" * 12)
    assert f":{'1' * 12}:domain/" in refusal(service, other, "DescribeDomain", DomainId=domain_id)


def test_denial_is_the_same_whether_or_not_the_domain_exists(service, domain_id):
    absent = "b" * 22
    message = refusal(service, caller(), "DescribeDomain", DomainId=domain_id)
    assert message.replace(domain_id, absent) == refusal(service, caller(), "DescribeDomain", DomainId=absent)


def test_a_role_in_a_request_requires_pass_role(service, domain_id):
    start = {"DomainId": domain_id, "DataAccessRoleArn": ROLE}
    start_job = allow("voiceid:StartSpeakerEnrollmentJob")
    authorized(service, caller(start_job, allow("iam:PassRole", ROLE)), "StartSpeakerEnrollmentJob", **start)
    for more in ([], [allow("iam:PassRole", ROLE + "2")]):
        message = refusal(service, caller(start_job, *more), "StartSpeakerEnrollmentJob", **start)
        assert message.endswith(f"iam:PassRole on resource: {ROLE}")


def test_tags_of_the_domain_decide_on_no_role_and_no_key(service, domain_id):
    start = {"DomainId": domain_id, "DataAccessRoleArn": ROLE}
    tagged = {"StringEquals": {"aws:ResourceTag/team": "fraud"}}
    who = caller(allow("voiceid:*", **tagged), allow("iam:PassRole", **tagged), allow("kms:*", **tagged))
    message = refusal(service, who, "StartSpeakerEnrollmentJob", **start)
    assert message.endswith(f"iam:PassRole on resource: {ROLE}")
    assert not authorized(service, who, "DescribeDomain", DomainId=domain_id).may("kms:Decrypt", "k")


def test_tags_that_a_request_sets_decide_on_no_key(service):
    who = caller(allow("voiceid:*"), allow("kms:*", StringEquals={"aws:RequestTag/team": "fraud"}))
    made = authorized(service, who, "CreateDomain", Tags=[{"Key": "team", "Value": "fraud"}])
    assert not made.may("kms:CreateGrant", "k")
    assert made.may("voiceid:TagResource", "*")


@pytest.mark.parametrize(
    ("principal", "holds"), [("voiceid.amazonaws.com", True), ("s3.amazonaws.com", False)]
)
def test_pass_role_reads_the_service_that_the_role_is_passed_to(service, domain_id, principal, holds):
    start = {"DomainId": domain_id, "DataAccessRoleArn": ROLE}
    passed = {"StringEquals": {"iam:PassedToService": principal}}
    who = caller(allow("voiceid:*"), allow("iam:PassRole", ROLE, **passed))
    if holds:
        authorized(service, who, "StartSpeakerEnrollmentJob", **start)
    else:
        refusal(service, who, "StartSpeakerEnrollmentJob", **start)


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"StringEquals": {"kms:ViaService": "voiceid.us-east-1.amazonaws.com"}}, True),
        ({"StringEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}}, False),
        ({"StringEquals": {"kms:CallerAccount": ACCOUNT}}, True),
        ({"StringEquals": {"kms:EncryptionContext:aws:voiceid:domain:arn": f"{ARN}one"}}, True),
        ({"StringEquals": {"kms:EncryptionContext:aws:voiceid:domain:arn": f"{ARN}two"}}, False),
        ({"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "aws:voiceid:domain:arn"}}, True),
    ],
)
def test_use_of_a_key_reads_the_keys_of_kms(service, condition, holds):
    who = authorized(service, caller(allow("voiceid:*"), allow("kms:*", **condition)), "ListDomains")
    assert who.may("kms:Decrypt", "k", domain_arn=f"{ARN}one") == holds


def test_grant_is_one_for_an_aws_service(service):
    own = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    who = authorized(service, caller(allow("voiceid:*"), allow("kms:*", **own)), "ListDomains")
    assert who.may("kms:CreateGrant", "k")
    assert not who.may("kms:Decrypt", "k")


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"IpAddress": {"aws:SourceIp": "10.1.0.0/16"}}, True),
        ({"IpAddress": {"aws:SourceIp": "10.2.0.0/16"}}, False),
        ({"Bool": {"aws:SecureTransport": "false"}}, True),
        ({"Bool": {"aws:SecureTransport": "true"}}, False),
        ({"DateLessThan": {"aws:CurrentTime": "2026-03-01T12:00:01Z"}}, True),
        ({"DateLessThan": {"aws:CurrentTime": "2026-03-01T12:00:00Z"}}, False),
        ({"StringEquals": {"aws:RequestedRegion": "us-east-1"}}, True),
        ({"StringEquals": {"aws:RequestedRegion": "eu-west-2"}}, False),
        ({"StringEquals": {"aws:username": "anna"}}, True),
        ({"StringEquals": {"aws:PrincipalAccount": ACCOUNT}}, True),
        ({"StringEquals": {"aws:PrincipalTag/desk": "7"}}, True),
        ({"StringEquals": {"aws:PrincipalTag/desk": "8"}}, False),
        ({"StringEquals": {"aws:ResourceTag/team": "fraud"}}, True),
        ({"StringEquals": {"aws:ResourceTag/team": "sales"}}, False),
        ({"StringEquals": {"aws:ResourceTag/other": "fraud"}}, False),
    ],
)
def test_conditions_read_the_context_of_the_request(service, domain_id, condition, holds):
    who = caller(allow("voiceid:*", **condition), tags={"desk": "7"})
    if holds:
        authorized(service, who, "DescribeDomain", DomainId=domain_id)
    else:
        refusal(service, who, "DescribeDomain", DomainId=domain_id)


def test_a_role_has_no_user_name_in_its_context(service):
    who = caller(allow("voiceid:*", StringLike={"aws:username": "*"}), arn=ROLE)
    refusal(service, who, "ListDomains")


def test_tags_of_an_absent_domain_satisfy_no_condition(service):
    who = caller(allow("voiceid:*", StringLike={"aws:ResourceTag/team": "*"}))
    refusal(service, who, "DescribeDomain", DomainId="b" * 22)


def test_conditions_read_the_tags_of_the_request(service, domain_id):
    arn = ARN + domain_id
    brings = caller(allow("voiceid:*", StringEquals={"aws:RequestTag/team": "fraud"}))
    authorized(service, brings, "TagResource", ResourceArn=arn, Tags=[{"Key": "team", "Value": "fraud"}])
    refusal(service, brings, "TagResource", ResourceArn=arn, Tags=[{"Key": "team", "Value": "sales"}])
    refusal(service, brings, "TagResource", ResourceArn=arn, Tags=[{"Key": "desk", "Value": "fraud"}])
    only = {"ForAllValues:StringEquals": {"aws:TagKeys": ["team", "desk"]}}
    names = caller(allow("voiceid:*", **only))
    authorized(service, names, "UntagResource", ResourceArn=arn, TagKeys=["team"])
    refusal(service, names, "UntagResource", ResourceArn=arn, TagKeys=["team", "owner"])


def test_the_context_stays_with_the_caller_for_later_checks(service, domain_id):
    office = allow("kms:Decrypt", IpAddress={"aws:SourceIp": "10.0.0.0/8"})
    who = caller(allow("voiceid:*"), office)
    assert authorized(service, who, "DescribeDomain", DomainId=domain_id).may("kms:Decrypt", "k")
    away = authorized(service, who, "DescribeDomain", DomainId=domain_id, source_ip="192.0.2.1")
    assert not away.may("kms:Decrypt", "k")
