"""Carries out the requests of stream listeners: workers analyze speech, threads write, the listener is
informed.

Nothing here waits; what takes time goes to the worker pool or to a retry queue.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from sonant.jobs.entry import TaskResult
from sonant.jobs.faults import Refusal
from sonant.sessions import enrollment, later_looks, records
from sonant.sessions.analysis import PRIORITIES, analysis_task, analyzed_speech
from sonant.sessions.calls import EndReason
from sonant.sessions.context import DomainUnavailable, StreamContext
from sonant.sessions.listener import (
    AGAIN,
    ENROLLMENT,
    ClaimStream,
    EmbedSpeech,
    EndStream,
    Request,
    StreamKey,
    StreamListener,
)
from sonant.sessions.retry_queue import RetryQueue
from sonant.sessions.worker_pool import WorkerPool
from sonant.storage.repositories.session_samples import AUTHENTICATION, SessionSample
from sonant.voice.sample import VoiceSample

log = logging.getLogger(__name__)

#: A domain's voice model rarely changes; speech to enroll is analyzed with so many models at most.
MAX_MODELS = 3

#: Why an enrollment in progress fails.
_SERVICE_FAILED = Refusal(500, "the service failed before the voiceprint was stored")
_DOMAIN_UNAVAILABLE = Refusal(409, "the domain was suspended or its key cannot be used")
_MODEL_CHANGED = Refusal(409, "the domain's voice model was changed")


class StreamActions:
    """Performs requests. Each ends with `claimed`, `request_done` or `request_failed` of its listener, called
    in the listener thread."""

    def __init__(
        self,
        context: StreamContext,
        post: Callable[[Callable[[], None]], None],
        pool: WorkerPool,
        record_queue: RetryQueue,
        enrollment_queue: RetryQueue,
        on_ended: Callable[[StreamListener], None],
    ) -> None:
        """`post` runs a task in the listener thread; `on_ended` is called when a stream's end is stored."""
        self._context, self._post, self._pool = context, post, pool
        self._record_queue, self._enrollment_queue = record_queue, enrollment_queue
        self._on_ended = on_ended

    def perform(self, listener: StreamListener, request: Request) -> None:
        """Have a request carried out."""
        match request:
            case ClaimStream():
                self._claim(listener, request)
            case EmbedSpeech(purpose=purpose) if purpose == ENROLLMENT:
                self._start_enrollment(listener, request)
            case EmbedSpeech(purpose=purpose) if purpose == AGAIN:
                self._look_again(listener, request)
            case EmbedSpeech():
                self._embed(listener, request)
            case EndStream():
                self._end(listener, request)

    def _claim(self, listener: StreamListener, request: ClaimStream) -> None:
        def run() -> None:
            try:
                refused = records.claim(self._context, listener.key, request.started_at)
            except DomainUnavailable:
                refused = EndReason.DOMAIN_GONE
            if refused is None:
                self._post(listener.claimed)
            else:
                self._fail(listener, refused)

        self._record_queue.put("the start of a stream", run, lambda: self._fail(listener))

    def _embed(
        self, listener: StreamListener, request: EmbedSpeech, voice: VoiceSample | None = None
    ) -> None:
        """`voice` is that of the speech, where it is known and the speech is one person's."""

        def on_result(result: TaskResult | Refusal) -> None:
            if request.then is not None:
                self._embed(listener, request.then, _only_voice(result))
            session_id = listener.key.session_id
            if isinstance(result, Refusal) and result.more_speech:
                log.info(
                    "session %s: %s waits for other speech: %s", session_id, request.purpose, result.message
                )
                self._post(partial(listener.more_speech_needed, request.purpose, request.need))
            elif isinstance(result, Refusal):
                log.error("session %s: %s failed: %s", session_id, request.purpose, result.message)
                self._fail(listener)
            elif request.purpose == AUTHENTICATION and result.voices.missing:
                report = partial(listener.more_speech_needed, request.purpose, result.voices.missing)
                self._save(listener, request, None, True, report)
            else:
                speech = _analyzed(listener.key, request, result)
                multiple_speakers = result.voices.count > 1
                self._save(listener, request, speech, multiple_speakers, listener.request_done)

        task = analysis_task(request, self._context.settings, voice)
        self._pool.submit(task, PRIORITIES[request.purpose], on_result)

    def _save(
        self,
        listener: StreamListener,
        request: EmbedSpeech,
        speech: SessionSample | None,
        multiple_speakers: bool,
        report: Callable[[], None],
    ) -> None:
        def run() -> None:
            try:
                saved = records.save(
                    self._context,
                    listener.key,
                    speech,
                    multiple_speakers=multiple_speakers,
                    erasures=request.erasures,
                )
            except DomainUnavailable:
                self._fail(listener, EndReason.DOMAIN_GONE)
                return
            if saved:
                self._post(report)
            else:
                self._fail(listener, EndReason.OVERRUN)

        self._record_queue.put("analyzed speech", run, lambda: self._fail(listener))

    def _end(self, listener: StreamListener, request: EndStream) -> None:
        def run() -> None:
            records.end(self._context, listener.key, request.reason, request.progress)
            close()

        def close() -> None:
            self._on_ended(listener)
            listener.stream.close()

        # A stream whose end cannot be written ends with its lease.
        self._record_queue.put("the end of a stream", run, close)

    def _look_again(self, listener: StreamListener, request: EmbedSpeech) -> None:
        """Analyze speech of after the decisions. A look that fails changes nothing: another follows."""

        def done() -> None:
            self._post(listener.request_done)

        def on_result(result: TaskResult | Refusal) -> None:
            if isinstance(result, Refusal) or result.voices.count > 1:
                done()  # it cannot be told whose voice this is
                return
            speech = _analyzed(listener.key, request, result)

            def run() -> None:
                later_looks.take(self._context, listener.key, speech, request.erasures)
                done()

            # Not in the records' thread: fraud detection may take its time.
            self._enrollment_queue.put("a later look at a voice", run, done)

        task = analysis_task(request, self._context.settings)
        self._pool.submit(task, PRIORITIES[AGAIN], on_result)

    # --- enrollment

    def _start_enrollment(self, listener: StreamListener, request: EmbedSpeech) -> None:
        def run() -> None:
            session = enrollment.start(self._context, listener.key)
            if session is None:
                self._post(listener.request_done)
            else:
                threshold = session.risk_threshold
                self._enroll(listener, replace(request, risk_threshold=threshold), tries=MAX_MODELS)

        self._enrollment_queue.put("the start of an enrollment", run, lambda: self._fail(listener))

    def _enroll(self, listener: StreamListener, request: EmbedSpeech, *, tries: int) -> None:
        def on_result(result: TaskResult | Refusal) -> None:
            self._enrollment_queue.put("an enrollment", lambda: finish(result), fail)

        def finish(result: TaskResult | Refusal) -> None:
            key, speech = listener.key, None
            if isinstance(result, TaskResult):
                speech = _analyzed(key, request, result)
            try:
                enrollment.finish(self._context, key, result, speech)
            except DomainUnavailable:
                enrollment.fail(self._context, key, _DOMAIN_UNAVAILABLE)
            except enrollment.ModelChanged as changed:
                if tries > 1:
                    self._enroll(listener, replace(request, model_id=changed.model_id), tries=tries - 1)
                    return
                enrollment.fail(self._context, key, _MODEL_CHANGED)
            self._post(listener.request_done)

        def fail() -> None:
            try:
                enrollment.fail(self._context, listener.key, _SERVICE_FAILED)
            finally:
                self._post(listener.request_done)

        task = analysis_task(request, self._context.settings)
        self._pool.submit(task, PRIORITIES[ENROLLMENT], on_result)

    def _fail(self, listener: StreamListener, reason: EndReason = EndReason.SERVICE_STOPPED) -> None:
        self._post(lambda: listener.request_failed(reason))


def _analyzed(key: StreamKey, request: EmbedSpeech, result: TaskResult) -> SessionSample:
    return analyzed_speech(request.purpose, key.number, request.started_at, request.window, result)


def _only_voice(result: TaskResult | Refusal) -> VoiceSample | None:
    """Return the voice of all the speech, None where it is several people's or unknown."""
    return result.sample if isinstance(result, TaskResult) and result.voices.count == 1 else None
