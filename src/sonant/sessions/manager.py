"""Opens the streams of a process and keeps their leases.

Threads, besides the event loop that pushes audio into streams:

| thread | work |
|---|---|
| listener | finds speech |
| pool, and its worker processes | analyzes speech |
| records | stores results, starts and ends; sends the heartbeat once a second |
| enrollments | decides on voiceprints and stores them |
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import Connection

from sonant.errors import AccessDenied, Conflict, InternalServer, KeyError_, ResourceNotFound, SealBroken
from sonant.retention.sessions import stream_event
from sonant.sessions import records
from sonant.sessions.actions import StreamActions
from sonant.sessions.calls import Call, EndReason, StreamGrant
from sonant.sessions.context import LEASE, StreamContext
from sonant.sessions.listener import Request, StreamKey, StreamListener, StreamRequirements
from sonant.sessions.listener_thread import ListenerThread
from sonant.sessions.retry_queue import RetryQueue
from sonant.sessions.starting import (
    default_setup,
    require_speaker,
    require_speaker_unchanged,
    start_stream,
)
from sonant.sessions.stream import Stream
from sonant.sessions.worker_pool import WorkerPool
from sonant.storage.crypto.vault import Vault
from sonant.storage.opening import vault_of
from sonant.storage.repositories import callers, domains, session_streams, sessions
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.sessions import Session
from sonant.voice.models import Models

log = logging.getLogger(__name__)

HEARTBEAT_S = 1.0
#: A connection without audio for so long gives way to a newer one for the same call, in seconds: it may be
#: dead and not known to be. One that is alive sends every 20 ms, unless its call is on hold.
GIVES_WAY_S = 3.0
#: How long `close` waits for results that are not stored yet, in seconds.
CLOSE_S = 5.0

#: Ids as the service model allows them; those that carriers send are checked nowhere else.
_DOMAIN = re.compile(r"[a-zA-Z0-9]{22}")
_SESSION = re.compile(r"id#[a-zA-Z0-9]{22}|[a-zA-Z0-9][a-zA-Z0-9_-]{0,35}")
_SPEAKER = re.compile(r"id#[a-zA-Z0-9]{22}|[a-zA-Z0-9][a-zA-Z0-9_-]{0,255}")


class StreamManager:
    """The open streams of a process. No thread is started before the first call."""

    def __init__(
        self,
        context: StreamContext,
        make_pool: Callable[[], WorkerPool],
        load_models: Callable[[], Models],
    ) -> None:
        self._context, self._make_pool, self._load_models = context, make_pool, load_models
        self._lock = threading.Lock()
        self._open: dict[str, StreamListener] = {}
        self._closed = False
        self._workers: _Workers | None = None

    def open(self, call: Call) -> Stream:
        """Open the stream that a carrier pushes its audio into. Blocks: call it in a thread.

        The stream is ONGOING with its first audio. A carrier's newer connection wins over one that has sent
        nothing for a while, or that it says to continue.

        Raises ResourceNotFound DOMAIN, SESSION (also for one that waits for no stream) and SPEAKER, Conflict
        DOMAIN_NOT_ACTIVE, ANOTHER_ACTIVE_STREAM and
        CANNOT_CHANGE_SPEAKER_AFTER_ENROLLMENT, AccessDenied, ServiceQuotaExceeded, InternalServer.
        """
        if not _DOMAIN.fullmatch(call.domain_id):
            raise ResourceNotFound("DOMAIN")
        if not _SESSION.fullmatch(call.session):
            raise _session_not_found()
        if call.speaker_id is not None and not _SPEAKER.fullmatch(call.speaker_id):
            raise ResourceNotFound("SPEAKER")
        with self._context.database.write() as connection:
            session, domain, former = self._pending_session(connection, call)
        if former is not None:
            former.stream.stop(EndReason.DISCONNECTED)
            self._forget(former)
        workers = self._start()
        listener = self._register(workers, session, domain)
        try:
            workers.pool.warm()
            workers.listener_thread.add(listener)
        except RuntimeError:  # no thread to be had: the session must not keep a stream that nobody processes
            self._forget(listener)
            raise
        workers.records.schedule_periodic(HEARTBEAT_S)
        return listener.stream

    def session_changed(self, session_id: str) -> None:
        """Read a session's set-up again, soon. Never waits."""
        workers = self._workers
        if workers is not None and session_id in self._open:
            workers.records.schedule_periodic()

    def close(self) -> None:
        """End all streams as SERVICE_STOPPED; results that are being made are still stored."""
        with self._lock:
            self._closed = True
            workers, listeners = self._workers, list(self._open.values())
        if workers is None:
            return
        deadline = time.monotonic() + CLOSE_S
        for listener in listeners:
            listener.stream.stop(EndReason.SERVICE_STOPPED)
        for listener in listeners:
            listener.stream.wait_drained(max(0.0, deadline - time.monotonic()))
        workers.close()

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._open)

    @property
    def started(self) -> bool:
        """Whether threads and workers were started."""
        return self._workers is not None

    def worker_pids(self) -> list[int]:
        """List the process ids of the workers."""
        return [] if self._workers is None else self._workers.pool.pids()

    @property
    def lost_workers(self) -> int:
        """How many worker processes ended before they were ready."""
        return 0 if self._workers is None else self._workers.pool.lost

    # --- opening

    def _start(self) -> _Workers:
        with self._lock:
            if self._closed:
                raise InternalServer("The service is stopping.")
            if self._workers is None:
                self._workers = _Workers(
                    self._context, self._make_pool(), self._load_models, self._heartbeat, self._forget
                )
            return self._workers

    def _pending_session(
        self, connection: Connection, call: Call
    ) -> tuple[Session, Domain, StreamListener | None]:
        """Find or start the session that waits for the call's stream, and set its speaker. The listener is
        that of an older connection which gave way."""
        context, now = self._context, self._context.clock()
        region = call.region or context.settings.region
        domain = domains.find(connection, call.account_id, region, call.domain_id, lock=True)
        if domain is None:
            raise ResourceNotFound("DOMAIN")
        if not domain.active:
            raise Conflict("DOMAIN_NOT_ACTIVE")
        vault = self._vault(domain)
        session = sessions.find(connection, domain.domain_id, call.session, now)
        former = None if session is None else self._open.get(session.session_id)
        if session is not None and (former is not None or session.stream_status == sessions.ONGOING):
            if not (session.active and _gives_way(call, former)):
                raise Conflict("ANOTHER_ACTIVE_STREAM")
            session = self._end_former(connection, domain, session, former)
        if session is None or not session.active:
            if not call.create or call.session.startswith("id#"):
                raise _session_not_found()
            session = self._start_session(connection, vault, domain, call.session, session)
        if session.stream_until < now + 2 * LEASE:  # until the heartbeat has it wait on
            session_streams.keep_pending(connection, [(session.session_id, session.stream)], now + 2 * LEASE)
        if call.grant is not None:
            self._use(connection, call.grant, session)
        if call.speaker_id is not None:
            session = self._with_speaker(connection, vault, domain, session, call.speaker_id)
        return session, domain, former

    def _end_former(
        self, connection: Connection, domain: Domain, session: Session, former: StreamListener | None
    ) -> Session:
        """End the stream of an older connection, and return the session, which then waits for none."""
        context, now = self._context, self._context.clock()
        session_streams.end(
            connection,
            session.session_id,
            session.stream,
            EndReason.DISCONNECTED,
            now,
            now + context.session_retention,
            None if former is None else former.progress,
        )
        ended = sessions.find(connection, domain.domain_id, session.session_id, now)
        assert ended is not None
        context.outbox.put(connection, [stream_event(connection, domain, ended)], now)
        return ended

    def _use(self, connection: Connection, grant: StreamGrant, session: Session) -> None:
        """Use up what the stream is opened with. Raises AccessDenied."""
        if grant.stream_number not in (None, session.stream):
            raise AccessDenied(
                f"This was made for stream {grant.stream_number} of the session, "
                f"and stream {session.stream} waits."
            )
        now = self._context.clock()
        if not callers.use_once(connection, grant.grant_id, session.session_id, now):
            raise AccessDenied("This has opened a stream already; each stream needs one of its own.")

    def _vault(self, domain: Domain) -> Vault:
        try:
            return vault_of(self._context.keys_of, domain)
        except SealBroken:
            raise
        except KeyError_ as fault:
            raise AccessDenied(f"The domain's KMS key cannot be used: {fault}") from None

    def _start_session(
        self, connection: Connection, vault: Vault, domain: Domain, name: str, previous: Session | None
    ) -> Session:
        settings = self._context.settings
        return start_stream(
            connection,
            vault,
            domain,
            name=name,
            speaker_id=None,
            setup=default_setup(settings.live) if previous is None else previous.setup,
            quota=settings.quotas.active_sessions_per_domain,
            now=self._context.clock(),
            wait=timedelta(seconds=settings.live.idle_s),
        )

    def _with_speaker(
        self, connection: Connection, vault: Vault, domain: Domain, session: Session, speaker_id: str
    ) -> Session:
        now, quota = self._context.clock(), self._context.settings.quotas.speakers_per_domain
        speaker = require_speaker(connection, vault, domain, speaker_id, quota, now)
        if speaker.speaker_id == session.speaker_id:
            return session
        require_speaker_unchanged(session, speaker.speaker_id)
        sessions.configure(
            connection,
            session.session_id,
            speaker_id=speaker.speaker_id,
            setup=session.setup,
            now=now,
        )
        found = sessions.find(connection, domain.domain_id, session.session_id, now)
        assert found is not None
        return found

    def _register(self, workers: _Workers, session: Session, domain: Domain) -> StreamListener:
        settings = self._context.settings
        key = StreamKey(domain_id=domain.domain_id, session_id=session.session_id, number=session.stream)
        stream = Stream(session.session_id, self._context.clock, workers.listener_thread.wake)
        requirements = StreamRequirements.of(session, settings, domain.model_id)
        listener = StreamListener(stream, key, requirements, settings)
        with self._lock:
            if self._closed:
                raise InternalServer("The service is stopping.")
            if session.session_id in self._open:
                raise Conflict("ANOTHER_ACTIVE_STREAM")
            self._open[session.session_id] = listener
        return listener

    def _forget(self, listener: StreamListener) -> None:
        with self._lock:
            if self._open.get(listener.key.session_id) is listener:
                del self._open[listener.key.session_id]

    # --- the heartbeat

    def _heartbeat(self) -> None:
        with self._lock:
            workers, listeners = self._workers, dict(self._open)
        if workers is None or not listeners:
            return
        workers.records.schedule_periodic(
            HEARTBEAT_S
        )  # before the work, so that a failure is followed by another
        streams = [
            records.OpenStream(
                key=one.key,
                claimed=one.is_claimed,
                progress=one.progress,
                connected=one.stream.connected and one.stream.end_reason is None,
            )
            for one in listeners.values()
        ]
        for session_id, state in records.heartbeat(self._context, streams).items():
            listener = listeners[session_id]
            if state.session is None or state.domain is None:
                if state.end_reason is not None:
                    listener.stream.stop(state.end_reason)
                continue
            requirements = StreamRequirements.of(state.session, self._context.settings, state.domain.model_id)
            if requirements != listener.requirements:
                listener.requirements = requirements
                workers.listener_thread.wake()


