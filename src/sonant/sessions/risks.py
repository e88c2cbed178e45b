"""Risks of a voice in a live call: known fraudsters, spoofing, and replays of recordings that were enrolled.

Fraudsters' voices and fingerprints of recordings are opened into memory, never onto a disk, and follow the
store from transaction to transaction. Those of the domains that are asked about least make room.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from functools import partial
from typing import Generic, TypeVar

from sqlalchemy import Connection

from sonant.errors import ResourceNotFound, SealBroken
from sonant.jobs.faults import JobFault
from sonant.jobs.fraud import SPOOFING, Risk, known_fraudster, with_replay
from sonant.jobs.fraudster_gallery import FraudsterGallery, Sample
from sonant.jobs.replay import ReplayDetector, ReplayMatch
from sonant.storage.crypto.vault import Vault
from sonant.storage.database.semaphore import FairSemaphore
from sonant.storage.repositories import fraud_voices, watchlists
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.session_hearings import Hearing
from sonant.threads import start_once
from sonant.voice.calibration.model import Calibration
from sonant.voice.replay.fingerprint import Fingerprint

#: How long reading a domain's recordings may wait for other domains'.
LOADING_WAIT_S = 600.0
#: Lists and domains held at once.
MOST_WATCHES, MOST_GUARDS = 64, 8

T = TypeVar("T")


class FraudIndexes:
    """For all domains of a process, and for any number of threads."""

    def __init__(self, replay_recordings: int, loading_at_once: int = 2) -> None:
        """So many recordings of a domain are remembered, the newest; with 0 no replay is looked for. Those
        of `loading_at_once` domains are read at once: each holds a connection for as long as it takes."""
        self._most = replay_recordings
        self._loading = FairSemaphore(loading_at_once)
        self._fraud_indexes: _Latest[FraudsterGallery] = _Latest(MOST_WATCHES)
        self._guards: _Latest[ReplayDetector] = _Latest(MOST_GUARDS)
        self._preparing: dict[str, Future[None]] = {}
        self._lock = threading.Lock()

    def prepare(
        self, read: Callable[[], AbstractContextManager[Connection]], domain: Domain, vault: Vault
    ) -> Future[None] | None:
        """Let a thread of its own read the domain's recordings, with a transaction from `read`, unless that
        is done already (None): for 100,000 of them it takes half a minute."""
        if not self._most or self._guards.has(domain.domain_id):
            return None
        with self._lock:
            reading = self._preparing.get(domain.domain_id)
            if reading is None:
                reading = Future()
                # Noted down only when there is a thread: nobody else would ever end the wait for it.
                start_once(
                    partial(self._prepare, reading, read, domain, vault),
                    "replays",
                    failed=reading.set_exception,
                )
                self._preparing[domain.domain_id] = reading
        return reading

    def ready(
        self,
        read: Callable[[], AbstractContextManager[Connection]],
        domain: Domain,
        vault: Vault,
        *,
        wait_s: float,
    ) -> bool:
        """Whether `risks` would answer at once. If not, the domain is prepared, for which this waits no
        longer than `wait_s`. Raises JobFault as `risks` does."""
        reading = self.prepare(read, domain, vault)
        try:
            if reading is not None:
                reading.result(wait_s)
        except TimeoutError:
            return False
        return True

    def risks(
        self,
        connection: Connection,
        domain: Domain,
        vault: Vault,
        *,
        watchlist_id: str | None,
        hearing: Hearing,
        scale: Calibration,
        began: datetime | None = None,
    ) -> tuple[Risk, ...]:
        """Known-fraudster risk and, if it was scored or is a replay, spoofing risk.

        What was enrolled since the call `began`, by default since the hearing's own beginning, is no replay:
        it may be of this call. (Of a recording that is brought faster than it was spoken, hearings run ahead
        of the clock.)
        `watchlist_id` None is the domain's default list. Raises ResourceNotFound WATCHLIST, and JobFault with
        a sentence for the operator when something stored is damaged: what cannot be compared must not pass.
        """
        wanted = watchlist_id or domain.default_watchlist_id
        if watchlists.find(connection, domain.domain_id, wanted) is None:
            raise watchlist_not_found()
        found = [self._known(connection, domain.domain_id, vault, wanted, hearing, scale)]
        if hearing.spoofing_score is not None:
            found.append(
                Risk(name=SPOOFING, score=hearing.spoofing_score, evidence=hearing.spoofing_evidence)
            )
        before = began or hearing.started_at
        return with_replay(found, self._copy(connection, domain.domain_id, vault, hearing, before))

    def _known(
        self,
        connection: Connection,
        domain_id: str,
        vault: Vault,
        watchlist_id: str,
        hearing: Hearing,
        scale: Calibration,
    ) -> Risk:
        sample = Sample(model_id=hearing.model_id, vector=hearing.vector)
        with self._fraud_indexes.held(
            (domain_id, watchlist_id), lambda: FraudsterGallery(domain_id, watchlist_id)
        ) as gallery:
            gallery.follow(connection, vault, fraud_voices.version(connection, domain_id))
            (match,) = gallery.nearest([sample])
            size = gallery.size(hearing.model_id)
        tail = scale.tail(hearing.net_speech_s, hearing.snr_db, highpass_300hz=hearing.highpass_300hz)
        return known_fraudster(match, size, tail)

    def _copy(
        self, connection: Connection, domain_id: str, vault: Vault, hearing: Hearing, before: datetime
    ) -> ReplayMatch | None:
        if hearing.fingerprint is None or not self._most:
            return None
        heard = Fingerprint.from_bytes(hearing.fingerprint)
        with self._guarding(domain_id) as guard, _readable():
            guard.follow(connection, vault)
            return guard.find(connection, vault, heard, None, live=True, before=before)

    def _guarding(self, domain_id: str) -> AbstractContextManager[ReplayDetector]:
        return self._guards.held(domain_id, lambda: ReplayDetector(domain_id, self._most))

    def _prepare(
        self,
        reading: Future[None],
        read: Callable[[], AbstractContextManager[Connection]],
        domain: Domain,
        vault: Vault,
    ) -> None:
        try:
            guard = ReplayDetector(domain.domain_id, self._most)
            with self._loading.acquired(LOADING_WAIT_S), read() as connection, _readable():
                guard.follow(connection, vault)
            self._guards.put(domain.domain_id, guard)
            reading.set_result(None)
        except Exception as fault:  # noqa: BLE001 - told to those who wait, who ask again
            reading.set_exception(fault)
        finally:
            with self._lock:
                del self._preparing[domain.domain_id]


def watchlist_not_found() -> ResourceNotFound:
    return ResourceNotFound("WATCHLIST")


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except SealBroken:
        raise JobFault(
            500, "the fingerprint of a recording is damaged; restore the database from a backup"
        ) from None


class _Latest(Generic[T]):
    """Things by key, each for one thread at a time; those not used for longest make room."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._slots: OrderedDict[Hashable, tuple[T, threading.Lock]] = OrderedDict()
        self._lock = threading.Lock()

    def has(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._slots

    def put(self, key: Hashable, thing: T) -> None:
        with self._lock:
            self._slots[key] = (thing, threading.Lock())
            self._make_room()

    @contextmanager
    def held(self, key: Hashable, make: Callable[[], T]) -> Iterator[T]:
        """The thing of this key, made if there is none. One that goes meanwhile stays its holders'."""
        with self._lock:
            if key not in self._slots:
                self._slots[key] = (make(), threading.Lock())
            self._slots.move_to_end(key)
            self._make_room()
            thing, own = self._slots[key]
        with own:
            yield thing

    def _make_room(self) -> None:
        while len(self._slots) > self._most:
            self._slots.popitem(last=False)
