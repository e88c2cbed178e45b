"""The state of one stream: audio in, requests for embeddings and results out.

Only the listener thread (see `listener_thread`) touches it, so nothing here waits or locks.

audio --8 kHz--> speech detector --> net speech --enough for a purpose--> hands: have it heard, stored
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import numpy as np

from sonant.sessions.calls import EndReason
from sonant.sessions.stream import Samples, Stream
from sonant.settings import Settings
from sonant.storage.repositories.session_hearings import AUTHENTICATION, FRAUD
from sonant.storage.repositories.session_streams import Progress
from sonant.storage.repositories.sessions import Session
from sonant.voice.audio.recording import RATE_HZ, TelephoneBand
from sonant.voice.gathering import SpeechGatherer, SpeechWindow
from sonant.voice.models import Models
from sonant.voice.speech import FRAME

#: Audio is listened to in blocks of so much; in shorter ones when a purpose needs less than that.
BLOCK_S = 0.2
#: Of long silences only so much is remembered for the noise level.
REMEMBER_S = 600.0

ENROLLMENT = "ENROLLMENT"
GATHERING = "NOT_ENOUGH_SPEECH"
"""Enrollment status of a session whose stream gathers speech for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRequirements:
    """What a session asks of its stream, now."""

    purposes: Mapping[str, int]
    """Samples of speech at 8 kHz, by purpose."""
    model_id: str | None
    """The domain's voice model."""
    risk_threshold: int | None
    """None: no fraud detection."""

    @classmethod
    def of(cls, session: Session, settings: Settings, model_id: str | None) -> StreamRequirements:
        purposes = {}
        if session.acceptance_threshold is not None:
            purposes[AUTHENTICATION] = round(session.authentication_speech_s * RATE_HZ)
        if session.risk_threshold is not None:
            purposes[FRAUD] = round(settings.live.fraud_speech_s * RATE_HZ)
        if session.enrollment_status == GATHERING:
            purposes[ENROLLMENT] = round(settings.enrollment.net_speech_s * RATE_HZ)
        return cls(purposes=purposes, model_id=model_id, risk_threshold=session.risk_threshold)


def most_speech(settings: Settings) -> int:
    """Samples of speech after which nobody can want more."""
    most_s = (settings.enrollment.net_speech_s, settings.live.fraud_speech_s, 10.0)
    return round(max(most_s) * RATE_HZ)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamKey:
    """Which stream it is."""

    domain_id: str
    session_id: str
    number: int


class StreamActionsProtocol(Protocol):
    """Does what takes time, elsewhere; each ends with a call of `claimed`, `done` or `gone`."""

    def claim(self, listener: StreamListener) -> None:
        """The first audio has come."""
        ...

    def hear(
        self, listener: StreamListener, purpose: str, window: SpeechWindow, model_id: str | None
    ) -> None:
        """There is enough speech for a purpose."""
        ...

    def end(self, listener: StreamListener, reason: EndReason) -> None:
        """The stream has ended and all that was heard is stored."""
        ...


