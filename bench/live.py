#!/usr/bin/env python3
"""Live calls in real time, pushed straight into the stream manager: `python bench/live.py [--calls N]`.

All calls begin at the same moment. Half of the sessions name the caller, half another speaker. Prints how
long it takes from the frame that completes the speech needed to the hearing in the database, how late the
event loop was, and how many results were right.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from live_calls import (
    FRAME_S,
    HearingWatch,
    LiveCall,
    cut_short,
    enrollment_call,
    live_calls,
    percentile,
    voices,
)
from report import Size, add_size
from sonant.assembly import installation
from sonant.assembly import service as app
from sonant.assembly import workers as app_engines
from sonant.cpu_affinity import CpuAffinity
from sonant.jobs.model_registry import model_calibration
from sonant.operations import OPERATIONS
from sonant.operations.service import Caller, Service
from sonant.sessions.calls import Call, EndReason
from sonant.sessions.manager import StreamManager
from sonant.sessions.risks import FraudIndexes
from sonant.sessions.stream import Stream
from sonant.settings import Live, Quotas, Scores, Settings
from sonant.storage.crypto.vault import open_vault
from sonant.storage.model_files import ModelFiles
from sonant.storage.repositories import access, domains, session_samples, sessions
from sonant.storage.repositories.session_samples import AUTHENTICATION, FRAUD
from sonant.voice.models import load_models

LAG_LOOK_S = 0.01


@dataclass
class Bench:
    """A service without its wire, with a domain."""

    store: installation.Store
    service: Service
    manager: StreamManager
    domain_id: str = ""
    lags: list[float] = field(default_factory=list)

    @classmethod
    def open(cls, data: Path, calls: int, workers: int) -> Bench:
        quotas = Quotas(active_sessions_per_domain=2 * calls + 10)
        settings = Settings(
            data=data, quotas=quotas, live=Live(workers=workers), scores=Scores(lock_rejects=0)
        )
        store = installation.open_store(settings, create=True)
        installation.first_start(store)
        cores = CpuAffinity()
        cores.keep_to_one()  # as a service does
        fraud_indexes = FraudIndexes(settings.fraud.replay_recordings)
        manager = app.build_stream_manager(store, fraud_indexes, cores)
        service = Service(
            settings=settings,
            database=store.database,
            keys_of=store.accounts.keys,
            secret=store.secret,
            listener=app_engines.LocalListener(store, cores),
            clock=store.clock,
            calibration_of=partial(model_calibration, ModelFiles(data)),
            live=manager,
            fraud_indexes=fraud_indexes,
        )
        bench = cls(store, service, manager)
        answer = bench.call(
            "CreateDomain",
            Name="bench",
            ServerSideEncryptionConfiguration={"KmsKeyId": installation.DEFAULT_ALIAS},
        )
        bench.domain_id = answer["Domain"]["DomainId"]
        return bench

    def call(self, operation: str, **request: Any) -> dict[str, Any]:
        if self.domain_id:
            request = {"DomainId": self.domain_id, **request}
        with self.store.database.read() as connection:
            principal = access.find_principal(connection, installation.user_arn(self.store.settings))
        assert principal is not None
        caller = Caller(principal=principal, region=self.store.settings.region)
        return dict(OPERATIONS[operation](self.service, caller, request) or {})

    def open_stream(self, name: str) -> Stream:
        account = self.store.settings.account
        return self.manager.open(Call(account_id=account, domain_id=self.domain_id, session=name))

    def enroll(self, voice: str, samples: np.ndarray) -> None:
        """In a session, at full speed."""
        name = f"enroll-{voice}"
        self.call("StartSession", SessionName=name, SpeakerId=voice)
        self.call("EnrollBySession", SessionNameOrId=name)
        stream = self.open_stream(name)
        for start in range(0, len(samples), 1600):
            while stream.room_s < 1:
                time.sleep(0.005)
            stream.push(samples[start : start + 1600], 8000)
        stream.end(EndReason.CALL_ENDED)
        assert stream.wait_drained(60.0)
        details = self.call("DescribeSession", SessionNameOrId=name)["Session"]["EnrollmentRequestDetails"]
        assert details["Status"] == "COMPLETED", details

    def vector(self, name: str, purpose: str) -> np.ndarray:
        with self.store.database.read() as connection:
            session = sessions.find(connection, self.domain_id, name, self.store.clock())
            domain = domains.find_by_id(connection, self.domain_id)
            assert session is not None
            assert domain is not None
            vault = open_vault(self.store.keys, self.domain_id, domain.arn, domain.data_key_wrapped)
            sample = session_samples.load_samples(connection, session.seal(vault), session).get(purpose)
        return np.zeros(256, np.float32) if sample is None else sample.sample.vector

    # --- on the event loop

    async def carry(self, call: LiveCall, name: str, together: asyncio.Barrier) -> float:
        """One call in real time; when the completing frame was sent, in monotonic seconds."""
        await together.wait()
        stream = await asyncio.to_thread(self.open_stream, name)
        begun, sent = time.monotonic(), 0.0
        for number, frame in enumerate(call.frames()):
            late = begun + number * FRAME_S - time.monotonic()
            if late > 0:
                await asyncio.sleep(late)
            stream.push(frame, 8000)
            if number == call.completing_frame:
                sent = time.monotonic()
        stream.end(EndReason.CALL_ENDED)
        await stream.drained()
        return sent

    async def lag(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(LAG_LOOK_S)
            self.lags.append(time.monotonic() - before - LAG_LOOK_S)

    async def run(self, calls: list[LiveCall]) -> list[float]:
        lag = asyncio.create_task(self.lag())
        together = asyncio.Barrier(len(calls))
        carried = [self.carry(call, f"call-{number}", together) for number, call in enumerate(calls)]
        sent = await asyncio.gather(*carried)
        lag.cancel()
        return list(sent)


def main() -> None:
    parser = argparse.ArgumentParser(description="Live calls in real time, without a wire.")
    add_size(parser)
    parser.add_argument("--calls", type=int, help="at once")
    parser.add_argument("--workers", type=int, default=0, help="as the setting live.workers")
    arguments = parser.parse_args()
    clips, models = voices(), load_models()
    calls = live_calls(arguments.calls or arguments.size.pick(50, 10, 2), clips, models)
    if arguments.size is Size.TINY:
        calls = [cut_short(call) for call in calls]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench.open(Path(folder) / "data", len(calls), arguments.workers)
        for voice in clips:
            bench.enroll(voice, enrollment_call(voice, clips))
        names, ids = list(clips), []
        for number, call in enumerate(calls):
            shift = number % 2  # every other caller says to be somebody else
            speaker = names[(names.index(call.voice) + shift) % len(names)]
            started = bench.call("StartSession", SessionName=f"call-{number}", SpeakerId=speaker)
            ids.append(started["Session"]["SessionId"])
        cpu_s, load = time.process_time(), os.getloadavg()[0]
        begun = time.monotonic()
        with HearingWatch(Path(folder) / "data" / "sonant.db") as watch:
            sent = asyncio.run(bench.run(calls))
        took_s, cpu_s = time.monotonic() - begun, time.process_time() - cpu_s
        results = [bench.call("EvaluateSession", SessionNameOrId=one) for one in ids]
        same = sum(
            float(bench.vector(f"call-{number}", AUTHENTICATION) @ call.vector) > 0.9999
            for number, call in enumerate(calls)
        )
        bench.manager.close()
    wanted = ["REJECT" if number % 2 else "ACCEPT" for number in range(len(calls))]
    right = sum(
        result["AuthenticationResult"]["Decision"] == want
        for result, want in zip(results, wanted, strict=True)
    )
    low = sum(result["FraudDetectionResult"]["Decision"] == "LOW_RISK" for result in results)
    print(f"{len(calls)} calls, begun at once; load before: {load:.1f}")
    for purpose in (AUTHENTICATION, FRAUD):
        found = [(one, watch.seen.get((key, purpose))) for one, key in zip(sent, ids, strict=True)]
        delays = [1000 * (seen - at) for at, seen in found if seen is not None]
        missing = sum(seen is None for _, seen in found)
        figures = ", ".join(f"p{p} {percentile(delays, p):.0f}" for p in (50, 95, 100))
        print(f"{purpose.lower()}, completing frame to hearing, ms: {figures}; missing {missing}")
    lags = [1000 * lag for lag in bench.lags]
    print(
        f"event loop lag, ms: p50 {percentile(lags, 50):.1f}, p99 {percentile(lags, 99):.1f}, "
        f"max {max(lags):.0f}"
    )
    print(f"hearings equal to batch: {same} of {len(calls)}")
    print(f"authentication as it should be: {right} of {len(calls)}; low risk: {low}")
    print(f"service process: {100 * cpu_s / took_s:.0f} % of a core over {took_s:.0f} s")


if __name__ == "__main__":
    main()
