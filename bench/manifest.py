"""Part `manifest`: a job over 100,000 requests whose audio is missing, so that only the engine works.

Each request is read, sealed, given to a worker, looked for, refused, sealed again and written to the result
file. What is measured is the engine's own speed and whether its memory grows with the manifest.
"""

from __future__ import annotations

import json
from pathlib import Path

import processes
from report import Outcome, Ratio, Size
from service import BUCKET, data_folder, serving

TARGET_RATE = 2_000.0
TARGET_RSS_MB = 300.0
LIMIT_S = 300.0


def measure(size: Size, _peers: bool) -> Outcome:
    count = size.pick(100_000, 10_000, 200)
    with data_folder() as data:
        _write_manifest(data / "buckets" / BUCKET / "manifest.json", count)
        quota = {"SONANT_QUOTAS_SPEAKERS_PER_ENROLLMENT_JOB": str(count)}
        with serving(data, quota) as service:
            runner = service.runner_pid()
            domain_id = service.create_domain()
            job_id = service.start_job(domain_id, "manifest.json")
            job = service.finished(domain_id, job_id, limit_s=LIMIT_S)
            if service.runner_pid() != runner:
                raise RuntimeError("the runner died and was replaced while the job ran")
            peak_mb = processes.peak_rss_bytes(runner) / 1e6
            runner_cpu_s = processes.cpu_s(runner)
            workers_cpu_s = sum(processes.cpu_s(pid) for pid in processes.children(runner))
        if job.status != "COMPLETED_WITH_ERRORS":
            raise RuntimeError(f"the job ended {job.status}, must end COMPLETED_WITH_ERRORS")
    return Outcome(
        ratios=[
            Ratio(
                part="manifest",
                name=f"speed of {count:,} requests without audio / 2,000 a second",
                ours=count / job.duration_s,
                theirs=TARGET_RATE,
                unit="requests/s",
                target=1.0,
                at_least=True,
            ),
            Ratio(
                part="manifest",
                name="the runner's peak memory / 300 MB",
                ours=peak_mb,
                theirs=TARGET_RSS_MB,
                unit="MB",
                target=1.0,
                at_least=False,
            ),
        ],
        details={
            "requests": count,
            "job_s": job.duration_s,
            "runner_cpu_s": runner_cpu_s,
            "workers_cpu_s": workers_cpu_s,
            "runner_peak_mb": peak_mb,
        },
    )


def _write_manifest(path: Path, count: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write('{"Version": "1.0", "SpeakerEnrollmentRequests": [\n')
        for number in range(count):
            request = {
                "RequestId": f"request-{number}",
                "SpeakerId": f"speaker-{number}",
                "AudioSpecifications": [{"S3Uri": f"s3://{BUCKET}/missing/{number}.wav", "ChannelId": 0}],
            }
            file.write(("" if number == 0 else ",\n") + json.dumps(request))
        file.write("\n]}\n")
