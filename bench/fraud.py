"""Part `fraud`: what fraud detection costs an enrollment job.

The same recordings in two jobs of one service: with IGNORE, which runs no spoofing detector and takes no
fingerprint, and with FAIL. Benchmark speakers are cut from a few voices, so many of them are refused as
replays; that does not shorten the work, which is done before anything is decided.
"""

from __future__ import annotations

import os

import processes
from calls import recordings
from report import Outcome, Ratio, Size
from service import BUCKET, Running, data_folder, serving
from sonant.demo.recordings import ManifestEntry, write_manifest

TARGET = 0.5
LIMIT_S = 600.0


def measure(size: Size, _peers: bool) -> Outcome:
    paths = recordings(size.pick(200, 40, 4), 1)
    with data_folder() as data:
        bucket = data / "buckets" / BUCKET
        entries = []
        for speaker, (path,) in enumerate(paths):
            os.link(path, bucket / path.name)
            name = f"speaker-{speaker}"
            audio = ((f"s3://{BUCKET}/{path.name}", 0),)
            entries.append(ManifestEntry(request_id=name, speaker_id=name, audio=audio))
        (bucket / "manifest.json").write_bytes(write_manifest(entries))
        with serving(data) as service:
            # Ignored before and after, so that a change in the machine's load meets both sides.
            before_s, before_cpu_s = _job_s(service, "IGNORE")
            guarded_s, guarded_cpu_s = _job_s(service, "FAIL")
            after_s, after_cpu_s = _job_s(service, "IGNORE")
    ignored_s, ignored_cpu_s = (before_s + after_s) / 2, (before_cpu_s + after_cpu_s) / 2
    return Outcome(
        ratios=[
            Ratio(
                part="fraud",
                name="enrollment with fraud detection / without",
                ours=len(paths) / guarded_s,
                theirs=len(paths) / ignored_s,
                unit="recordings/s",
                target=TARGET,
                at_least=True,
                note=f"{len(paths)} recordings, 30 s of net speech each",
            ),
            Ratio(
                part="fraud",
                name="the same by processor time",
                ours=len(paths) / guarded_cpu_s,
                theirs=len(paths) / ignored_cpu_s,
                unit="recordings/s",
                target=TARGET,
                at_least=True,
                note="of the runner and its workers; holds on a busy machine too",
            ),
        ],
        details={
            "recordings": len(paths),
            "guarded_s": guarded_s,
            "ignored_s": [before_s, after_s],
            "guarded_cpu_s": guarded_cpu_s,
            "ignored_cpu_s": [before_cpu_s, after_cpu_s],
        },
    )


def _job_s(service: Running, action: str) -> tuple[float, float]:
    """How long a job takes, and its processor time."""
    domain_id, begun_cpu_s = service.create_domain(), _cpu_s(service.runner_pid())
    job = service.finished(domain_id, service.start_job(domain_id, "manifest.json", action), limit_s=LIMIT_S)
    if not job.status.startswith("COMPLETED"):
        raise RuntimeError(f"the job ended {job.status}, must end COMPLETED")
    return job.duration_s, _cpu_s(service.runner_pid()) - begun_cpu_s


def _cpu_s(runner: int) -> float:
    return processes.cpu_s(runner) + sum(processes.cpu_s(pid) for pid in processes.children(runner))
