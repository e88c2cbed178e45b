"""The state of one stream: audio in, requests for work out.

Only the listener thread (see `listener_thread`) uses it, so nothing here waits or locks. Work that takes time
is requested: `take_requests` returns it, `actions` carries it out elsewhere, and the result is reported by
`claimed`, `request_done` or `request_failed`.

    audio --8 kHz--> speech detection --> net speech --enough for a purpose--> EmbedSpeech

Speech that holds two voices is not enough (`more_speech_needed`): the listener goes on until one of them has
spoken for as long as the purpose needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sonant.sessions.call_speech import CallSpeech
from sonant.sessions.calls import EndReason
from sonant.sessions.stream import Samples, Stream
from sonant.settings import Settings
from sonant.storage.repositories.session_samples import AUTHENTICATION, FRAUD
from sonant.storage.repositories.session_streams import Progress
from sonant.storage.repositories.sessions import Session
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.collector import SpeechWindow
from sonant.voice.models import Models
from sonant.voice.speech import FRAME

#: Audio is processed in blocks of so many seconds; in shorter ones when a purpose needs less than that.
BLOCK_S = 0.5
#: Least further speech after which speech of two voices is analyzed again, in seconds.
MORE_S = 1.0

ENROLLMENT = "ENROLLMENT"
AGAIN = "AGAIN"
"""Purpose of speech for a later look at the voice; see `later_looks`."""
GATHERING = "NOT_ENOUGH_SPEECH"
"""Enrollment status of a session that gathers speech for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRequirements:
    """What a session needs of its stream, as it is set up now."""

    purposes: Mapping[str, int]
    """Samples of speech at 8 kHz, by purpose."""
    model_id: str | None
    """The domain's voice model."""
    risk_threshold: int | None
    """None: no fraud detection."""
    erasures: int = 0
    """See `Session`: what was heard before the last one is forgotten."""
    stream: int = 0
    """The number of the session's stream: a later one than the listener's was started over the same
    connection."""
    again_s: float = 0.0
    """Seconds of audio between two looks at the voice; 0: one look."""

    @classmethod
    def of(cls, session: Session, settings: Settings, model_id: str | None) -> StreamRequirements:
        """Derive the requirements from a session's set-up."""
        purposes = {}
        if session.acceptance_threshold is not None:
            purposes[AUTHENTICATION] = round(session.authentication_speech_s * RATE_HZ)
        if session.risk_threshold is not None:
            purposes[FRAUD] = round(settings.live.fraud_speech_s * RATE_HZ)
        if session.enrollment_status == GATHERING:
            purposes[ENROLLMENT] = round(settings.enrollment.net_speech_s * RATE_HZ)
        return cls(
            purposes=purposes,
            model_id=model_id,
            risk_threshold=session.risk_threshold,
            erasures=session.erasures,
            stream=session.stream,
            again_s=settings.live.again_s,
        )


