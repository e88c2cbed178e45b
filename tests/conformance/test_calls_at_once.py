"""Many simultaneous calls with default settings, and writes beside them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from carried_calls import mulaw, opened, samples_of, sent_and_closed, stream_url
from service_process import ServiceProcess, running

FRAME_BYTES = 1600
MOST_WRITES = 200
"""Writes while calls stream: more would take the cores from the calls' own work."""


@pytest.fixture(scope="module")
def speech(make_call: Any, voices: Any) -> tuple[dict[str, bytes], bytes]:
    """Mu-law of two callers' enrollments, and of a later call of the first."""
    callers = dict(zip(("ada", "bob"), voices, strict=False))
    enrolling = {
        name: mulaw(samples_of(make_call(voice, 0, channels=1, duration_s=60.0)))
        for name, voice in callers.items()
    }
    later = make_call(callers["ada"], 1, fresh=True, net_speech_s=11.0, duration_s=16.0, channels=1)
    return enrolling, mulaw(samples_of(later))


@pytest.fixture
def service(tmp_path: Any) -> Iterator[ServiceProcess]:
    # A domain's quota of sessions is no matter of threads; everything else is as it comes.
    with running(tmp_path / "data", QUOTAS_ACTIVE_SESSIONS_PER_DOMAIN="500", LIVE_WORKERS="0") as service:
        yield service


class Calls:
    """Sessions of one domain, named call-0, call-1 and so on."""

    def __init__(self, service: ServiceProcess) -> None:
        self.service, self.domain = service, service.domain()
        self.own = service.own_client(max_pool_connections=300)
        self.voice_id = service.client(max_pool_connections=300)
        made = self.voice_id.create_watchlist(DomainId=self.domain, Name="list")
        self.list_id = made["Watchlist"]["WatchlistId"]

    def start(self, name: str, speaker: str, ready: Callable[[], Any] = lambda: None) -> None:
        ready()
        self.own.start_session(DomainId=self.domain, SessionName=name, SpeakerId=speaker)

    def enroll(self, speaker: str, audio: bytes) -> None:
        self.start(f"enroll-{speaker}", speaker)
        self.own.enroll_by_session(DomainId=self.domain, SessionNameOrId=f"enroll-{speaker}")
        assert self.carry(f"enroll-{speaker}", audio) == (1000, "CALL_ENDED")
        status = self.session(f"enroll-{speaker}")["EnrollmentRequestDetails"]["Status"]
        assert status == "COMPLETED"

    def session(self, name: str) -> dict[str, Any]:
        return dict(self.own.describe_session(DomainId=self.domain, SessionNameOrId=name)["Session"])

    def carry(
        self, name: str, audio: bytes, ready: Callable[[], Any] = lambda: None
    ) -> tuple[int | None, str]:
        """One call at full speed, begun when `ready` returns; how the service closed it."""
        url = stream_url(
            self.service, {"DomainId": self.domain, "SessionNameOrId": name, "Encoding": "mulaw"}
        )
        ready()
        with opened(url) as connection:
            return sent_and_closed(connection, audio, FRAME_BYTES)

    def decision(self, name: str) -> str:
        found = self.voice_id.evaluate_session(DomainId=self.domain, SessionNameOrId=name)
        return str(found["AuthenticationResult"]["Decision"])

    def write(self, name: str) -> None:
        """One write of the API, and whether it was stored."""
        answer = self.voice_id.update_watchlist(DomainId=self.domain, WatchlistId=self.list_id, Name=name)
        assert answer["Watchlist"]["Name"] == name


@pytest.mark.parametrize(
    "number", [24, *(pytest.param(number, marks=pytest.mark.slow) for number in (60, 200))]
)
def test_simultaneous_calls_are_all_answered_beside_writes(
    service: ServiceProcess, speech: tuple[dict[str, bytes], bytes], number: int
) -> None:
    enrolling, later = speech
    calls = Calls(service)
    for speaker, audio in enrolling.items():
        calls.enroll(speaker, audio)
    claims = {f"call-{n}": ("ada", "bob")[n % 2] for n in range(number)}
    together = threading.Barrier(number)

    with ThreadPoolExecutor(number) as carriers:
        list(carriers.map(lambda name: calls.start(name, claims[name], together.wait), claims))
        streams = [carriers.submit(calls.carry, name, later, together.wait) for name in claims]
        writes = 0
        while writes < 20 or (writes < MOST_WRITES and not all(stream.done() for stream in streams)):
            calls.write(f"list-{writes}")
            writes += 1
        closed = {name: stream.result() for name, stream in zip(claims, streams, strict=True)}
        decided = dict(zip(claims, carriers.map(calls.decision, claims), strict=True))

    assert set(closed.values()) == {(1000, "CALL_ENDED")}
    assert decided == {name: {"ada": "ACCEPT", "bob": "REJECT"}[claim] for name, claim in claims.items()}
    for after in range(20):
        calls.write(f"after-{after}")
