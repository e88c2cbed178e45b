"""Carries out what a stream's listening asks for: workers hear, a thread writes, the listening is told.

Nothing here waits; what takes time is put into the pool or the errands.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from sonant.jobs.entry import TaskResult
from sonant.jobs.faults import Refusal
from sonant.sessions import enrollment, records
from sonant.sessions.calls import EndReason
from sonant.sessions.context import DomainGone, StreamContext
from sonant.sessions.hearing import URGENCY, hearing_of, task_for
from sonant.sessions.listener import ENROLLMENT, StreamListener
from sonant.sessions.listener_thread import ListenerThread
from sonant.sessions.retry_queue import RetryQueue
from sonant.sessions.worker_pool import Pool
from sonant.voice.collector import SpeechWindow

log = logging.getLogger(__name__)

#: A domain's voice model is changed seldom; speech that is to be enrolled is heard so often at most.
MAX_MODELS = 3

#: Why an enrollment in progress is given up.
_LOST = Refusal(500, "the service failed before the voiceprint was stored")
_DOMAIN_GONE = Refusal(409, "the domain was suspended or its key cannot be used")
_ANOTHER_MODEL = Refusal(409, "the domain's voice model was changed")


class StreamActions:
    """See `listener.Hands`."""

    def __init__(
        self,
        context: StreamContext,
        listener_thread: ListenerThread,
        pool: Pool,
        records_: RetryQueue,
        enrollments: RetryQueue,
        forget: Callable[[StreamListener], None],
    ) -> None:
        """`forget` is called when a stream is over."""
        self._context, self._listener_thread, self._pool = context, listener_thread, pool
        self._records, self._enrollments, self._forget = records_, enrollments, forget

    def claim(self, listener: StreamListener) -> None:
        begun_at = listener.stream.begun_at
        assert begun_at is not None

        def run() -> None:
            try:
                gone = records.claim(self._context, listener.place, begun_at)
            except DomainGone:
                gone = EndReason.DOMAIN_GONE
            if gone is None:
                self._listener_thread.post(listener.claimed)
            else:
                self._lose(listener, gone)

        self._records.put("a stream's begin", run, lambda: self._lose(listener))

    def hear(
        self, listener: StreamListener, purpose: str, window: SpeechWindow, model_id: str | None
    ) -> None:
        if purpose == ENROLLMENT:
            self._begin_enrollment(listener, window, model_id)
            return

        def answer(heard: TaskResult | Refusal) -> None:
            if isinstance(heard, Refusal):
                log.error("session %s: %s failed: %s", listener.place.session_id, purpose, heard.message)
                self._lose(listener)
            else:
                self._save(listener, purpose, window, heard)

        threshold = listener.requirements.risk_threshold
        task = task_for(purpose, window, model_id, self._context.settings, risk_threshold=threshold)
        self._pool.submit(task, URGENCY[purpose], answer)

    def end(self, listener: StreamListener, reason: EndReason) -> None:
        progress = listener.progress

        def run() -> None:
            records.end(self._context, listener.place, reason, progress)
            over()

        def over() -> None:
            self._forget(listener)
            listener.stream.over()

        # A stream whose end cannot be written ends with its lease.
        self._records.put("a stream's end", run, over)

    def _save(self, listener: StreamListener, purpose: str, window: SpeechWindow, heard: TaskResult) -> None:
        begun_at = listener.stream.begun_at
        assert begun_at is not None
        hearing = hearing_of(purpose, listener.place.number, begun_at, window, heard)

        def run() -> None:
            try:
                saved = records.save(self._context, listener.place, hearing)
            except DomainGone:
                self._lose(listener, EndReason.DOMAIN_GONE)
                return
            if saved:
                self._done(listener)
            else:
                self._lose(listener, EndReason.OVERRUN)

        self._records.put("what was heard", run, lambda: self._lose(listener))

    # --- enrollment

    def _begin_enrollment(self, listener: StreamListener, window: SpeechWindow, model_id: str | None) -> None:
        def run() -> None:
            session = enrollment.begin(self._context, listener.place)
            if session is None:
                self._done(listener)
            else:
                self._enroll(listener, window, model_id, session.risk_threshold, tries=MAX_MODELS)

        self._enrollments.put("an enrollment's begin", run, lambda: self._lose(listener))

    def _enroll(
        self,
        listener: StreamListener,
        window: SpeechWindow,
        model_id: str | None,
        risk_threshold: int | None,
        *,
        tries: int,
    ) -> None:
        def answer(heard: TaskResult | Refusal) -> None:
            self._enrollments.put("an enrollment", lambda: finish(heard), fail)

        def finish(heard: TaskResult | Refusal) -> None:
            begun_at = listener.stream.begun_at
            assert begun_at is not None
            place, hearing = listener.place, None
            if isinstance(heard, TaskResult):
                hearing = hearing_of(ENROLLMENT, place.number, begun_at, window, heard)
            try:
                enrollment.finish(self._context, place, heard, hearing)
            except DomainGone:
                enrollment.fail(self._context, place, _DOMAIN_GONE)
            except enrollment.AnotherModel as other:
                if tries > 1:
                    self._enroll(listener, window, other.model_id, risk_threshold, tries=tries - 1)
                    return
                enrollment.fail(self._context, place, _ANOTHER_MODEL)
            self._done(listener)

        def fail() -> None:
            try:
                enrollment.fail(self._context, listener.place, _LOST)
            finally:
                self._done(listener)

        task = task_for(ENROLLMENT, window, model_id, self._context.settings, risk_threshold=risk_threshold)
        self._pool.submit(task, URGENCY[ENROLLMENT], answer)

    def _done(self, listener: StreamListener) -> None:
        self._listener_thread.post(listener.done)

    def _lose(self, listener: StreamListener, reason: EndReason = EndReason.SERVICE_STOPPED) -> None:
        self._listener_thread.post(lambda: listener.lost(reason))
