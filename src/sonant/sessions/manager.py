"""Where carriers bring calls: opens streams, and looks after those that are open.

event loop     feeds audio into streams
ears           one thread: finds speech
pool           one thread and its worker processes: hear whose it is
records        one thread: what was heard, begins and ends, and once a second the heartbeat
enrollments    one thread: voiceprints are decided on and stored
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
from sonant.sessions import records
from sonant.sessions.actions import StreamActions
from sonant.sessions.calls import Call, EndReason
from sonant.sessions.context import StreamContext
from sonant.sessions.listener import StreamKey, StreamListener, StreamRequirements
from sonant.sessions.listener_thread import ListenerThread
from sonant.sessions.retry_queue import RetryQueue
from sonant.sessions.setup import default_setup
from sonant.sessions.speakers import require_speaker
from sonant.sessions.starting import begin_stream, check_speaker
from sonant.sessions.stream import Stream
from sonant.sessions.worker_pool import Pool
from sonant.storage.crypto.vault import Vault, open_vault
from sonant.storage.repositories import domains, sessions
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.sessions import Session
from sonant.voice.models import Models

log = logging.getLogger(__name__)

BEAT_S = 1.0
#: How long the end of the service waits for what is in hand.
CLOSE_S = 5.0

#: What ids look like in the service model; carriers' are checked by nobody else.
_DOMAIN = re.compile(r"[a-zA-Z0-9]{22}")
_SESSION = re.compile(r"id#[a-zA-Z0-9]{22}|[a-zA-Z0-9][a-zA-Z0-9_-]{0,35}")
_SPEAKER = re.compile(r"id#[a-zA-Z0-9]{22}|[a-zA-Z0-9][a-zA-Z0-9_-]{0,255}")


class StreamManager:
    """One a process. Nothing is started before the first call."""

    def __init__(
        self, context: StreamContext, pool: Callable[[], Pool], load_models: Callable[[], Models]
    ) -> None:
        self._context, self._make_pool, self._load_models = context, pool, load_models
        self._lock = threading.Lock()
        self._open: dict[str, StreamListener] = {}
        self._closed = False
        self._works: _Works | None = None

    def open(self, call: Call) -> Stream:
        """The stream that a carrier may now feed; blocks, so call it in a thread.

        It is ONGOING with its first audio. Raises ResourceNotFound DOMAIN, SESSION (also for one that waits
        for no stream) and SPEAKER, Conflict DOMAIN_NOT_ACTIVE, ANOTHER_ACTIVE_STREAM and
        CANNOT_CHANGE_SPEAKER_AFTER_ENROLLMENT, AccessDenied, ServiceQuotaExceeded, InternalServer.
        """
        if not _DOMAIN.fullmatch(call.domain_id):
            raise _domain_not_found()
        if not _SESSION.fullmatch(call.session):
            raise _session_not_found()
        if call.speaker_id is not None and not _SPEAKER.fullmatch(call.speaker_id):
            raise ResourceNotFound("SPEAKER")
        with self._context.database.write() as connection:
            session, domain = self._session(connection, call)
        works = self._begin()
        listener = self._listener(works, session, domain)
        try:
            works.pool.warm()
            works.listener_thread.add(listener)
        except RuntimeError:  # no thread to be had: the session must not seem to have a stream for ever
            self._forget(listener)
            raise
        works.records.hurry()
        return listener.stream

    def notice(self, session_id: str) -> None:
        """A session was changed: look at once what it wants now. Never waits."""
        works = self._works
        if works is not None and session_id in self._open:
            works.records.hurry()

    def close(self) -> None:
        """End all streams as SERVICE_STOPPED; what was heard and is in hand is still stored."""
        with self._lock:
            self._closed = True
            works, streams = self._works, list(self._open.values())
        if works is None:
            return
        deadline = time.monotonic() + CLOSE_S
        for listener in streams:
            listener.stream.stop(EndReason.SERVICE_STOPPED)
        for listener in streams:
            listener.stream.wait_drained(max(0.0, deadline - time.monotonic()))
        works.listener_thread.close()
        works.pool.close()
        works.enrollments.close(CLOSE_S)
        works.records.close(CLOSE_S)

    @property
    def streams(self) -> int:
        """How many are open."""
        return len(self._open)

    @property
    def lost_workers(self) -> int:
        """How many worker processes ended before they were ready."""
        return 0 if self._works is None else self._works.pool.lost

    # --- opening

    def _begin(self) -> _Works:
        with self._lock:
            if self._closed:
                raise InternalServer("The service is stopping.")
            if self._works is None:
                self._works = _Works(
                    self._context, self._make_pool(), self._load_models, self._beat, self._forget
                )
            return self._works

    def _session(self, connection: Connection, call: Call) -> tuple[Session, Domain]:
        """The pending session, its speaker set."""
        context, now = self._context, self._context.clock()
        region = call.region or context.settings.region
        domain = domains.find(connection, call.account_id, region, call.domain_id, lock=True)
        if domain is None:
            raise _domain_not_found()
        if not domain.active:
            raise Conflict("DOMAIN_NOT_ACTIVE")
        vault = self._vault(domain)
        session = sessions.find(connection, domain.domain_id, call.session, now)
        if session is not None and session.stream_status == sessions.ONGOING:
            raise Conflict("ANOTHER_ACTIVE_STREAM")
        if session is not None and session.session_id in self._open:
            raise Conflict("ANOTHER_ACTIVE_STREAM")  # its first audio has not come yet
        if session is None or not session.active:
            if not call.create or call.session.startswith("id#"):
                raise _session_not_found()
            session = self._started(connection, vault, domain, call.session, session)
        if call.speaker_id is not None:
            session = self._with_speaker(connection, vault, domain, session, call.speaker_id)
        return session, domain

    def _vault(self, domain: Domain) -> Vault:
        try:
            keys = self._context.keys_of(domain.account_id, domain.region)
            return open_vault(keys, domain.domain_id, domain.arn, domain.data_key_wrapped)
        except SealBroken:
            raise
        except KeyError_ as fault:
            raise AccessDenied(f"The domain's KMS key cannot be used: {fault}") from None

    def _started(
        self, connection: Connection, vault: Vault, domain: Domain, name: str, before: Session | None
    ) -> Session:
        settings = self._context.settings
        return begin_stream(
            connection,
            vault,
            domain,
            name=name,
            speaker_id=None,
            setup=default_setup(settings.live) if before is None else before.setup,
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
        check_speaker(session, speaker.speaker_id)
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

    def _listener(self, works: _Works, session: Session, domain: Domain) -> StreamListener:
        settings = self._context.settings
        place = StreamKey(domain_id=domain.domain_id, session_id=session.session_id, number=session.stream)
        stream = Stream(session.session_id, self._context.clock, works.listener_thread.wake)
        requirements = StreamRequirements.of(session, settings, domain.model_id)
        listener = StreamListener(stream, place, works.actions, requirements, settings)
        with self._lock:
            if self._closed:
                raise InternalServer("The service is stopping.")
            if session.session_id in self._open:
                raise Conflict("ANOTHER_ACTIVE_STREAM")
            self._open[session.session_id] = listener
        return listener

    # --- looking after

    def _forget(self, listener: StreamListener) -> None:
        with self._lock:
            if self._open.get(listener.place.session_id) is listener:
                del self._open[listener.place.session_id]

    def _beat(self) -> None:
        with self._lock:
            works, listenings = self._works, dict(self._open)
        if works is None or not listenings:
            return
        works.records.again(BEAT_S)  # also when this one fails
        streams = [
            records.Open(place=one.place, claimed=one.is_claimed, progress=one.progress)
            for one in listenings.values()
        ]
        for session_id, seen in records.beat(self._context, streams).items():
            listener = listenings[session_id]
            if seen.session is None or seen.domain is None:
                if seen.gone is not None:
                    listener.stream.stop(seen.gone)
                continue
            requirements = StreamRequirements.of(seen.session, self._context.settings, seen.domain.model_id)
            if requirements != listener.requirements:
                listener.requirements = requirements
                works.listener_thread.wake()


class _Works:
    """The threads of an intake that has had a call."""

    def __init__(
        self,
        context: StreamContext,
        pool: Pool,
        load_models: Callable[[], Models],
        beat: Callable[[], None],
        forget: Callable[[StreamListener], None],
    ) -> None:
        self.pool = pool
        self.listener_thread = ListenerThread(load_models)
        self.records = RetryQueue("live records", beat)
        try:
            self.enrollments = RetryQueue("live enrollments")
        except RuntimeError:
            self.records.close(0.0)
            raise
        self.actions = StreamActions(
            context, self.listener_thread, pool, self.records, self.enrollments, forget
        )


def _domain_not_found() -> ResourceNotFound:
    return ResourceNotFound("DOMAIN")


def _session_not_found() -> ResourceNotFound:
    return ResourceNotFound("SESSION", "The domain has no session of this name that waits for a stream.")
