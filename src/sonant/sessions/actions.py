"""Carries out what a stream's listening asks for: workers hear, a thread writes, the listening is told.

Nothing here waits; what takes time is put into the pool or the errands.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from sonant.jobs.entry import Prepared
from sonant.jobs.faults import Refusal
from sonant.sessions import enrollment, records
from sonant.sessions.calls import EndReason
from sonant.sessions.context import Desk, DomainGone
from sonant.sessions.hearing import URGENCY, hearing_of, task_for
from sonant.sessions.listener import ENROLLMENT, Listening
from sonant.sessions.listener_thread import Ears
from sonant.sessions.retry_queue import Errands
from sonant.sessions.worker_pool import Pool
from sonant.voice.gathering import SpeechWindow

log = logging.getLogger(__name__)

#: A domain's voice model is changed seldom; speech that is to be enrolled is heard so often at most.
MAX_MODELS = 3

#: Why an enrollment in progress is given up.
_LOST = Refusal(500, "the service failed before the voiceprint was stored")
_DOMAIN_GONE = Refusal(409, "the domain was suspended or its key cannot be used")
_ANOTHER_MODEL = Refusal(409, "the domain's voice model was changed")


class Hands:
    """See `listening.Hands`."""

    def __init__(
        self,
        desk: Desk,
        ears: Ears,
        pool: Pool,
        records_: Errands,
        enrollments: Errands,
        forget: Callable[[Listening], None],
    ) -> None:
        """`forget` is called when a stream is over."""
        self._desk, self._ears, self._pool = desk, ears, pool
        self._records, self._enrollments, self._forget = records_, enrollments, forget

    def claim(self, listening: Listening) -> None:
        begun_at = listening.stream.begun_at
        assert begun_at is not None

        def run() -> None:
            try:
                gone = records.claim(self._desk, listening.place, begun_at)
            except DomainGone:
                gone = EndReason.DOMAIN_GONE
            if gone is None:
                self._ears.post(listening.claimed)
            else:
                self._lose(listening, gone)

        self._records.put("a stream's begin", run, lambda: self._lose(listening))

    def hear(self, listening: Listening, purpose: str, window: SpeechWindow, model_id: str | None) -> None:
        if purpose == ENROLLMENT:
            self._begin_enrollment(listening, window, model_id)
            return

        def answer(heard: Prepared | Refusal) -> None:
            if isinstance(heard, Refusal):
                log.error("session %s: %s failed: %s", listening.place.session_id, purpose, heard.message)
                self._lose(listening)
            else:
                self._save(listening, purpose, window, heard)

        threshold = listening.wants.risk_threshold
        task = task_for(purpose, window, model_id, self._desk.settings, risk_threshold=threshold)
        self._pool.submit(task, URGENCY[purpose], answer)

    def end(self, listening: Listening, reason: EndReason) -> None:
        progress = listening.progress

        def run() -> None:
            records.end(self._desk, listening.place, reason, progress)
            over()

        def over() -> None:
            self._forget(listening)
            listening.stream.over()

        # A stream whose end cannot be written ends with its lease.
        self._records.put("a stream's end", run, over)

    def _save(self, listening: Listening, purpose: str, window: SpeechWindow, heard: Prepared) -> None:
        begun_at = listening.stream.begun_at
        assert begun_at is not None
        hearing = hearing_of(purpose, listening.place.number, begun_at, window, heard)

        def run() -> None:
            try:
                saved = records.save(self._desk, listening.place, hearing)
            except DomainGone:
                self._lose(listening, EndReason.DOMAIN_GONE)
                return
            if saved:
                self._done(listening)
            else:
                self._lose(listening, EndReason.OVERRUN)

        self._records.put("what was heard", run, lambda: self._lose(listening))

    # --- enrollment

    def _begin_enrollment(self, listening: Listening, window: SpeechWindow, model_id: str | None) -> None:
        def run() -> None:
            session = enrollment.begin(self._desk, listening.place)
            if session is None:
                self._done(listening)
            else:
                self._enroll(listening, window, model_id, session.risk_threshold, tries=MAX_MODELS)

        self._enrollments.put("an enrollment's begin", run, lambda: self._lose(listening))

    def _enroll(
        self,
        listening: Listening,
        window: SpeechWindow,
        model_id: str | None,
        risk_threshold: int | None,
        *,
        tries: int,
    ) -> None:
        def answer(heard: Prepared | Refusal) -> None:
            self._enrollments.put("an enrollment", lambda: finish(heard), fail)

        def finish(heard: Prepared | Refusal) -> None:
            begun_at = listening.stream.begun_at
            assert begun_at is not None
            place, hearing = listening.place, None
            if isinstance(heard, Prepared):
                hearing = hearing_of(ENROLLMENT, place.number, begun_at, window, heard)
            try:
                enrollment.finish(self._desk, place, heard, hearing)
            except DomainGone:
                enrollment.fail(self._desk, place, _DOMAIN_GONE)
            except enrollment.AnotherModel as other:
                if tries > 1:
                    self._enroll(listening, window, other.model_id, risk_threshold, tries=tries - 1)
                    return
                enrollment.fail(self._desk, place, _ANOTHER_MODEL)
            self._done(listening)

        def fail() -> None:
            try:
                enrollment.fail(self._desk, listening.place, _LOST)
            finally:
                self._done(listening)

        task = task_for(ENROLLMENT, window, model_id, self._desk.settings, risk_threshold=risk_threshold)
        self._pool.submit(task, URGENCY[ENROLLMENT], answer)

    def _done(self, listening: Listening) -> None:
        self._ears.post(listening.done)

    def _lose(self, listening: Listening, reason: EndReason = EndReason.SERVICE_STOPPED) -> None:
        self._ears.post(lambda: listening.lost(reason))
