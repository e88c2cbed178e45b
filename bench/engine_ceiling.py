"""The batch engine without the voice: `python bench/engine_ceiling.py [--entries 100000] [--only ray]`.

Not part of `make bench`: it takes minutes. One enrollment job of so many new speakers is carried from its
manifest to its result file by a real runner, on SQLite with worker processes, on PostgreSQL with worker
processes, and on PostgreSQL with actors of a Ray cluster. Nobody listens: a worker answers every task at once
(`stub_workers`). So this is what a runner can commit at most, and what its memory does meanwhile. PostgreSQL
is one of our own with its default, durable settings; server, runner and workers share this machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import stub_workers
from clusters import NoCluster, own_network, ray_cluster
from report import add_size, machine
from service import BUCKET, data_folder, serving

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from postgres_server import NoServer, OwnServer

from sonant.assembly import jobs
from sonant.assembly.installation import migrate, open_store
from sonant.demo.recordings import ManifestEntry, write_manifest
from sonant.jobs.workers.engines.local import LocalEngine
from sonant.jobs.workers.engines.ray import RayEngine
from sonant.jobs.workers.ray_pool import Cluster
from sonant.settings import Audio, Fraud, Jobs, Quotas, Settings, loading
from sonant.settings.listing import variable_of

KINDS = ("sqlite-local", "postgresql-local", "postgresql-ray")
SAMPLE_S = 0.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_size(parser)
    parser.add_argument("--entries", type=int, help="requests of the job [100000, quick 10000, tiny 200]")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", action="append", choices=KINDS)
    parser.add_argument("--json", type=Path, help="write the figures here")
    asked = parser.parse_args()
    entries = asked.entries or asked.size.pick(100_000, 10_000, 200)
    figures: dict[str, Any] = {"machine": machine(), "entries": entries, "workers": asked.workers}
    with suppress(NoCluster):
        own_network()
    for kind in asked.only or KINDS:
        with data_folder() as data, ExitStack() as stack:
            try:
                figures[kind] = _measure(kind, entries, asked.workers, data, stack)
            except (NoCluster, NoServer) as why:
                figures[kind] = f"not measured: {why}"
        print(json.dumps({kind: figures[kind]}, indent=2), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=2) + "\n")


def _measure(kind: str, entries: int, workers: int, data: Path, stack: ExitStack) -> dict[str, Any]:
    settings = Settings(
        data=data,
        audio=replace(Audio(), keep=False),
        fraud=Fraud(spoofing_max_s=0, replay_recordings=0),
        jobs=Jobs(max_manifest_bytes=1 << 30, beside_service=False),
        quotas=Quotas(speakers_per_domain=2 * entries, speakers_per_enrollment_job=entries),
    )
    if kind.startswith("postgresql"):
        server = OwnServer(quick=False)
        stack.callback(server.close)
        settings = replace(settings, database=server.url)
        migrate(settings)
    address = stack.enter_context(ray_cluster(workers)) if kind.endswith("ray") else ""
    manifest = write_manifest(
        [
            ManifestEntry(request_id=f"r{n}", speaker_id=f"c{n}", audio=((f"s3://{BUCKET}/{n}.wav", 0),))
            for n in range(entries)
        ]
    )
    (data / "buckets" / BUCKET / "manifest.json").write_bytes(manifest)
    flags = loading.as_flags(settings)
    environment = {variable_of(name): str(value) for name, value in flags.items() if name != "gateway.port"}
    with serving(data, {**environment, "SONANT_RATES_FACTOR": "0"}) as service:
        domain_id = service.create_domain()
        job_id = service.start_job(domain_id, "manifest.json")
        ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        runner = context.Process(target=_run, args=(theirs, flags, workers, address))
        runner.start()
        theirs.close()
        samples, seconds = ours.recv()
        runner.join()
        job = service.finished(domain_id, job_id, limit_s=60.0)
        if job.status != "COMPLETED":
            raise RuntimeError(f"the job ended {job.status}, must end COMPLETED")
    at_work = [rss for done, rss in samples if 0 < done < entries]
    quarter = max(1, len(at_work) // 4)
    first, last = (sum(part) / len(part) for part in (at_work[:quarter], at_work[-quarter:]))
    begun_s, ended_s = seconds
    return {
        "entries_per_s": entries / ended_s,
        "entries_per_s_committed": entries / (ended_s - begun_s),
        "seconds": ended_s,
        "seconds_before_the_first_commit": begun_s,
        "runner_mib_first_quarter": first,
        "runner_mib_last_quarter": last,
        "runner_mib_most": max(rss for _, rss in samples),
    }


def _run(pipe: Connection, flags: dict[str, Any], workers: int, address: str) -> None:
    """One job in a process of its own; tells (entries done, MiB) over time, and (first commit, end) in s."""
    settings = loading.load(environment={}, flags=flags)
    store = open_store(settings)
    engine: Any = LocalEngine(stub_workers.work, (), workers=workers, time_limit_s=60.0)
    if address:
        engine = RayEngine(stub_workers.StubExecutor, (), Cluster(address=address), time_limit_s=60.0)
    runner = jobs.build_runner(store, "bench", engine=engine)
    samples: list[tuple[int, float]] = []
    ended = threading.Event()
    begun = time.monotonic()
    first_s = [0.0]

    def watch() -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while not ended.wait(SAMPLE_S):
            with store.database.read() as connection:
                done = connection.exec_driver_sql("SELECT max(entries_done) FROM jobs").scalar_one()
            if done and not first_s[0]:
                first_s[0] = time.monotonic() - begun
            rss = int(Path("/proc/self/statm").read_text().split()[1]) * page / (1 << 20)
            samples.append((done, rss))

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            assert runner.run_one()
            seconds = time.monotonic() - begun
        finally:
            ended.set()
    watching.result()
    engine.close()
    pipe.send((samples, (first_s[0], seconds)))
    store.database.close()


if __name__ == "__main__":
    main()
