"""Assess the risks of a live call: known fraudsters, spoofing, and replays of enrolled recordings.

Fraudsters' voiceprints and fingerprints of recordings are decrypted into memory, never onto a disk, and are
brought up to date with every transaction. Those of the least recently used domains are dropped first.
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
from sonant.jobs.fraudster_gallery import FraudsterGallery
from sonant.jobs.replay import ReplayDetector, ReplayMatch
from sonant.sessions.opened_domains import LOCAL_S, OpenedDomains
from sonant.storage.crypto.vault import Vault
from sonant.storage.database.semaphore import FairSemaphore
from sonant.storage.keys.store import KeysOf
from sonant.storage.repositories import fraud_voices, watchlists
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.session_samples import SessionSample
from sonant.threads import start_once
from sonant.voice.calibration.model import Calibration
from sonant.voice.replay.fingerprint import Fingerprint

#: How long reading a domain's fingerprints may wait for those of other domains, in seconds.
LOADING_WAIT_S = 600.0
#: Watchlists and domains held in memory at once.
MAX_GALLERIES, MAX_REPLAY_DETECTORS = 64, 8

T = TypeVar("T")


class FraudIndexes:
    """Fraudster galleries and replay indexes of all domains of a process. Methods are thread-safe."""

    def __init__(
        self,
        replay_recordings: int,
        loading_at_once: int = 2,
        keys_of: KeysOf | None = None,
        look_s: float = LOCAL_S,
    ) -> None:
        """The newest `replay_recordings` recordings of a domain are indexed; with 0 no replay is looked for.
        `loading_at_once` domains are read at once; each holds a connection until it is read. With `keys_of`,
        what is in memory of a domain is forgotten when its key is taken away, which is looked at every
        `look_s` seconds."""
        self._most = replay_recordings
        self._loading = FairSemaphore(loading_at_once)
        self._galleries: _LruCache[FraudsterGallery] = _LruCache(MAX_GALLERIES)
        self._replay_detectors: _LruCache[ReplayDetector] = _LruCache(MAX_REPLAY_DETECTORS)
        self._preparing: dict[str, Future[None]] = {}
        self._lock = threading.Lock()
        self._opened = (
            None
            if keys_of is None
            else OpenedDomains(keys_of, self.forget_domain, self.in_memory, interval_s=look_s)
        )

    def in_memory(self, domain_id: str) -> bool:
        """Return whether any voice of a domain is in memory, or being read."""
        with self._lock:
            if domain_id in self._preparing:
                return True
        return self._replay_detectors.has(domain_id) or self._galleries.any(
            lambda key: isinstance(key, tuple) and key[0] == domain_id
        )

    @property
    def galleries(self) -> int:
        """How many fraudster galleries are in memory."""
        return len(self._galleries)

    def forget_galleries(self, domain_id: str) -> None:
        """Drop the galleries of a domain: one of its fraudsters, or a watchlist, was deleted."""
        self._galleries.drop(lambda key: isinstance(key, tuple) and key[0] == domain_id)

    def forget_domain(self, domain_id: str) -> None:
        """Drop everything of a domain, which was deleted."""
        self.forget_galleries(domain_id)
        self._replay_detectors.drop(lambda key: key == domain_id)

    def prepare(
        self, read: Callable[[], AbstractContextManager[Connection]], domain: Domain, vault: Vault
    ) -> Future[None] | None:
        """Read the domain's fingerprints in a thread, in a transaction from `read`; None when they are in
        memory already. 100,000 of them take half a minute."""
        if not self._most or self._replay_detectors.has(domain.domain_id):
            return None
        self._watch(domain)
        with self._lock:
            reading = self._preparing.get(domain.domain_id)
            if reading is None:
                reading = Future()
                # Stored only when the thread has started: nothing else would ever complete the future.
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
        """Return whether `risks` would return at once. If not, prepare the domain and wait at most
        `wait_s` seconds. Raises JobFault as `risks` does."""
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
        speech: SessionSample,
        calibration: Calibration,
        call_started_at: datetime | None = None,
    ) -> tuple[Risk, ...]:
        """Assess the known-fraudster risk and, if it was scored or is a replay, the spoofing risk.

        Recordings enrolled since `call_started_at`, by default since the speech's own start, are no replay:
        they may be of this call. (A recording that is sent faster than it was spoken yields speech that is
        ahead of the clock.)
        `watchlist_id` None is the domain's default list. Raises ResourceNotFound WATCHLIST, and JobFault with
        a message for the operator when stored data is damaged: what cannot be compared must not pass.
        """
        self._watch(domain)
        wanted = watchlist_id or domain.default_watchlist_id
        if watchlists.find(connection, domain.domain_id, wanted) is None:
            raise ResourceNotFound("WATCHLIST")
        found = [self._known_fraudster(connection, domain.domain_id, vault, wanted, speech, calibration)]
        if speech.spoofing_score is not None:
            found.append(Risk(name=SPOOFING, score=speech.spoofing_score, evidence=speech.spoofing_evidence))
        before = call_started_at or speech.started_at
        return with_replay(found, self._find_replay(connection, domain.domain_id, vault, speech, before))

    def _known_fraudster(
        self,
        connection: Connection,
        domain_id: str,
        vault: Vault,
        watchlist_id: str,
        speech: SessionSample,
        calibration: Calibration,
    ) -> Risk:
        with self._galleries.held(
            (domain_id, watchlist_id), lambda: FraudsterGallery(domain_id, watchlist_id)
        ) as gallery:
            gallery.refresh(connection, vault, fraud_voices.version(connection, domain_id))
            voices = [speech.sample, *speech.parts]
            matches = gallery.nearest(voices)
            size = gallery.size(speech.sample.model_id)
        found = [
            known_fraudster(match, size, calibration.tail_for(voice.quality))
            for match, voice in zip(matches, voices, strict=True)
        ]
        return max(found, key=lambda risk: risk.score)

    def _find_replay(
        self, connection: Connection, domain_id: str, vault: Vault, speech: SessionSample, before: datetime
    ) -> ReplayMatch | None:
        if speech.fingerprint is None or not self._most:
            return None
        fingerprint = Fingerprint.from_bytes(speech.fingerprint)
        with self._held_detector(domain_id) as detector, _intact():
            detector.refresh(connection, vault)
            return detector.find(connection, vault, fingerprint, None, live=True, before=before)

    def _watch(self, domain: Domain) -> None:
        if self._opened is not None:
            self._opened.add(domain)

    def _held_detector(self, domain_id: str) -> AbstractContextManager[ReplayDetector]:
        return self._replay_detectors.held(domain_id, lambda: ReplayDetector(domain_id, self._most))

    def _prepare(
        self,
        reading: Future[None],
        read: Callable[[], AbstractContextManager[Connection]],
        domain: Domain,
        vault: Vault,
    ) -> None:
        try:
            detector = ReplayDetector(domain.domain_id, self._most)
            with self._loading.acquired(LOADING_WAIT_S), read() as connection, _intact():
                detector.refresh(connection, vault)
            self._replay_detectors.put(domain.domain_id, detector)
            reading.set_result(None)
        except Exception as fault:  # noqa: BLE001 - raised where the future is waited for
            reading.set_exception(fault)
        finally:
            with self._lock:
                del self._preparing[domain.domain_id]


@contextmanager
def _intact() -> Iterator[None]:
    """Turn damaged fingerprints into a JobFault."""
    try:
        yield
    except SealBroken:
        raise JobFault(
            500, "the fingerprint of a recording is damaged; restore the database from a backup"
        ) from None


class _LruCache(Generic[T]):
    """Items by key, each used by one thread at a time. The least recently used ones are dropped."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._slots: OrderedDict[Hashable, tuple[T, threading.Lock]] = OrderedDict()
        self._lock = threading.Lock()

    def has(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._slots

    def any(self, wanted: Callable[[Hashable], bool]) -> bool:
        with self._lock:
            return any(wanted(key) for key in self._slots)

    def put(self, key: Hashable, item: T) -> None:
        with self._lock:
            self._slots[key] = (item, threading.Lock())
            self._drop_oldest()

    @contextmanager
    def held(self, key: Hashable, make: Callable[[], T]) -> Iterator[T]:
        """Hold the item of this key, made if there is none. An item dropped meanwhile stays usable."""
        with self._lock:
            if key not in self._slots:
                self._slots[key] = (make(), threading.Lock())
            self._slots.move_to_end(key)
            self._drop_oldest()
            item, lock = self._slots[key]
        with lock:
            yield item

    def drop(self, unwanted: Callable[[Hashable], bool]) -> None:
        """Drop the items of keys that are not wanted any more. One that is held stays usable."""
        with self._lock:
            for key in [key for key in self._slots if unwanted(key)]:
                del self._slots[key]

    def __len__(self) -> int:
        return len(self._slots)

    def _drop_oldest(self) -> None:
        while len(self._slots) > self._most:
            self._slots.popitem(last=False)
