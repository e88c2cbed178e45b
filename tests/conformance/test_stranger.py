"""A script written for AWS, run as it is: only the environment says that the endpoint is another one."""

from __future__ import annotations

import json
import sys

import pytest
from sample_requests import arn_of
from service_process import KEY_ALIAS, REGION, ROLE, ServiceProcess, ended, environment

SCRIPT = """
import json
import sys
import time

import boto3

key, role, people = sys.argv[1:]
people = int(people)
voice = boto3.client("voice-id")
domain = voice.create_domain(
    Name="helpline",
    Description="Callers of the helpline",
    ServerSideEncryptionConfiguration={"KmsKeyId": key},
    Tags=[{"Key": "team", "Value": "north"}],
)["Domain"]
at = {"DomainId": domain["DomainId"]}
vip = voice.create_watchlist(**at, Name="seen-twice")["Watchlist"]
voice.update_watchlist(**at, WatchlistId=vip["WatchlistId"], Description="seen twice or more")
voice.tag_resource(ResourceArn=domain["Arn"], Tags=[{"Key": "stage", "Value": "trial"}])
voice.untag_resource(ResourceArn=domain["Arn"], TagKeys=["team"])
job = voice.start_speaker_enrollment_job(
    **at,
    JobName="first",
    DataAccessRoleArn=role,
    InputDataConfig={"S3Uri": "s3://calls/absent.json"},
    OutputDataConfig={"S3Uri": "s3://calls/results"},
)["Job"]
for number in range(people):
    voice.opt_out_speaker(**at, SpeakerId=f"caller-{number}")

# Page through them while others come and go.
before = {f"caller-{number}" for number in range(people)}
gone, seen = set(), []
pages = voice.get_paginator("list_speakers").paginate(**at, PaginationConfig={"PageSize": people // 25})
for turn, page in enumerate(pages):
    seen += [item["CustomerSpeakerId"] for item in page["SpeakerSummaries"]]
    for number in (turn * 3, people - 1 - turn * 3):
        voice.delete_speaker(**at, SpeakerId=f"caller-{number}")
        gone.add(f"caller-{number}")
    voice.opt_out_speaker(**at, SpeakerId=f"late-{turn}")

while job["JobStatus"] in ("SUBMITTED", "IN_PROGRESS"):
    time.sleep(0.1)
    job = voice.describe_speaker_enrollment_job(**at, JobId=job["JobId"])["Job"]
tags = voice.list_tags_for_resource(ResourceArn=domain["Arn"])["Tags"]
try:
    voice.describe_speaker(**at, SpeakerId="nobody")
except voice.exceptions.ResourceNotFoundException as fault:
    missing = fault.response["ResourceType"]
voice.delete_domain(**at)
print(json.dumps({
    "domain": domain["DomainId"],
    "job": job["JobStatus"],
    "tags": tags,
    "lists": len(voice.list_domains()["DomainSummaries"]) > 0,
    "missing": missing,
    "twice": sorted(one for one in set(seen) if seen.count(one) > 1),
    "skipped": sorted(before - gone - set(seen)),
    "pages": turn + 1,
    "status": voice.describe_domain(**at)["Domain"]["DomainStatus"],
}))
"""


@pytest.mark.parametrize("people", [150, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_script_for_aws_runs_unchanged(service: ServiceProcess, people: int) -> None:
    done = ended(
        [sys.executable, "-c", SCRIPT, KEY_ALIAS, ROLE, str(people)],
        environment(
            AWS_ENDPOINT_URL_VOICE_ID=service.url,
            AWS_ACCESS_KEY_ID=service.credentials.access_key,
            AWS_SECRET_ACCESS_KEY=service.credentials.secret_key,
            AWS_DEFAULT_REGION=REGION,
        ),
        cwd=service.data.parent,
    )
    assert (done.code, done.err) == (0, "")
    told = json.loads(done.out)
    assert told.pop("pages") >= 25
    domain_id = told.pop("domain")
    assert told == {
        "job": "FAILED",
        "lists": True,
        "missing": "SPEAKER",
        "skipped": [],
        "status": "SUSPENDED",
        "tags": [{"Key": "stage", "Value": "trial"}],
        "twice": [],
    }
    kept = service.voice_id.list_tags_for_resource(ResourceArn=arn_of(domain_id))["Tags"]
    assert kept == told["tags"]
