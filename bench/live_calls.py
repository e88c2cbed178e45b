"""Calls for the benchmark of live calls, and what is measured of them, whoever carries them.

A call is 60 s of a real telephone voice, mu-law, in frames of 20 ms. Beforehand it is worked out which frame
completes the speech that authentication and fraud detection need; the time from the sending of that frame to
the moment when the hearing can be read in the database is what an agent would wait.
"""

from __future__ import annotations

import io
import sqlite3
import threading
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from report import CACHE, SPEECH
from sonant.demo.recordings import call_recording, split_clips
from sonant.demo.speech import fetch_voices
from sonant.voice.audio.g711 import MU_LAW_INT16
from sonant.voice.audio.samples import float_from_int16
from sonant.voice.collector import SpeechCollector
from sonant.voice.models import Models
from sonant.voice.models.embedding import embed

RATE_HZ, FRAME_S, DURATION_S, NET_SPEECH_S, NEED_S = 8000, 0.02, 60.0, 30.0, 10.0
FRAME = round(FRAME_S * RATE_HZ)
_FOLDER = CACHE / "live-calls"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveCall:
    """One call to be carried."""

    voice: str
    samples: NDArray[np.int16]
    """Shape [n], 8 kHz, each a value that mu-law has."""
    completing_frame: int
    """Number of the frame with which there is enough speech."""
    vector: NDArray[np.float32]
    """What batch makes of the same speech."""

    def frames(self) -> list[NDArray[np.int16]]:
        return [self.samples[start : start + FRAME] for start in range(0, len(self.samples), FRAME)]


def cut_short(call: LiveCall) -> LiveCall:
    """The same call, ended a second after enough was said."""
    end = (call.completing_frame + round(1 / FRAME_S)) * FRAME
    return replace(call, samples=call.samples[:end])


def voices() -> dict[str, list[Path]]:
    return fetch_voices(SPEECH, progress=print)


def enrollment_call(voice: str, clips: dict[str, list[Path]]) -> NDArray[np.int16]:
    """A call with enough speech to enroll, which shares no clip with those of `live_calls`."""
    return _telephone(_recorded(voice, clips, seed=0, fresh=False, net_speech_s=36.0, duration_s=80.0))


def live_calls(count: int, clips: dict[str, list[Path]], models: Models) -> list[LiveCall]:
    """Calls of all voices in turn; each is another."""
    names, made = list(clips), []
    for number in range(count):
        voice = names[number % len(names)]
        samples = _telephone(
            _recorded(
                voice, clips, seed=1 + number, fresh=True, net_speech_s=NET_SPEECH_S, duration_s=DURATION_S
            )
        )
        made.append(_measured(voice, samples, models))
    return made


def _measured(voice: str, samples: NDArray[np.int16], models: Models) -> LiveCall:
    gatherer, need = SpeechCollector(models, round(NEED_S * RATE_HZ)), round(NEED_S * RATE_HZ)
    sound = float_from_int16(samples)
    for frame, start in enumerate(range(0, len(sound), FRAME)):
        gatherer.push(sound[start : start + FRAME])
        if gatherer.enough:
            vector = embed(gatherer.window(need).samples, models).vector
            return LiveCall(voice=voice, samples=samples, completing_frame=frame, vector=vector)
    raise RuntimeError("a call of the benchmark holds too little speech")


def _recorded(
    voice: str,
    clips: dict[str, list[Path]],
    *,
    seed: int,
    fresh: bool,
    net_speech_s: float,
    duration_s: float,
) -> Path:
    path = _FOLDER / f"{voice}-{seed}.wav"
    if not path.is_file():
        halves = split_clips(clips[voice], np.random.default_rng(zlib.crc32(voice.encode())))
        _FOLDER.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        partial.write_bytes(
            call_recording(
                halves[fresh],
                np.random.default_rng([seed, zlib.crc32(voice.encode())]),
                net_speech_s=net_speech_s,
                duration_s=duration_s,
                channels=1,
            )
        )
        partial.rename(path)
    return path


def _telephone(path: Path) -> NDArray[np.int16]:
    """The recording after mu-law."""
    out = io.BytesIO()
    samples, rate_hz = soundfile.read(path, dtype="int16")
    soundfile.write(out, samples, rate_hz, format="RAW", subtype="ULAW")
    codes = np.frombuffer(out.getvalue(), np.uint8)
    numbers: NDArray[np.int16] = MU_LAW_INT16[codes]
    return numbers


class HearingWatch:
    """Notes when each hearing can first be read, in a thread: (session id, purpose) -> monotonic seconds.

    A look costs some microseconds while nobody has written anything.
    """

    LOOK_S = 0.004

    def __init__(self, database: Path) -> None:
        self._database = database
        self.seen: dict[tuple[str, str], float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> HearingWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        connection = sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)
        version = -1
        while not self._stop.wait(self.LOOK_S):
            now = connection.execute("PRAGMA data_version").fetchone()[0]
            if now != version:
                version, at = now, time.monotonic()
                for row in connection.execute("SELECT session_id, purpose FROM session_hearings"):
                    self.seen.setdefault(tuple(row), at)
        connection.close()


def percentile(values: Sequence[float], percent: float) -> float:
    return float(np.percentile(np.array(values), percent)) if values else float("nan")
