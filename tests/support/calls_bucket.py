"""A bucket of recordings and a manifest of five requests, two of which end with a voiceprint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from job_service import ended_job

from sonant.demo.recordings import ManifestEntry, write_manifest

MANIFEST = write_manifest(
    [
        ManifestEntry(request_id="r1", speaker_id="c1", audio=(("s3://calls/english.wav", 0),)),
        ManifestEntry(request_id="r2", speaker_id="c2", audio=(("s3://calls/french.wav", 0),)),
        ManifestEntry(request_id="r3", speaker_id="c3", audio=(("s3://calls/short.wav", 0),)),
        ManifestEntry(request_id="r4", speaker_id="c4", audio=(("s3://calls/absent.wav", 0),)),
        ManifestEntry(request_id="r5", speaker_id="c5", audio=(("s3://no-such-bucket/x.wav", 0),)),
    ]
)


def enrolled(voice_id: Any, account: str, key: str, output_key: str | None = None) -> tuple[str, str]:
    """(domain id, name of the result file) of a job that was carried to its end."""
    domain = voice_id.create_domain(Name="calls", ServerSideEncryptionConfiguration={"KmsKeyId": key})
    domain_id = domain["Domain"]["DomainId"]
    job = ended_job(
        voice_id,
        DomainId=domain_id,
        DataAccessRoleArn=f"arn:aws:iam::{account}:role/sonant",
        InputDataConfig={"S3Uri": "s3://calls/jobs/manifest.json"},
        OutputDataConfig={"S3Uri": "s3://results/out", **({"KmsKeyId": output_key} if output_key else {})},
    )
    assert job["JobStatus"] == "COMPLETED_WITH_ERRORS", job
    assert len(voice_id.list_speakers(DomainId=domain_id)["SpeakerSummaries"]) == 2
    return domain_id, f"out/{job['JobId']}/manifest.json.out"


def furnish(buckets: Path, recordings: Mapping[str, bytes]) -> None:
    (buckets / "results").mkdir(parents=True, exist_ok=True)
    for name, data in recordings.items():
        file = buckets / "calls" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
