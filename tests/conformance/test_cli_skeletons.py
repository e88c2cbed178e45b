"""`--generate-cli-skeleton`: the promise of the help page, for every operation of the service model."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import regex
from botocore import xform_name
from botocore.model import ServiceModel, Shape
from service_process import Ended, ServiceProcess, environment, sonant

ID = "0123456789abcdefghiJKL"
ARN = f"arn:aws:voiceid:us-east-1:000000000000:domain/{ID}"

MODEL: ServiceModel = botocore.session.Session().get_service_model("voice-id")
OPERATIONS = sorted(MODEL.operation_names)

#: An option's value for every kind of member that some operation requires.
VALUES = {
    "AmazonResourceName": ARN,
    "DomainId": ID,
    "DomainName": "calls",
    "FraudsterId": f"id#{ID}",
    "IamRoleArn": "arn:aws:iam::000000000000:role/sonant",
    "InputDataConfig": "S3Uri=s3://calls/manifest.json",
    "JobId": ID,
    "OutputDataConfig": "S3Uri=s3://calls/results",
    "ServerSideEncryptionConfiguration": "KmsKeyId=alias/sonant",
    "SessionNameOrId": "contact-1",
    "SpeakerId": "customer-1",
    "TagKeyList": "team",
    "TagList": "Key=team,Value=north",
    "WatchlistId": ID,
    "WatchlistName": "known",
}


@pytest.fixture(scope="module")
def nowhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No data folder, no credentials: skeletons need neither."""
    return tmp_path_factory.mktemp("nowhere")


def run(nowhere: Path, *arguments: str) -> Ended:
    return sonant("voice-id", *arguments, env=environment(SONANT_DATA=str(nowhere / "none")), cwd=nowhere)


def options(operation: str) -> list[str]:
    """The required options of an operation's command."""
    shape = MODEL.operation_model(operation).input_shape
    given = []
    for member in shape.required_members:
        given += [f"--{xform_name(member, '-')}", VALUES[shape.members[member].name]]
    return given


def assert_obeys(value: Any, shape: Shape, place: str) -> None:
    """Check a value against the service model, all of whose members must be there."""
    limits = shape.metadata
    match shape.type_name:
        case "structure":
            assert set(value) == set(shape.members), place
            for name, member in shape.members.items():
                assert_obeys(value[name], member, f"{place}.{name}")
        case "list":
            assert limits.get("min", 0) <= len(value) <= limits.get("max", 1), place
            assert value, f"{place} shows nothing of its items"
            for item in value:
                assert_obeys(item, shape.member, f"{place}[]")
        case "string":
            assert limits.get("min", 0) <= len(value) <= limits.get("max", 10**6), f"{place}: {value!r}"
            if "pattern" in limits:
                pattern = limits["pattern"].replace(r"\p{ASCII}", r"[\x00-\x7f]")
                assert regex.fullmatch(pattern, value), f"{place}: {value!r}"
            if "enum" in limits:
                assert value in limits["enum"], place
        case "integer":
            assert type(value) is int, place
            assert limits.get("min", 0) <= value <= limits.get("max", 10**6), place
        case "boolean":
            assert type(value) is bool, place
        case "timestamp":
            assert datetime.fromisoformat(value), place
        case other:
            raise AssertionError(f"{place} is a {other}")


def test_the_model_has_the_operations_that_the_help_pages_list() -> None:
    assert len(OPERATIONS) == 29


#: An output that is flat, nested, a list, a map of results, and none at all; `test_samples` has every shape.
BY_DEFAULT = {
    "CreateDomain",
    "DeleteSpeaker",
    "DescribeSpeakerEnrollmentJob",
    "EvaluateSession",
    "ListTagsForResource",
}