class StreamListener:
    """One stream that is listened to."""

    def __init__(
        self,
        stream: Stream,
        place: StreamKey,
        actions: StreamActionsProtocol,
        requirements: StreamRequirements,
        settings: Settings,
    ) -> None:
        self.stream, self.place, self.requirements = stream, place, requirements
        self._actions, self._live = actions, settings.live
        self._most = most_speech(settings)
        self._enrollment_need = round(settings.enrollment.net_speech_s * RATE_HZ)
        self._enrollment_speech_at: datetime | None = None
        self._band: TelephoneBand | None = None
        self._gatherer: SpeechGatherer | None = None
        self._asked: dict[str, tuple[int, str | None]] = {}
        self._in_flight = 0
        self._taken_s = 0.0
        self._claiming = self._finished = self._ending = False
        self.is_claimed = False
        self.progress = self._progress()

    # --- what the hands tell, in the listening thread

    def claimed(self) -> None:
        """The stream is this process's."""
        self.is_claimed = True
        self._in_flight -= 1

    def done(self) -> None:
        """A task is done, and what came of it is stored."""
        self._in_flight -= 1

    def lost(self, reason: EndReason) -> None:
        """A task or a claim failed for good: the stream ends."""
        self._in_flight -= 1
        self.stream.lose(reason)

    # --- the thread's step

    def step(self, models: Models) -> bool:
        """Do what is due; False when there is nothing more to do, ever."""
        if self._ending:
            return False
        stream = self.stream
        reason = stream.reason  # before the audio: after it nothing more is taken
        if reason is None:
            self._check_limits()
        elif reason is EndReason.DOMAIN_GONE:
            self._finished = True
        if not self._claiming and stream.begun_at is not None:
            self._claiming = True
            self._in_flight += 1
            self._actions.claim(self)
        if not self._finished:
            if self._due(reason is not None):
                self._listen(stream.take(), models)
            if reason is not None:
                self._finish()
        if self.is_claimed and reason is not EndReason.DOMAIN_GONE:
            self._ask()
        if self._in_flight == 0:
            if reason is not None and self._finished:
                self._ending = True
                self._actions.end(self, reason)
                return False
            stream.settle()
        return True

    def break_off(self) -> None:
        """A fault of ours: what is heard and not stored is lost."""
        self.stream.stop(EndReason.SERVICE_STOPPED)
        self._ending = True
        self._actions.end(self, EndReason.SERVICE_STOPPED)

    def _check_limits(self) -> None:
        live, stream = self._live, self.stream
        if stream.silent_s > live.idle_s:
            stream.stop(EndReason.NEVER_BEGAN if stream.begun_at is None else EndReason.IDLE)
        elif self._taken_s > live.max_stream_s or stream.age_s > live.max_stream_s:
            stream.stop(EndReason.TOO_LONG)

    def _due(self, ending: bool) -> bool:
        waiting_s = self.stream.waiting_s
        if not waiting_s:
            return False
        return ending or waiting_s >= self._block_s() or self.stream.silent_s > BLOCK_S

    def _block_s(self) -> float:
        count = 0 if self._gatherer is None else self._gatherer.count
        missing = [
            need - count for purpose, need in self.requirements.purposes.items() if purpose not in self._asked
        ]
        return max(FRAME / RATE_HZ, min([BLOCK_S, *(samples / RATE_HZ for samples in missing)]))

    def _listen(self, samples: Samples, models: Models) -> None:
        if not len(samples):
            return
        rate_hz = self.stream.rate_hz
        if self._gatherer is None or self._band is None:
            self._band = TelephoneBand(rate_hz)
            self._gatherer = SpeechGatherer(models, self._most, remember_s=REMEMBER_S)
        self._taken_s += len(samples) / rate_hz
        if not self._gatherer.enough:
            sound = samples.astype(np.float32) / np.float32(32768)
            self._gatherer.feed(self._band.feed(sound))
            self.progress = self._progress()

    def _finish(self) -> None:
        self._finished = True
        if self._gatherer is not None and self._band is not None:
            self._gatherer.feed(self._band.finish())
            self._gatherer.finish()
            self.progress = self._progress()

    def _ask(self) -> None:
        gatherer, requirements = self._gatherer, self.requirements
        if gatherer is None:
            return
        for purpose, need in requirements.purposes.items():
            if gatherer.count < need or not self._news(purpose, need, requirements.model_id):
                continue
            window = gatherer.window(need)
            self._asked[purpose] = (need, requirements.model_id)
            self._in_flight += 1
            self._actions.hear(self, purpose, window, requirements.model_id)

    def _news(self, purpose: str, need: int, model_id: str | None) -> bool:
        """Whether what was asked for this purpose before is not enough."""
        asked = self._asked.get(purpose)
        if asked is None:
            return True
        if purpose == ENROLLMENT:  # once a session; a new model is seen to where the voiceprint is stored
            return False
        return need > asked[0] or model_id != asked[1]

    def _progress(self) -> Progress:
        gatherer, stream = self._gatherer, self.stream
        if gatherer is not None:
            stream.heard_s = gatherer.heard / RATE_HZ
            stream.net_speech_s = min(gatherer.count, gatherer.need) / RATE_HZ
            if self._enrollment_speech_at is None and gatherer.count >= self._enrollment_need:
                assert stream.begun_at is not None
                self._enrollment_speech_at = stream.begun_at + timedelta(seconds=stream.heard_s)
        return Progress(
            session_id=self.place.session_id,
            stream=self.place.number,
            heard_s=stream.heard_s,
            net_speech_s=stream.net_speech_s,
            enrollment_speech_at=self._enrollment_speech_at,
        )
