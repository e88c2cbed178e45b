"""Calls by the AWS CLI and by `sonant voice-id`: both must show the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from service_process import KEY_ALIAS, ROLE, Ended, ServiceProcess

NOBODY = "AbCdEfGhIjKlMnOpQrStUv"
Run = Callable[..., Ended]


@pytest.fixture(params=["aws", "sonant"])
def run(request: pytest.FixtureRequest, service: ServiceProcess) -> Run:
    """Runs a voice-id command."""
    command: Callable[..., Ended] = getattr(service, request.param)
    return lambda *arguments, **env: command("voice-id", *arguments, **env)


def test_a_domain_from_shorthand_is_shown_as_json(run: Run, service: ServiceProcess) -> None:
    done = run(
        *("create-domain", "--name", "by-cli", "--description", "by the command line"),
        *("--server-side-encryption-configuration", f"KmsKeyId={KEY_ALIAS}"),
        *("--tags", "Key=team,Value=north", "Key=stage,Value="),
    )
    assert (done.code, done.err) == (0, "")
    shown = json.loads(done.out)
    assert list(shown) == ["Domain"]
    found = service.voice_id.describe_domain(DomainId=shown["Domain"]["DomainId"])["Domain"]
    # The AWS CLI, version 1, shows times as they came over the wire.
    times = {name: found[name].timestamp() for name in ("CreatedAt", "UpdatedAt")}
    assert shown["Domain"] == {**found, **{name: pytest.approx(time) for name, time in times.items()}}


@pytest.mark.parametrize(
    ("output", "query", "wanted"),
    [
        ("text", "Domain.[DomainStatus,Name]", "ACTIVE\tcalls\n"),
        ("json", "Domain.[DomainStatus,Description]", '[\n    "ACTIVE",\n    null\n]\n'),
    ],
)
def test_output_and_query(run: Run, domain_id: str, output: str, query: str, wanted: str) -> None:
    done = run("describe-domain", "--domain-id", domain_id, "--output", output, "--query", query)
    assert (done.code, done.out) == (0, wanted)


def test_a_table(run: Run, domain_id: str) -> None:
    done = run("describe-domain", "--domain-id", domain_id, "--output", "table")
    assert done.code == 0
    assert "DescribeDomain" in done.out
    assert any(line.split() == ["||", "DomainStatus", "|", "ACTIVE", "||"] for line in done.out.splitlines())


@pytest.mark.parametrize(
    "flags",
    [
        ("--output", "text", "voice-id"),
        ("voice-id", "--output", "text"),
        ("--quiet", "voice-id", "--no-color"),
    ],
    ids=" ".join,
)
def test_common_flags_stand_before_the_operation(
    service: ServiceProcess, domain_id: str, flags: tuple[str, ...]
) -> None:
    query = ("--query", "Domain.[DomainStatus,Name]")
    done = service.sonant(*flags, "describe-domain", "--domain-id", domain_id, *query)
    shown = "ACTIVE\tcalls\n" if "text" in flags else '[\n    "ACTIVE",\n    "calls"\n]\n'
    assert (done.code, done.out, done.err) == (0, shown, "")


def test_another_data_folder_is_named_before_the_operation(service: ServiceProcess, tmp_path: Path) -> None:
    done = service.sonant("voice-id", "--data", str(tmp_path), "list-domains")
    assert done.code == 255
    assert f"{tmp_path}/credentials does not exist" in done.err


def test_a_delete_command_prints_nothing(run: Run, service: ServiceProcess, domain_id: str) -> None:
    service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId="customer")
    done = run("delete-speaker", "--domain-id", domain_id, "--speaker-id", "customer")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert service.voice_id.list_speakers(DomainId=domain_id)["SpeakerSummaries"] == []


def test_a_job_is_started_and_described(run: Run, service: ServiceProcess, domain_id: str) -> None:
    started = run(
        *("start-speaker-enrollment-job", "--domain-id", domain_id, "--job-name", "by-cli"),
        *("--data-access-role-arn", ROLE, "--input-data-config", "S3Uri=s3://calls/absent.json"),
        *("--output-data-config", f"S3Uri=s3://calls/results,KmsKeyId={KEY_ALIAS}"),
        *("--enrollment-config", '{"FraudDetectionConfig": {"RiskThreshold": 7}}'),
    )
    assert (started.code, started.err) == (0, "")
    job = json.loads(started.out)["Job"]
    assert (job["JobStatus"], job["JobName"]) == ("SUBMITTED", "by-cli")
    assert job["EnrollmentConfig"]["FraudDetectionConfig"]["RiskThreshold"] == 7
    service.ended_job(domain_id, job["JobId"])
    polled = run(
        *("describe-speaker-enrollment-job", "--domain-id", domain_id, "--job-id", job["JobId"]),
        *("--query", "Job.[JobStatus,FailureDetails.StatusCode]", "--output", "text"),
    )
    assert polled.out == "FAILED\t404\n"


def test_a_registration_is_started_described_and_listed(
    run: Run, service: ServiceProcess, domain_id: str
) -> None:
    started = run(
        *("start-fraudster-registration-job", "--domain-id", domain_id, "--job-name", "by-cli"),
        *("--data-access-role-arn", ROLE, "--input-data-config", "S3Uri=s3://calls/absent.json"),
        *("--output-data-config", f"S3Uri=s3://calls/results,KmsKeyId={KEY_ALIAS}"),
        *("--registration-config", "DuplicateRegistrationAction=REGISTER_AS_NEW"),
    )
    assert (started.code, started.err) == (0, "")
    job = json.loads(started.out)["Job"]
    assert job["RegistrationConfig"] == {
        "DuplicateRegistrationAction": "REGISTER_AS_NEW",
        "FraudsterSimilarityThreshold": 50,
    }
    service.ended_registration(domain_id, job["JobId"])
    polled = run(
        *("describe-fraudster-registration-job", "--domain-id", domain_id, "--job-id", job["JobId"]),
        *("--query", "Job.[JobStatus,FailureDetails.StatusCode]", "--output", "text"),
    )
    assert polled.out == "FAILED\t404\n"
    listed = run(
        *("list-fraudster-registration-jobs", "--domain-id", domain_id, "--job-status", "FAILED"),
        *("--query", "JobSummaries[].JobId", "--output", "text"),
    )
    assert listed.out == f"{job['JobId']}\n"


# --- errors -------------------------------------------------------------------------------------------


def test_a_service_error_is_one_line_and_255(run: Run, domain_id: str) -> None:
    done = run("describe-speaker", "--domain-id", domain_id, "--speaker-id", "nobody")
    assert (done.code, done.out) == (255, "")
    begin = "An error occurred (ResourceNotFoundException) when calling the DescribeSpeaker operation: "
    assert done.err.strip().startswith(begin)
    assert len(done.err.strip().splitlines()) == 1
    assert "ResourceType" not in done.err


def test_client_checks_minimum_lengths_and_service_the_rest(run: Run) -> None:
    short = run("describe-domain", "--domain-id", "short")
    assert short.code == 255
    assert "Invalid length for parameter DomainId, value: 5, valid min length: 22" in short.err
    wrong = run("describe-domain", "--domain-id", NOBODY[:-1] + "!")
    assert wrong.code == 255
    assert "An error occurred (ValidationException) when calling the DescribeDomain operation" in wrong.err


def test_an_unsigned_call_is_refused(run: Run) -> None:
    done = run("list-domains", "--no-sign-request")
    assert done.code == 255
    assert "(MissingAuthenticationTokenException)" in done.err
    assert "Request is missing Authentication Token" in done.err


# --- --cli-input-json ---------------------------------------------------------------------------------


def test_options_override_json_input(run: Run, domain_id: str) -> None:
    text = json.dumps({"DomainId": NOBODY})
    done = run(
        *("describe-domain", "--cli-input-json", text, "--domain-id", domain_id),
        *("--query", "Domain.DomainId", "--output", "text"),
    )
    assert (done.code, done.out) == (0, f"{domain_id}\n")
    alone = run(
        "describe-domain", "--cli-input-json", json.dumps({"DomainId": domain_id}), "--output", "text"
    )
    assert (alone.code, domain_id in alone.out) == (0, True)


def test_input_from_a_file(run: Run, domain_id: str, tmp_path: Path) -> None:
    file = tmp_path / "input.json"
    file.write_text(json.dumps({"DomainId": domain_id, "SpeakerId": "from-a-file"}))
    done = run(
        *("opt-out-speaker", "--cli-input-json", f"file://{file}"),
        *("--query", "Speaker.CustomerSpeakerId", "--output", "text"),
    )
    assert (done.code, done.out) == (0, "from-a-file\n")


# --- faults that never reach the service: the AWS CLI's own words and codes -----------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--cli-input-json", "not json"], 255, "Error parsing parameter 'cli-input-json': Invalid JSON"),
        (
            ["--cli-input-json", json.dumps({"DomainId": NOBODY, "Colour": "red"})],
            255,
            'Unknown parameter in input: "Colour", must be one of: DomainId',
        ),
        (["--cli-input-json", "{}"], 255, 'Missing required parameter in input: "DomainId"'),
        (["--cli-input-json", '{"DomainId": 7}'], 255, "Invalid type for parameter DomainId"),
        (["--cli-input-json", "file:///nowhere/input.json"], 255, "/nowhere/input.json"),
        ([], 2, "error: the following arguments are required: --domain-id"),
        (["--domain-id", NOBODY, "--colour", "red"], 255, "Unknown options: --colour, red"),
        (["--generate-cli-skeleton", "yaml-input"], 2, "Invalid choice, valid choices are:"),
    ],
)
def test_wrong_usage_is_reported_without_a_call(
    service: ServiceProcess, arguments: list[str], code: int, told: str
) -> None:
    done = service.sonant("voice-id", "describe-domain", *arguments)
    assert (done.code, done.out) == (code, "")
    assert told in done.err


@pytest.mark.parametrize("operation", ["describe-everything", "DescribeDomain", "", "--version-of-nothing"])
def test_unknown_command_prints_usage_and_exits_2(service: ServiceProcess, operation: str) -> None:
    done = service.sonant("voice-id", operation)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("usage: ")


# --- the settings of a user's own AWS set-up ----------------------------------------------------------


def test_users_aws_settings_do_not_apply(service: ServiceProcess, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("[default]\nregion = eu-west-1\noutput = text\nendpoint_url = http://127.0.0.1:1\n")
    done = service.sonant(
        *("voice-id", "list-domains", "--max-items", "1"),
        AWS_ACCESS_KEY_ID="AKIAELSEWHERE",
        AWS_SECRET_ACCESS_KEY="elsewhere",
        AWS_SESSION_TOKEN="elsewhere",
        AWS_PROFILE="nobody",
        AWS_REGION="eu-west-1",
        AWS_DEFAULT_REGION="eu-west-1",
        AWS_ENDPOINT_URL="http://127.0.0.1:1",
        AWS_CONFIG_FILE=str(config),
        http_proxy="http://127.0.0.1:1",
        NO_PROXY="example.org",
    )
    assert (done.code, done.err) == (0, "")
    assert "DomainSummaries" in json.loads(done.out)
