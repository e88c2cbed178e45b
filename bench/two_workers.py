"""Two workers against one on real audio: `python bench/two_workers.py [--speakers 160] [--only local]`.

Not part of `make bench`. The same enrollment job of calls of 60 s through a real service, with one worker and
with two, in turns (1, 2, 2, 1), so that a change in the machine's load meets both; the first job of each
service warms the workers up and is not counted. Two workers should do at least 1.8 times as much. Service,
runner, database and, with Ray, the cluster take part in the same cores.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from calls import recordings
from clusters import NoCluster, own_network, ray_cluster
from report import add_size, machine
from service import BUCKET, Running, data_folder, serving
from sonant.demo.recordings import ManifestEntry, write_manifest

ENGINES = ("local", "ray")
TURNS = (1, 2, 2, 1)
EACH = 3
TARGET = 1.8
LIMIT_S = 900.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_size(parser)
    parser.add_argument("--speakers", type=int, help="three recordings each [160, quick 40, tiny 4]")
    parser.add_argument("--only", choices=ENGINES)
    parser.add_argument("--json", type=Path, help="write the figures here")
    asked = parser.parse_args()
    speakers = asked.speakers or asked.size.pick(160, 40, 4)
    figures: dict[str, Any] = {"machine": machine(), "recordings": speakers * EACH, "target": TARGET}
    paths = recordings(speakers, EACH)
    with suppress(NoCluster):
        own_network()
    for engine in [asked.only] if asked.only else ENGINES:
        try:
            figures[engine] = _measure(engine, paths, asked.size.pick(TURNS, TURNS, (1, 2)))
        except NoCluster as why:
            figures[engine] = f"not measured: {why}"
        print(json.dumps({engine: figures[engine]}, indent=2), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=2) + "\n")


def _measure(engine: str, paths: list[list[Path]], turns: Sequence[int]) -> dict[str, Any]:
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for workers in turns:
        with data_folder() as data:
            _furnish(data / "buckets" / BUCKET, paths)
            if engine == "local":
                with serving(data, {"SONANT_JOBS_WORKERS": str(workers)}) as service:
                    seconds[workers].append(_timed(service))
                continue
            # The service makes what identifies the data folder, and the hosts of the cluster compare it.
            with serving(data, {"SONANT_JOBS_BESIDE_SERVICE": "false"}):
                pass
            with ray_cluster(workers, {"SONANT_DATA": str(data)}) as address:
                environment = {"SONANT_ENGINE": "ray", "SONANT_RAY_ADDRESS": address}
                with serving(data, environment) as service:
                    seconds[workers].append(_timed(service))
    one, two = (sum(seconds[workers]) / len(seconds[workers]) for workers in (1, 2))
    count = sum(map(len, paths))
    return {
        "seconds": {str(workers): found for workers, found in seconds.items()},
        "recordings_per_s": {"1": count / one, "2": count / two},
        "two_to_one": one / two,
        "holds": one / two >= TARGET,
    }


def _furnish(bucket: Path, paths: list[list[Path]]) -> None:
    entries = []
    for speaker, own in enumerate(paths):
        for path in own:
            os.link(path, bucket / path.name)
        audio = tuple((f"s3://{BUCKET}/{path.name}", 0) for path in own)
        entries.append(ManifestEntry(request_id=f"r{speaker}", speaker_id=f"c{speaker}", audio=audio))
    (bucket / "manifest.json").write_bytes(write_manifest(entries))
    (bucket / "warm.json").write_bytes(write_manifest(entries[:4]))


def _timed(service: Running) -> float:
    for manifest in ("warm.json", "manifest.json"):
        domain_id = service.create_domain()
        job = service.finished(domain_id, service.start_job(domain_id, manifest), limit_s=LIMIT_S)
        if job.status != "COMPLETED":
            raise RuntimeError(f"the job ended {job.status}, must end COMPLETED")
    return job.duration_s


if __name__ == "__main__":
    main()