@pytest.mark.parametrize(
    "operation",
    [pytest.param(name, marks=() if name in BY_DEFAULT else pytest.mark.slow) for name in OPERATIONS],
)
def test_the_output_skeleton_is_a_sample_that_obeys_the_model(nowhere: Path, operation: str) -> None:
    done = run(nowhere, xform_name(operation, "-"), *options(operation), "--generate-cli-skeleton", "output")

    assert (done.code, done.err) == (0, "")
    shape = MODEL.operation_model(operation).output_shape
    if shape is None or not shape.members:
        assert done.out in ("", "{}\n")
    else:
        assert_obeys(json.loads(done.out), shape, operation)


DESCRIBE = ("describe-speaker-enrollment-job", "--domain-id", ID, "--job-id", ID)


def test_the_output_skeleton_obeys_the_query_and_output_options(nowhere: Path) -> None:
    done = run(
        nowhere,
        *(*DESCRIBE, "--generate-cli-skeleton", "output"),
        *("--query", "Job.JobProgress.PercentComplete", "--output", "text"),
    )
    assert (done.code, done.out) == (0, "0\n")


def test_the_output_skeleton_reads_json_input(nowhere: Path) -> None:
    text = json.dumps({"DomainId": ID, "JobId": "too-short"})
    command = (
        "describe-speaker-enrollment-job",
        "--cli-input-json",
        text,
        "--generate-cli-skeleton",
        "output",
    )
    assert run(nowhere, *command, "--domain-id", ID, "--job-id", ID).code == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("describe-speaker-enrollment-job", "--domain-id", "short", "--job-id", ID),
            "Invalid length for parameter DomainId, value: 5, valid min length: 22",
        ),
        (  # what the AWS CLI leaves to the service
            ("describe-speaker-enrollment-job", "--domain-id", f"{ID[:-1]}!", "--job-id", ID),
            "'domainId' failed to satisfy constraint: Member must satisfy regular expression pattern",
        ),
        (
            (
                *("start-speaker-enrollment-job", "--domain-id", ID),
                *("--data-access-role-arn", "arn:aws:iam::000000000000:user/nobody"),
                *("--input-data-config", "S3Uri=s3://calls/x", "--output-data-config", "S3Uri=s3://calls/y"),
            ),
            "'dataAccessRoleArn' failed to satisfy constraint",
        ),
        (("list-speakers", "--domain-id", ID, "--page-size", "0"), ""),
    ],
)
def test_wrong_input_is_refused_with_255(nowhere: Path, arguments: tuple[str, ...], told: str) -> None:
    done = run(nowhere, *arguments, "--generate-cli-skeleton", "output")
    assert (done.code, done.out) == (255, "")
    assert "Parameter validation failed" in done.err
    assert told in done.err


def test_a_missing_option_stops_the_output_skeleton_with_2(nowhere: Path) -> None:
    done = run(
        nowhere, "describe-speaker-enrollment-job", "--domain-id", ID, "--generate-cli-skeleton", "output"
    )
    assert (done.code, done.out) == (2, "")
    assert done.err.rstrip().endswith("the following arguments are required: --job-id")


@pytest.mark.parametrize("value", [(), ("input",)])
def test_the_input_skeleton_needs_no_options(nowhere: Path, value: tuple[str, ...]) -> None:
    done = run(nowhere, "describe-speaker-enrollment-job", "--generate-cli-skeleton", *value)
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == {"DomainId": "", "JobId": ""}


def test_a_filled_in_input_skeleton_runs_the_command(service: ServiceProcess, domain_id: str) -> None:
    skeleton = json.loads(service.sonant("voice-id", "describe-domain", "--generate-cli-skeleton").out)
    assert skeleton == {"DomainId": ""}
    skeleton["DomainId"] = domain_id
    done = service.sonant("voice-id", "describe-domain", "--cli-input-json", json.dumps(skeleton))
    assert json.loads(done.out)["Domain"]["DomainId"] == domain_id


def test_call_without_service_says_what_to_do(nowhere: Path) -> None:
    done = run(nowhere, "list-domains")
    assert (done.code, done.out) == (255, "")
    assert "start `sonant serve" in done.err
