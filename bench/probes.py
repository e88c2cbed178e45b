"""Calls of the API beside live calls, from a process of their own: sending audio must not delay them."""

from __future__ import annotations

import http.client
import itertools
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from urllib.parse import urlsplit

from service import Running

#: How often a known result is asked for while calls stream.
ASK_S = 0.1
#: How often something is written while calls stream.
WRITE_S = 0.2
#: How often a request that does nothing is sent.
KNOCK_S = 0.02
#: Changes that are written after the calls.
WRITES_AFTER = 5


@dataclass(slots=True)
class Probed:
    """How long each call took, in seconds."""

    known_result_s: list[float] = field(default_factory=list)
    """EvaluateSession of a result that is known."""
    write_s: list[float] = field(default_factory=list)
    """UpdateWatchlist, the last ones when the calls have ended."""
    nothing_s: list[float] = field(default_factory=list)
    """GET /health: the event loop's lag is no longer than that."""


@contextmanager
def probing(service: Running, session: Mapping[str, str]) -> Iterator[Probed]:
    """Call the API again and again meanwhile; the value is filled in when the block ends.

    `session` names one whose results are known. Raises what a call raised.
    """
    context, found = get_context("spawn"), Probed()
    ours, theirs = context.Pipe()
    process = context.Process(target=_probe, args=(theirs, service, dict(session)), daemon=True)
    process.start()
    theirs.close()
    try:
        ours.recv()  # it has its clients
        yield found
        ours.send(None)
        answer = ours.recv()
    finally:
        ours.close()
        process.join()
    if isinstance(answer, Exception):
        raise answer
    found.known_result_s, found.write_s, found.nothing_s = answer


def _probe(pipe: Connection, service: Running, session: dict[str, str]) -> None:
    voice_id = service.client()
    watchlist = voice_id.create_watchlist(DomainId=session["DomainId"], Name="changed")["Watchlist"]
    names = {"DomainId": session["DomainId"], "WatchlistId": watchlist["WatchlistId"]}
    over = threading.Event()

    def ask() -> list[float]:
        took_s = []
        while not over.wait(ASK_S):
            begun = time.perf_counter()
            voice_id.evaluate_session(**session)
            took_s.append(time.perf_counter() - begun)
        return took_s

    def write() -> list[float]:
        took_s, after = [], 0
        for number in itertools.count():
            after += over.wait(WRITE_S)
            begun = time.perf_counter()
            voice_id.update_watchlist(**names, Name=f"list-{number}")
            took_s.append(time.perf_counter() - begun)
            if after == WRITES_AFTER:
                break
        return took_s

    def knock() -> list[float]:
        url, took_s = urlsplit(service.url), []
        line = http.client.HTTPConnection(url.hostname or "", url.port, timeout=30)
        while not over.wait(KNOCK_S):
            begun = time.perf_counter()
            line.request("GET", "/health")
            line.getresponse().read()
            took_s.append(time.perf_counter() - begun)
        return took_s

    with ThreadPoolExecutor(3) as pool:
        probes = [pool.submit(probe) for probe in (ask, write, knock)]
        try:
            pipe.send(None)
            pipe.recv()
        finally:  # also when the benchmark was killed
            over.set()
        try:
            answer: object = tuple(probe.result() for probe in probes)
        except Exception as fault:  # noqa: BLE001 - the benchmark raises it
            answer = RuntimeError(str(fault))
    pipe.send(answer)
