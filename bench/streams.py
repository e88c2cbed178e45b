#!/usr/bin/env python3
"""Live calls in real time over WebSockets, from this process to a `sonant serve` of its own:
`python bench/streams.py [--calls N] [--spread S]`.

Half of the sessions name the caller, half another speaker. Prints how long it takes from the sending of the
frame that completes the speech needed to the hearing in the database, how long EvaluateSession of a known
result takes while calls stream, how many results were right, and what the service's
process spent.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import soundfile
from websockets.asyncio.client import connect

import processes
from live_calls import (
    DURATION_S,
    FRAME,
    FRAME_S,
    RATE_HZ,
    HearingWatch,
    LiveCall,
    enrollment_call,
    live_calls,
    percentile,
    voices,
)
from service import Running, data_folder, serving
from sonant.commands.session import Desk
from sonant.commands.session_stream import signed_url
from sonant.store.sessions import AUTHENTICATION, FRAUD
from sonant.voice.models import load_models

#: How often a known result is asked for while calls stream.
ASK_S = 0.1


@dataclass
class Bench:
    """A service with a domain and its enrolled speakers."""

    service: Running
    desk: Desk
    asked_s: list[float] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def start(self, name: str, speaker: str) -> str:
        members = {"DomainId": self.desk.domain_id, "SessionName": name, "SpeakerId": speaker}
        return str(self.desk.own.start_session(**members)["Session"]["SessionId"])

    def enroll(self, voice: str, call: Any) -> None:
        """In a session, at full speed."""
        name = f"enroll-{voice}"
        self.start(name, voice)
        self.desk.own.enroll_by_session(**self.desk.of(name))
        asyncio.run(self.carry(_mulaw(call), name, FRAME * 10, real=False))
        deadline = time.monotonic() + 60
        while "COMPLETED" not in str(self.session(name)["EnrollmentRequestDetails"]):
            if time.monotonic() > deadline:
                raise TimeoutError("an enrollment did not end")
            time.sleep(0.1)

    def session(self, name: str) -> dict[str, Any]:
        return dict(self.desk.own.describe_session(**self.desk.of(name))["Session"])

    def decisions(self, name: str) -> tuple[str, str]:
        found = self.desk.voice_id.evaluate_session(**self.desk.of(name))
        return found["AuthenticationResult"]["Decision"], found["FraudDetectionResult"]["Decision"]

    async def carry(
        self,
        data: bytes,
        name: str,
        size: int,
        *,
        real: bool = True,
        completing: int = 0,
        wait_s: float = 0.0,
    ) -> float:
        """One call; when its completing frame was sent, in monotonic seconds."""
        await asyncio.sleep(wait_s)
        url, sent = signed_url(self.desk, name, encoding="mulaw"), 0.0
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

    def ask(self, name: str) -> None:
        """Ask for a result that is known, again and again; in a thread."""
        while not self._over.wait(ASK_S):
            begun = time.perf_counter()
            self.decisions(name)
            self.asked_s.append(time.perf_counter() - begun)

    def run(self, calls: list[LiveCall], spread_s: float, known: str) -> list[float]:
        async def all_calls() -> list[float]:
            step_s = spread_s / len(calls)
            return await asyncio.gather(
                *(
                    self.carry(
                        _mulaw(call.samples),
                        f"call-{number}",
                        FRAME,
                        completing=call.completing_frame,
                        wait_s=number * step_s,
                    )
                    for number, call in enumerate(calls)
                )
            )

        asking = threading.Thread(target=self.ask, args=(known,))
        asking.start()
        try:
            return asyncio.run(all_calls())
        finally:
            self._over.set()
            asking.join()


def _mulaw(samples: Any) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, RATE_HZ, format="RAW", subtype="ULAW")
    return out.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description="Live calls in real time over WebSockets.")
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--spread", type=float, default=20.0, help="seconds within which all calls begin")
    arguments = parser.parse_args()
    clips = voices()
    calls = live_calls(arguments.calls, clips, load_models())
    more = {"SONANT_QUOTAS_ACTIVE_SESSIONS_PER_DOMAIN": str(2 * arguments.calls + 20)}
    with data_folder() as data, serving(data, more) as service:
        bench = Bench(service, Desk(service.settings, service.create_domain(), as_json=False))
        for voice in clips:
            bench.enroll(voice, enrollment_call(voice, clips))
        names = list(clips)
        ids = [
            # Every other caller says to be somebody else.
            bench.start(f"call-{number}", names[(names.index(call.voice) + number % 2) % len(names)])
            for number, call in enumerate(calls)
        ]
        cpu_s, load, begun = processes.cpu_s(service.pid), os.getloadavg()[0], time.monotonic()
        with HearingWatch(data / "sonant.db") as watch:
            sent = bench.run(calls, arguments.spread, f"enroll-{names[0]}")
        took_s, cpu_s = time.monotonic() - begun, processes.cpu_s(service.pid) - cpu_s
        found = [bench.decisions(f"call-{number}") for number in range(len(calls))]
        heard = [bench.session(f"call-{number}") for number in range(len(calls))]
    wanted = ["REJECT" if number % 2 else "ACCEPT" for number in range(len(calls))]
    right = sum(decisions[0] == want for decisions, want in zip(found, wanted, strict=True))
    low = sum(decisions[1] == "LOW_RISK" for decisions in found)
    print(
        f"{len(calls)} calls of {DURATION_S:g} s, begun within {arguments.spread:g} s; "
        f"load before: {load:.1f}"
    )
    for purpose in (AUTHENTICATION, FRAUD):
        seen = [(at, watch.seen.get((key, purpose))) for at, key in zip(sent, ids, strict=True)]
        delays = [1000 * (moment - at) for at, moment in seen if moment is not None]
        figures = ", ".join(f"p{p} {percentile(delays, p):.0f}" for p in (50, 95, 100))
        missing = sum(moment is None for _, moment in seen)
        print(f"{purpose.lower()}, completing frame to hearing, ms: {figures}; missing {missing}")
    asked = [1000 * seconds for seconds in bench.asked_s]
    print(f"known result, ms: p50 {percentile(asked, 50):.1f}, p95 {percentile(asked, 95):.1f}")
    speech = [one["NetSpeechSeconds"] for one in heard]
    print(f"authentication as it should be: {right} of {len(calls)}; low risk: {low}")
    print(f"net speech heard: {min(speech):.1f} to {max(speech):.1f} s")
    print(f"service process: {100 * cpu_s / took_s:.0f} % of a core over {took_s:.0f} s")


if __name__ == "__main__":
    main()
