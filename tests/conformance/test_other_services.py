"""A program whose AWS_ENDPOINT_URL points here asks other services too: each client shows what is said."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from service_process import REGION, ServiceProcess, environment

LARGE = bytes(2 * 1024 * 1024)
#: One service for each protocol and for each form in which one is spoken, and what it is asked.
CALLS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "query": ("sts", lambda sts: sts.get_caller_identity()),
    "query, another": ("iam", lambda iam: iam.list_roles()),
    "ec2": ("ec2", lambda ec2: ec2.describe_instances()),
    "rest-xml, S3": ("s3", lambda s3: s3.list_buckets()),
    "rest-xml, an object": ("s3", lambda s3: s3.get_object(Bucket="calls", Key="a b.wav")),
    "rest-xml, a large object": ("s3", lambda s3: s3.put_object(Bucket="calls", Key="a", Body=LARGE)),
    "rest-xml, others": ("route53", lambda dns: dns.list_hosted_zones()),
    "json 1.1": ("kms", lambda kms: kms.describe_key(KeyId="alias/calls")),
    "json 1.1, events": ("events", lambda events: events.put_events(Entries=[{"Detail": "{}"}])),
    "json 1.0": ("dynamodb", lambda tables: tables.list_tables()),
    "json 1.0, query before": ("sqs", lambda queues: queues.list_queues()),
    "rest-json": ("connect", lambda connect: connect.list_instances()),
    "rest-json, a post": ("lambda", lambda functions: functions.invoke(FunctionName="f", Payload=b"{}")),
    "cbor": ("cloudwatch", lambda metrics: metrics.list_metrics()),
}


def told(service: ServiceProcess, name: str, call: Callable[[Any], Any], **config: Any) -> dict[str, Any]:
    """The error as the client of a service read it."""
    key = service.credentials
    client = boto3.client(
        name,
        region_name=REGION,
        endpoint_url=service.url,
        aws_access_key_id=key.access_key,
        aws_secret_access_key=key.secret_key,
        config=Config(retries={"total_max_attempts": 1}, proxies={}, inject_host_prefix=False, **config),
    )
    with pytest.raises(ClientError) as raised:
        call(client)
    answer: dict[str, Any] = raised.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert str(raised.value).endswith(answer["Error"]["Message"])  # what a program prints
    return dict(answer["Error"])


@pytest.mark.parametrize("form", CALLS)
def test_a_client_of_another_service_reads_which_variable_to_set(service: ServiceProcess, form: str) -> None:
    name, call = CALLS[form]
    error = told(service, name, call)
    assert error["Code"] == "UnknownOperationException"
    signing_name = "monitoring" if name == "cloudwatch" else name
    assert error["Message"] == (
        f"This is Sonant, which serves voice-id only, and not {signing_name}. AWS_ENDPOINT_URL sends the "
        "calls of all services here: set AWS_ENDPOINT_URL_VOICE_ID instead."
    )


def test_a_call_of_sts_that_is_never_signed_is_reported_too(service: ServiceProcess) -> None:
    role = {"RoleArn": f"arn:aws:iam::{'0' * 12}:role/web", "RoleSessionName": "me"}
    error = told(
        service,
        "sts",
        lambda sts: sts.assume_role_with_web_identity(**role, WebIdentityToken="a token"),
        signature_version=UNSIGNED,
    )
    assert "AWS_ENDPOINT_URL_VOICE_ID" in error["Message"]


def test_the_cli_prints_it(service: ServiceProcess) -> None:
    done = service.aws("sts", "get-caller-identity")
    assert done.code == 255
    assert "set AWS_ENDPOINT_URL_VOICE_ID instead." in done.err


def test_the_variable_that_is_named_sends_voice_id_here_and_nothing_else(
    service: ServiceProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in os.environ.keys() - environment().keys():
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL_VOICE_ID", service.url)
    key = service.credentials
    session = boto3.Session(key.access_key, key.secret_key, region_name=REGION)
    assert "DomainSummaries" in session.client("voice-id").list_domains()
    assert session.client("sts").meta.endpoint_url.endswith(".amazonaws.com")


def test_a_failed_signature_of_voice_id_is_no_call_for_others(service: ServiceProcess) -> None:
    """Only the service in the scope counts, not that something is wrong."""
    wrong = service.client(Credentials("AKIANOBODY", "secret"))
    with pytest.raises(ClientError) as raised:
        wrong.list_domains()
    assert raised.value.response["Error"]["Code"] == "UnrecognizedClientException"
