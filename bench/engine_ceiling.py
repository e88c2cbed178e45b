"""Part `ceiling`, the batch engine without the voice: `python bench/engine_ceiling.py [--entries 1000000]`.

One enrollment job of so many new speakers is carried from its manifest to its result file by a real runner,
on SQLite with worker processes, on PostgreSQL with worker processes, and on PostgreSQL with actors of a Ray
cluster. Nobody listens: a worker answers every task at once (`stub_workers`). So this is what a runner can
commit at most, and what its memory does meanwhile. PostgreSQL is one of our own with its default, durable
settings; server, runner and workers share this machine. The result file is read, and must have each request
once, in the manifest's order.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import ijson

import processes
import stub_workers
from clusters import NoCluster, own_network, ray_cluster
from report import Outcome, Ratio, Size, add_size, machine
from service import BUCKET, Running, data_folder, serving

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from postgres_server import NoServer, OwnServer

from sonant.assembly import jobs
from sonant.assembly.installation import migrate, open_store
from sonant.jobs.workers.engines.local import MESSAGE_MOST, LocalEngine
from sonant.jobs.workers.engines.ray import RayEngine
from sonant.jobs.workers.ray_pool import Cluster
from sonant.settings import Audio, Fraud, Jobs, Quotas, Settings, loading
from sonant.settings.listing import variable_of

#: What a runner is to commit at least, in requests a second, from the job's start to its end.
GOALS = {"sqlite-local": 5_000, "postgresql-local": 3_000, "postgresql-ray": 2_500}
MOST_MIB = 200.0
DRIVER_CPU_MS = 0.2
SAMPLE_S = 0.25
LIMIT_S = 600.0
CALLS_BEFORE, CALL_S = 60, 0.05


def measure(size: Size, _peers: bool) -> Outcome:
    """Measure all kinds in a process of its own, which goes into a network of its own."""
    with tempfile.TemporaryDirectory(prefix="ceiling-") as folder:
        written = Path(folder) / "figures.json"
        subprocess.run(
            [sys.executable, __file__, "--size", size, "--json", str(written)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        figures = json.loads(written.read_text())
    ratios = []
    for kind, goal in GOALS.items():
        found = figures[kind]
        if isinstance(found, str):
            continue
        what = f"{kind}, {figures['entries']:,} requests without hearing"
        ratios += [
            _ratio(f"{what} / {goal:,} a second", found["entries_per_s"], goal, "requests/s", at_least=True),
            _ratio(f"{kind}: runner's memory at most / 200 MiB", found["runner_mib_most"], MOST_MIB, "MiB"),
        ]
        if "driver_cpu_ms_per_request" in found:
            spent = found["driver_cpu_ms_per_request"]
            ratios.append(_ratio(f"{kind}: driver's CPU of a request / 0.2 ms", spent, DRIVER_CPU_MS, "ms"))
    return Outcome(ratios=ratios, details={kind: figures[kind] for kind in GOALS})


def _ratio(name: str, ours: float, limit: float, unit: str, *, at_least: bool = False) -> Ratio:
    return Ratio(part="ceiling", name=name, ours=ours, theirs=limit, unit=unit, target=1.0, at_least=at_least)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_size(parser)
    parser.add_argument("--entries", type=int, help="requests of the job [100000, quick 10000, tiny 200]")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", action="append", choices=GOALS)
    parser.add_argument(
        "--calls", action="store_true", help="measure calls that write to the same domain, too"
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    asked = parser.parse_args()
    entries = asked.entries or asked.size.pick(100_000, 10_000, 200)
    figures: dict[str, Any] = {"machine": machine(), "entries": entries, "workers": asked.workers}
    os.environ.update(processes.ONE_THREAD)  # the runner, in a process that is spawned, gets it
    with suppress(NoCluster):
        own_network()
    for kind in asked.only or GOALS:
        with data_folder() as data, ExitStack() as stack:
            try:
                figures[kind] = _measure(kind, entries, asked.workers, data, stack, calls=asked.calls)
            except (NoCluster, NoServer) as why:
                figures[kind] = f"not measured: {why}"
        print(json.dumps({kind: figures[kind]}, indent=2), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=2) + "\n")


def _measure(
    kind: str, entries: int, workers: int, data: Path, stack: ExitStack, *, calls: bool = False
) -> dict[str, Any]:
    settings = Settings(
        data=data,
        encoder="ge2e",
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
    _write_manifest(data / "buckets" / BUCKET / "manifest.json", entries)
    flags = loading.as_flags(settings)
    environment = {variable_of(name): str(value) for name, value in flags.items() if name != "gateway.port"}
    with serving(data, {**environment, "SONANT_RATES_FACTOR": "0"}) as service:
        domain_id = service.create_domain()
        caller = Caller(service, domain_id)
        if calls:
            caller.call(CALLS_BEFORE)
        job_id = service.start_job(domain_id, "manifest.json")
        ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        runner = context.Process(target=_run, args=(theirs, flags, workers, address))
        runner.start()
        theirs.close()
        while calls and not ours.poll():
            caller.call(1, during=True)
        samples, seconds, cpu_s = ours.recv()
        runner.join()
        job = service.finished(domain_id, job_id, limit_s=LIMIT_S)
        if job.status != "COMPLETED":
            raise RuntimeError(f"the job ended {job.status}, must end COMPLETED")
    _check_result(data / "buckets" / BUCKET / "results" / job_id / "manifest.json.out", entries)
    at_work = [rss for done, rss in samples if 0 < done < entries]
    quarter = max(1, len(at_work) // 4)
    first, last = (sum(part) / len(part) for part in (at_work[:quarter], at_work[-quarter:]))
    begun_s, ended_s = seconds
    return {
        "entries_per_s": entries / ended_s,
        **{f"{name}_cpu_ms_per_request": 1000 * spent / entries for name, spent in cpu_s.items()},
        "entries_per_s_committed": entries / (ended_s - begun_s),
        "seconds": ended_s,
        "seconds_before_the_first_commit": begun_s,
        "runner_mib_first_quarter": first,
        "runner_mib_last_quarter": last,
        "runner_mib_most": max(rss for _, rss in samples),
        **(caller.figures() if calls else {}),
    }


class Caller:
    """Opts speakers out of a domain, one every CALL_S, which takes the domain's lock and writes."""

    def __init__(self, service: Running, domain_id: str) -> None:
        self._client, self._domain_id = service.client(), domain_id
        self._milliseconds: dict[bool, list[float]] = {False: [], True: []}

    def call(self, count: int, *, during: bool = False) -> None:
        """Make calls one after the other, before the job or during it."""
        for _ in range(count):
            found = self._milliseconds[during]
            begun_s = time.monotonic()
            name = f"{'during' if during else 'before'}-{len(found)}"
            self._client.opt_out_speaker(DomainId=self._domain_id, SpeakerId=name)
            found.append(1000 * (time.monotonic() - begun_s))
            time.sleep(CALL_S)

    def figures(self) -> dict[str, Any]:
        """Milliseconds of a call: median, 95th percentile and the longest."""
        return {
            f"writing_calls_{'during' if during else 'before'}_ms": {
                "calls": len(found),
                "p50": sorted(found)[len(found) // 2],
                "p95": sorted(found)[len(found) * 95 // 100],
                "most": max(found),
            }
            for during, found in self._milliseconds.items()
            if found
        }


def _write_manifest(path: Path, entries: int) -> None:
    with path.open("w") as file:
        file.write('{"Version": "1.0", "SpeakerEnrollmentRequests": [')
        for number in range(entries):
            audio = [{"S3Uri": f"s3://{BUCKET}/{number}.wav", "ChannelId": 0}]
            one = {"RequestId": f"r{number}", "SpeakerId": f"c{number}", "AudioSpecifications": audio}
            file.write(("," if number else "") + "\n" + json.dumps(one))
        file.write("\n]}\n")


def _check_result(path: Path, entries: int) -> None:
    """Raise RuntimeError unless each request was enrolled once, in the manifest's order."""
    speakers, count = set(), 0
    with path.open("rb") as file:
        for number, line in enumerate(ijson.items(file, "SuccessfulEnrollments.item")):
            wanted = {
                "RequestId": f"r{number}",
                "GeneratedSpeakerId": line["GeneratedSpeakerId"],
                "CustomerSpeakerId": f"c{number}",
                "EnrollmentStatus": "NEW_ENROLLMENT",
            }
            if line != wanted:
                raise RuntimeError(f"line {number} of the result is {line}")
            speakers.add(line["GeneratedSpeakerId"])
            count += 1
    if not count == len(speakers) == entries:
        raise RuntimeError(f"the result has {count} requests and {len(speakers)} speakers, not {entries}")


def _run(pipe: Connection, flags: dict[str, Any], workers: int, address: str) -> None:
    """One job in a process of its own.

    Tells (entries done, MiB) over time, (first commit, end) in seconds, and seconds of processor time.
    """
    settings = loading.load(environment={}, flags=flags)
    store = open_store(settings)
    engine: Any = LocalEngine(
        stub_workers.work, (), workers=workers, time_limit_s=60.0, message_most=MESSAGE_MOST
    )
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
            cpu_s = {"runner": time.process_time()}
            if isinstance(engine, RayEngine) and engine.driver_pid is not None:
                cpu_s["driver"] = processes.cpu_s(engine.driver_pid)
        finally:
            ended.set()
    watching.result()
    engine.close()
    pipe.send((samples, (first_s[0], seconds), cpu_s))
    store.database.close()


if __name__ == "__main__":
    main()
