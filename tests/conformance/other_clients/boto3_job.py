"""The main job through whatever boto3 runs it, old ones too: prints the job and its status."""

import os
import time

import boto3

client = boto3.client("voice-id", endpoint_url=os.environ["VOICE_ID_ENDPOINT"])
key = {"KmsKeyId": os.environ["KEY"]}
made = client.create_domain(Name="boto3", ServerSideEncryptionConfiguration=key)
at = {"DomainId": made["Domain"]["DomainId"]}
started = client.start_speaker_enrollment_job(
    DataAccessRoleArn=os.environ["ROLE"],
    InputDataConfig={"S3Uri": os.environ["MANIFEST"]},
    OutputDataConfig={"S3Uri": os.environ["RESULTS"], **key},
    **at,
)
at["JobId"] = started["Job"]["JobId"]
while True:
    job = client.describe_speaker_enrollment_job(**at)["Job"]
    if "EndedAt" in job:
        print(job["JobId"], job["JobStatus"])
        break
    time.sleep(0.2)