class _Workers:
    """The threads of a manager, started with its first call."""

    def __init__(
        self,
        context: StreamContext,
        pool: WorkerPool,
        load_models: Callable[[], Models],
        heartbeat: Callable[[], None],
        forget: Callable[[StreamListener], None],
    ) -> None:
        """Raises RuntimeError, with no thread left running, when the system has none to give."""
        self.pool = pool
        self.listener_thread = ListenerThread(load_models, self._perform)
        self.records = RetryQueue("live records", heartbeat)
        self.enrollments = RetryQueue("live enrollments")
        self._actions = StreamActions(
            context, self.listener_thread.post, pool, self.records, self.enrollments, forget
        )
        try:
            for thread in (self.listener_thread, self.records, self.enrollments):
                thread.start()
        except RuntimeError:
            self.close(0.0)
            raise

    def close(self, wait_s: float = CLOSE_S) -> None:
        """End the threads and the workers; wait `wait_s` seconds at most for each queue."""
        self.listener_thread.close()
        self.pool.close()
        self.enrollments.close(wait_s)
        self.records.close(wait_s)

    def _perform(self, listener: StreamListener, request: Request) -> None:
        self._actions.perform(listener, request)


def _gives_way(call: Call, former: StreamListener | None) -> bool:
    """Decide whether the connection that brings a session's audio gives way to another carrier's. `former` is
    its listener, None when another process has it."""
    if not call.create:
        return False  # who opens a session's stream waits until the last one has ended
    return call.continues or (former is not None and former.stream.silent_s > GIVES_WAY_S)


def _session_not_found() -> ResourceNotFound:
    return ResourceNotFound("SESSION", "The domain has no session of this name that waits for a stream.")