def most_speech(settings: Settings) -> int:
    """Return the most speech that any purpose can need, in samples at 8 kHz."""
    most_s = (settings.enrollment.net_speech_s, settings.live.fraud_speech_s, 10.0)
    return round(max(most_s) * RATE_HZ)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamKey:
    """The identity of a stream."""

    domain_id: str
    session_id: str
    number: int
    """Of the session's streams, from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimStream:
    """The first audio has come: make the stream this process's."""

    started_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedSpeech:
    """There is enough speech for a purpose: analyze it and store the result."""

    purpose: str
    window: SpeechWindow
    need: int
    """Samples of speech of one voice that the purpose needs; the window has as many, or more."""
    model_id: str | None
    risk_threshold: int | None
    started_at: datetime
    """When the stream's first audio came."""
    erasures: int = 0
    """Those of the session when its speech was collected: of an earlier count, the result is not stored."""
    then: EmbedSpeech | None = None
    """The request of another purpose for the same speech: its voice need not be looked for twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndStream:
    """The stream has ended and all results are stored: store the end."""

    reason: EndReason
    progress: Progress


Request = ClaimStream | EmbedSpeech | EndStream


@dataclass(frozen=True, slots=True)
class _Asked:
    """The last request for a purpose."""

    need: int
    model_id: str | None
    speech: int
    """Samples of speech in its window."""


class StreamListener:
    """Finds speech in one stream's audio and requests what the session needs of it."""

    def __init__(
        self, stream: Stream, key: StreamKey, requirements: StreamRequirements, settings: Settings
    ) -> None:
        self.stream, self.key, self.requirements = stream, key, requirements
        self._erasures = requirements.erasures
        self._live = settings.live
        self._most = most_speech(settings)
        self._enrollment_need = round(settings.enrollment.net_speech_s * RATE_HZ)
        self._enrollment_speech_at: datetime | None = None
        self._speech: CallSpeech | None = None
        self._requests: list[Request] = []
        self._asked: dict[str, _Asked] = {}
        self._more: dict[str, int] = {}
        """Samples of speech at which a purpose whose speech held two voices is analyzed again."""
        self._in_flight = 0
        self._taken_s = 0.0
        self._begun_s = 0.0
        """Of the audio taken, that of earlier streams."""
        self._later: CallSpeech | None = None
        """Speech for the next look at the voice, while it is collected."""
        self._later_from_s = 0.0
        self._later_due_s = 0.0
        """Audio taken when the next look begins."""
        self._claim_requested = self._audio_finished = False
        self.is_claimed = self.finished = False
        self.progress = self._progress()

    # --- reports about requests, in the listener thread

    def claimed(self) -> None:
        """Report that the stream is this process's."""
        self.is_claimed = True
        self._in_flight -= 1

    def request_done(self) -> None:
        """Report that a request is done and its result is stored."""
        self._in_flight -= 1

    def more_speech_needed(self, purpose: str, missing: int) -> None:
        """Report that the speech for a purpose holds two voices, and that the one with most of it lacks
        `missing` samples."""
        self._in_flight -= 1
        if purpose not in self._asked:
            return  # the speech was forgotten meanwhile
        assert self._speech is not None
        target = self._asked[purpose].speech + max(missing, round(MORE_S * RATE_HZ))
        if self._speech.extend(target):
            self._more[purpose] = target
        else:
            for waiting in (purpose, *self._more):
                del self._asked[waiting]
            self._more.clear()

    def request_failed(self, reason: EndReason) -> None:
        """Report that a request failed for good, which ends the stream."""
        self._in_flight -= 1
        self.stream.fail(reason)

    # --- the thread's step

    def step(self, models: Models) -> None:
        """Process waiting audio and add the requests that are due. `finished` is set with the last one."""
        if self.finished:
            return
        if self.requirements.erasures != self._erasures:
            self._forget_speech()
        stream = self.stream
        reason = stream.end_reason  # read before the audio: after it nothing more is taken
        if reason is None:
            self._check_limits()
        elif reason is EndReason.DOMAIN_GONE:
            self._audio_finished = True
        if not self._claim_requested and stream.started_at is not None:
            self._claim_requested = True
            self._request(ClaimStream(started_at=stream.started_at))
        if not self._audio_finished:
            if self._block_is_due(ending=reason is not None):
                self._process(stream.take(), models)
            if reason is not None:
                self._finish_audio()
        if self.is_claimed and reason is not EndReason.DOMAIN_GONE:
            self._request_embeddings()
        if self._in_flight == 0:
            if reason is not None and self._audio_finished:
                self._end(reason)
            else:
                stream.mark_processed()

    def abort(self) -> None:
        """End the stream after an internal failure; speech that is not stored is lost."""
        self.stream.stop(EndReason.SERVICE_STOPPED)
        self._end(EndReason.SERVICE_STOPPED)

    def take_requests(self) -> list[Request]:
        """Return the requests made since the last call, in order."""
        requests, self._requests = self._requests, []
        return requests

    def _forget_speech(self) -> None:
        """Drop the speech that was collected, and begin anew with the next audio."""
        requirements = self.requirements
        self._erasures = requirements.erasures
        if requirements.stream > self.key.number:
            self.key = replace(self.key, number=requirements.stream)
            self._begun_s, self._enrollment_speech_at = self._taken_s, None
        self._asked.clear()
        self._more.clear()
        self._later = None
        if self._speech is not None:
            self._speech.forget()
        self.progress = self._progress()

    def _request(self, request: ClaimStream | EmbedSpeech) -> None:
        self._in_flight += 2 if isinstance(request, EmbedSpeech) and request.then is not None else 1
        self._requests.append(request)

    def _end(self, reason: EndReason) -> None:
        self.finished = True
        self._requests.append(EndStream(reason=reason, progress=self.progress))

    def _check_limits(self) -> None:
        live, stream = self._live, self.stream
        if stream.silent_s > (live.silence_s if stream.connected else live.idle_s):
            stream.stop(EndReason.NEVER_BEGAN if stream.started_at is None else EndReason.IDLE)
        elif self._taken_s > live.max_stream_s or stream.age_s > live.max_stream_s:
            stream.stop(EndReason.TOO_LONG)

    def _block_is_due(self, *, ending: bool) -> bool:
        waiting_s = self.stream.waiting_s
        if not waiting_s:
            return False
        return ending or waiting_s >= self._block_s() or self.stream.silent_s > BLOCK_S

    def _block_s(self) -> float:
        requirements = self.requirements  # another thread may replace them meanwhile
        count = 0 if self._speech is None else self._speech.count
        missing = [
            needed - count
            for purpose in requirements.purposes
            if (needed := self._speech_needed(requirements, purpose)) is not None
        ]
        return max(FRAME / RATE_HZ, min([BLOCK_S, *(samples / RATE_HZ for samples in missing)]))

    def _process(self, samples: Samples, models: Models) -> None:
        if not len(samples):
            return
        if self._speech is None:
            self._speech = CallSpeech(models, self.stream.rate_hz, self._most)
        self._taken_s += len(samples) / self.stream.rate_hz
        self._speech.push(samples, hold=self._in_flight > 0)
        self._collect_again(samples, models)
        self.progress = self._progress()

    def _collect_again(self, samples: Samples, models: Models) -> None:
        """Collect speech for the next look at the voice, when it is due."""
        requirements = self.requirements
        if not requirements.again_s or not self._is_decided(requirements):
            self._later, self._later_due_s = None, self._taken_s + requirements.again_s
        elif self._later is not None:
            self._later.push(samples, hold=False)
        elif self._taken_s >= self._later_due_s:
            self._later = CallSpeech(models, self.stream.rate_hz, self._later_need(requirements))
            self._later_from_s = self._taken_s

    def _is_decided(self, requirements: StreamRequirements) -> bool:
        """Whether all speech that decisions need was analyzed."""
        purposes = [purpose for purpose in requirements.purposes if purpose != ENROLLMENT]
        return bool(purposes) and all(one in self._asked and one not in self._more for one in purposes)

    def _later_need(self, requirements: StreamRequirements) -> int:
        needs = requirements.purposes.items()
        return max(need for purpose, need in needs if purpose != ENROLLMENT)

    def _request_again(self, started_at: datetime) -> None:
        """Request the next look at the voice, when there is enough speech for it."""
        requirements, later = self.requirements, self._later
        if later is None or not self._is_decided(requirements):
            return
        need = self._later_need(requirements)
        if later.count < need:
            return
        self._later, self._later_due_s = None, self._taken_s + requirements.again_s
        self._request(
            EmbedSpeech(
                purpose=AGAIN,
                window=later.window(need),
                need=need,
                model_id=requirements.model_id,
                risk_threshold=requirements.risk_threshold,
                started_at=started_at + timedelta(seconds=self._later_from_s),
                erasures=self._erasures,
            )
        )

    def _finish_audio(self) -> None:
        self._audio_finished = True
        if self._speech is not None:
            self._speech.finish()
            self.progress = self._progress()

    def _request_embeddings(self) -> None:
        speech, started_at = self._speech, self.stream.started_at
        if speech is None or started_at is None:
            return
        self._request_again(started_at)
        requirements, due = self.requirements, dict[str, EmbedSpeech]()
        for purpose, need in requirements.purposes.items():
            needed = self._speech_needed(requirements, purpose)
            if needed is None or speech.count < needed:
                continue
            self._more.pop(purpose, None)
            self._asked[purpose] = _Asked(need, requirements.model_id, needed)
            due[purpose] = EmbedSpeech(
                purpose=purpose,
                window=speech.window(needed),
                need=need,
                model_id=requirements.model_id,
                risk_threshold=requirements.risk_threshold,
                started_at=started_at,
                erasures=self._erasures,
            )
        for request in _chained(due):
            self._request(request)

    def _speech_needed(self, requirements: StreamRequirements, purpose: str) -> int | None:
        """Return with how many samples of speech the purpose is analyzed next; None where the last request
        covers what is needed now."""
        need, model_id = requirements.purposes[purpose], requirements.model_id
        last = self._asked.get(purpose)
        if last is None:
            return need
        if purpose in self._more:
            return max(need, self._more[purpose])
        if purpose == ENROLLMENT:  # once a session; `enrollment.finish` handles a new model
            return None
        return max(need, last.speech) if need > last.need or model_id != last.model_id else None

    def _progress(self) -> Progress:
        speech, stream = self._speech, self.stream
        stream.heard_s = self._taken_s - self._begun_s
        if speech is not None:
            stream.net_speech_s = min(speech.count, self._most) / RATE_HZ
            if self._enrollment_speech_at is None and speech.count >= self._enrollment_need:
                assert stream.started_at is not None
                self._enrollment_speech_at = stream.started_at + timedelta(seconds=speech.analyzed / RATE_HZ)
        return Progress(
            session_id=self.key.session_id,
            stream=self.key.number,
            heard_s=stream.heard_s,
            net_speech_s=stream.net_speech_s,
            enrollment_speech_at=self._enrollment_speech_at,
        )


def _chained(due: Mapping[str, EmbedSpeech]) -> list[EmbedSpeech]:
    """Put the request for fraud detection behind the one for authentication that is for the same speech."""
    first, second = due.get(AUTHENTICATION), due.get(FRAUD)
    if first is None or second is None or not len(first.window.samples) == first.need == second.need:
        return list(due.values())
    others = [request for purpose, request in due.items() if purpose not in (AUTHENTICATION, FRAUD)]
    return [replace(first, then=second), *others]
