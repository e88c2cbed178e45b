#!/usr/bin/env python3
"""Live calls in real time over WebSockets, from this process to a `sonant serve` of its own:
`python bench/streams.py [--calls N ...]`.

All calls begin at the same moment, at the service's default settings: each signs its URL, and when the last
one is ready they connect together. Half of the sessions name the caller, half another speaker. Measures how
long it takes from the sending of the frame that completes the speech needed to the hearing in the database,
how long EvaluateSession of a known result takes while calls stream, the event loop's lag, how many results
were right, and what the service's process spent. The sender shares the cores with the service, at a lower
priority than its threads and a higher one than its workers.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import soundfile
from websockets.asyncio.client import connect

import processes
from live_calls import (
    FRAME,
    FRAME_S,
    RATE_HZ,
    HearingWatch,
    LiveCall,
    cut_short,
    enrollment_call,
    live_calls,
    percentile,
    voices,
)
from probes import Probed, probing
from report import Outcome, Ratio, Size, add_size
from service import Running, data_folder, serving
from sonant.cli.session_client import SessionClient
from sonant.cli.session_stream import signed_url
from sonant.settings import Quotas
from sonant.storage.repositories.session_samples import AUTHENTICATION, FRAUD
from sonant.voice.models import load_models

#: Increment of the sender's nice value; that of workers of live calls is 8.
SENDER_NICE = 4


@dataclass
class Bench:
    """A service with a domain and its enrolled speakers."""

    service: Running
    sessions: SessionClient
    probed: Probed = field(default_factory=Probed)

    def start(self, name: str, speaker: str) -> str:
        members = {"DomainId": self.sessions.domain_id, "SessionName": name, "SpeakerId": speaker}
        return str(self.sessions.own.start_session(**members)["Session"]["SessionId"])

    def enroll(self, voice: str, call: Any) -> None:
        """In a session, at full speed."""
        name = f"enroll-{voice}"
        self.start(name, voice)
        self.sessions.own.enroll_by_session(**self.sessions.session_members(name))
        asyncio.run(self.carry(_mulaw(call), name, FRAME * 10, real=False))
        deadline = time.monotonic() + 60
        while (details := self.session(name)["EnrollmentRequestDetails"])["Status"] != "COMPLETED":
            if details["Status"] == "FAILED":
                raise RuntimeError(f"{voice} was not enrolled: {details['Message']}")
            if time.monotonic() > deadline:
                raise TimeoutError("an enrollment did not end")
            time.sleep(0.1)

    def session(self, name: str) -> dict[str, Any]:
        return dict(self.sessions.own.describe_session(**self.sessions.session_members(name))["Session"])

    def decisions(self, name: str) -> tuple[str, str]:
        found = self.sessions.voice_id.evaluate_session(**self.sessions.session_members(name))
        return found["AuthenticationResult"]["Decision"], found["FraudDetectionResult"]["Decision"]

    async def carry(
        self,
        data: bytes,
        name: str,
        size: int,
        *,
        real: bool = True,
        completing: int = 0,
        together: asyncio.Barrier | None = None,
    ) -> float:
        """One call; when its completing frame was sent, in monotonic seconds.

        It connects when all that share `together` are ready to.
        """
        url, sent = signed_url(self.sessions, name, encoding="mulaw"), 0.0
        if together is not None:
            await together.wait()
        async with connect(url, compression=None, proxy=None, open_timeout=30) as socket:
            await socket.recv()
            begun = time.monotonic()
            for number, place in enumerate(range(0, len(data), size)):
                if real and (late := begun + number * FRAME_S - time.monotonic()) > 0:
                    await asyncio.sleep(late)
                await socket.send(data[place : place + size])
                if number == completing:
                    sent = time.monotonic()
            await socket.send(json.dumps({"type": "end"}))
            await socket.wait_closed()
            if socket.close_code != 1000:
                raise RuntimeError(f"a stream was closed: {socket.close_code} {socket.close_reason}")
        return sent

    def run(self, calls: list[LiveCall], known: str) -> list[float | Exception]:
        """All calls at once: when each completing frame was sent, or why a call was not carried."""

        async def all_calls() -> list[float | BaseException]:
            together = asyncio.Barrier(len(calls))
            return await asyncio.gather(
                *(
                    self.carry(
                        _mulaw(call.samples),
                        f"call-{number}",
                        FRAME,
                        completing=call.completing_frame,
                        together=together,
                    )
                    for number, call in enumerate(calls)
                ),
                return_exceptions=True,
            )

        with (
            probing(self.service, self.sessions.session_members(known)) as self.probed,
            ThreadPoolExecutor(1, initializer=_yield_to_the_service) as sender,
        ):
            carried = sender.submit(asyncio.run, all_calls()).result()
        if unexpected := [one for one in carried if not isinstance(one, float | Exception)]:
            raise unexpected[0]
        return [one for one in carried if isinstance(one, float | Exception)]


def _yield_to_the_service() -> None:
    """Lower this thread's priority (Linux), between the service and its workers: callers run elsewhere."""
    os.nice(SENDER_NICE)


def _mulaw(samples: Any) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, RATE_HZ, format="RAW", subtype="ULAW")
    return out.getvalue()


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a run with so many calls came to; times in milliseconds, as percentiles 50, 95, 99 and 100."""

    calls: int
    authentication: list[float]
    fraud: list[float]
    known_result: list[float]
    write: list[float]
    """UpdateWatchlist while calls stream, and a few times after them."""
    loop_lag: list[float]
    """Round trips of a request that does nothing: what the event loop's lag is at most."""
    failed: int
    """Calls that were not carried to their end."""
    failures: list[str]
    """Why, each reason once."""
    missing: int
    """Results of carried calls that never came."""
    right: int
    low_risk: int
    net_speech_s: tuple[float, float]
    service_cores: float


PERCENTILES = (50, 95, 99, 100)


def stream_calls(count: int, *, whole: bool = True) -> Figures:
    """So many real-time calls, begun at once, on a service of its own at its default settings.

    More than Voice ID's quota of sessions need a larger one. Calls last a minute, or if not `whole` until
    shortly after enough was said.
    """
    clips = voices()
    calls = live_calls(count, clips, load_models())
    if not whole:
        calls = [cut_short(call) for call in calls]
    quota = Quotas().active_sessions_per_domain
    more = {
        "SONANT_QUOTAS_ACTIVE_SESSIONS_PER_DOMAIN": str(max(quota, count)),
        "SONANT_SCORES_LOCK_REJECTS": "0",  # half of the calls name another speaker
    }
    with data_folder() as data, serving(data, more) as service:
        bench = Bench(service, SessionClient(service.settings, service.create_domain()))
        for voice in clips:
            bench.enroll(voice, enrollment_call(voice, clips))
        names = list(clips)
        ids = [
            # Every other caller says to be somebody else.
            bench.start(f"call-{number}", names[(names.index(call.voice) + number % 2) % len(names)])
            for number, call in enumerate(calls)
        ]
        cpu_s, begun = processes.cpu_s(service.pid), time.monotonic()
        with HearingWatch(data / "sonant.db") as watch:
            sent = bench.run(calls, f"enroll-{names[0]}")
        took_s, cpu_s = time.monotonic() - begun, processes.cpu_s(service.pid) - cpu_s
        carried = [number for number, at in enumerate(sent) if isinstance(at, float)]
        found = {number: bench.decisions(f"call-{number}") for number in carried}
        heard_s = [bench.session(f"call-{number}")["NetSpeechSeconds"] for number in carried]
    failures = [f"{type(why).__name__}: {why}" for why in sent if isinstance(why, Exception)]
    wanted = ["REJECT" if number % 2 else "ACCEPT" for number in range(count)]
    delays: dict[str, list[float]] = {}
    missing = 0
    for purpose in (AUTHENTICATION, FRAUD):
        seen = [
            (at, watch.seen.get((key, purpose)))
            for at, key in zip(sent, ids, strict=True)
            if isinstance(at, float)
        ]
        delays[purpose] = [1000 * (moment - at) for at, moment in seen if moment is not None]
        missing += sum(moment is None for _, moment in seen)
    return Figures(
        calls=count,
        authentication=_percentiles(delays[AUTHENTICATION]),
        fraud=_percentiles(delays[FRAUD]),
        known_result=_percentiles([1000 * seconds for seconds in bench.probed.known_result_s]),
        write=_percentiles([1000 * seconds for seconds in bench.probed.write_s]),
        loop_lag=_percentiles([1000 * seconds for seconds in bench.probed.nothing_s]),
        failed=len(failures),
        failures=sorted(set(failures)),
        missing=missing,
        right=sum(found[number][0] == wanted[number] for number in carried),
        low_risk=sum(found[number][1] == "LOW_RISK" for number in carried),
        net_speech_s=(min(heard_s, default=0.0), max(heard_s, default=0.0)),
        service_cores=cpu_s / took_s,
    )


def measure(size: Size, _peers: bool) -> Outcome:
    """The targets are for 50 calls at once, Voice ID's own quota; the others are told beside them."""
    runs = [
        stream_calls(count, whole=size is not Size.TINY) for count in size.pick((50, 100, 150), (10,), (2,))
    ]
    figures = runs[0]
    p95, p99 = PERCENTILES.index(95), PERCENTILES.index(99)

    def below(name: str, ours: float, limit: float, unit: str = "ms") -> Ratio:
        return Ratio(
            part="streams", name=name, ours=ours, theirs=limit, unit=unit, target=1.0, at_least=False
        )

    ratios = [
        below("completing frame to authentication, p95", figures.authentication[p95], 500),
        below("completing frame to fraud detection, p95", figures.fraud[p95], 500),
        below("EvaluateSession of a known result, p95", figures.known_result[p95], 10),
        below("a write of the API, slowest", figures.write[PERCENTILES.index(100)], 1000),
        below("event loop's lag at most, p99", figures.loop_lag[p99], 50),
        Ratio(
            part="streams",
            name="right results / calls",
            ours=figures.right,
            theirs=figures.calls,
            unit="",
            target=1.0,
            at_least=True,
        ),
    ]
    return Outcome(ratios=ratios, details={str(one.calls): asdict(one) for one in runs})


def _percentiles(values: list[float]) -> list[float]:
    return [round(percentile(values, p), 1) for p in PERCENTILES]


def main() -> None:
    parser = argparse.ArgumentParser(description="Live calls in real time over WebSockets.")
    add_size(parser)
    parser.add_argument("--calls", type=int, nargs="+", help="at once, one run after the other")
    asked = parser.parse_args()
    for count in asked.calls or asked.size.pick([50], [10], [2]):
        print(f"load before: {os.getloadavg()[0]:.1f}")
        for name, value in asdict(stream_calls(count, whole=asked.size is not Size.TINY)).items():
            print(f"{name:16} {value}")


if __name__ == "__main__":
    main()
