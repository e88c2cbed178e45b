"""Find who speaks when in speech of one channel, and whether it is more than one person.

The segmentation network separates voices within windows of ten seconds. Each voice's speech of a window is
cut into pieces, whose embeddings are split in two groups over all windows (`voice_groups`); whether these are
two people follows from how far they lie apart, and from what the network found.

All positions are samples at 8 kHz of the speech that is passed in, which has its pauses removed (see
`collector`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.models import Models
from sonant.voice.models.embedding import WINDOW_S, EncodedSpeech, embed_spans
from sonant.voice.models.segmentation import FIRST_FRAME, FRAME_STEP, MIN_WINDOW, VOICES, WINDOW, segment
from sonant.voice.turns import NOBODY_ELSE, Span, SpeakerTurns, Turn, length, subtract, union
from sonant.voice.voice_groups import Activity, Piece, are_alike, second_voice, split_in_two

PIECE = round(1.6 * RATE_HZ)
"""Samples of a piece, at least, where a voice of a window has as much."""
MIN_PIECE = round(0.8 * RATE_HZ)
"""Voices of a window with less speech alone are not embedded."""
PROBE, PROBE_OVERLAP = 4 * RATE_HZ, 0.15
"""Samples that are looked at where all windows are alike, and the share in which two may talk at once. Of 51
recordings of one person (24 people, five lines) the greatest had 0.11."""
_WINDOWS_PER_CALL = 4  # the network's time per window is flat from there on


def find_turns(
    samples: NDArray[np.float32], models: Models, *, encoded: EncodedSpeech | None = None
) -> SpeakerTurns:
    """Find who speaks when in speech at 8 kHz (float32, [n], pauses removed), of any length.

    `encoded` is the same speech, if it has been encoded already. The segmentation network runs only where the
    windows of the speech are less alike than most people's are: it costs more than the encoder.
    """
    if encoded is None and len(samples) >= WINDOW_S * RATE_HZ:
        encoded = EncodedSpeech.of(samples, models)
    if encoded is not None and is_one_person(samples, encoded, models):
        return SpeakerTurns(turns=(Turn(speaker=0, start=0, end=len(samples)),), second_voice=NOBODY_ELSE)
    windows = _analyze(samples, models)
    pieces: list[Piece] = []
    vectors = np.empty((0, 0), np.float32)
    if encoded is not None:
        pieces = [piece for number, window in enumerate(windows) for piece in _pieces(number, window)]
        vectors = embed_spans(encoded.power, [piece.spans for piece in pieces], models)
    group = split_in_two(vectors)
    found = second_voice(pieces, vectors, group, _activity(windows))
    speech = [span for window in windows for voice in range(VOICES) for span in window.speech(voice)]
    spans = _by_speaker(windows, pieces, group) if found.possible else {0: union(speech)}
    turns = [
        Turn(speaker=speaker, start=low, end=high) for speaker, own in spans.items() for low, high in own
    ]
    return SpeakerTurns(
        turns=tuple(sorted(turns, key=lambda turn: (turn.start, turn.speaker))),
        second_voice=found,
    )


def is_one_person(samples: NDArray[np.float32], encoded: EncodedSpeech, models: Models) -> bool:
    """Judge whether a look at the windows of some speech suffices to know that one person speaks.

    Two people who talk at once all the time are alike in all windows, so the segmentation network looks at
    the middle.
    """
    if not are_alike(encoded.windows):
        return False
    start = max(0, (len(samples) - PROBE) // 2)
    (active,) = segment([samples[start : start + PROBE]], models)
    voices = active.sum(axis=1)
    return int((voices > 1).sum()) <= PROBE_OVERLAP * int((voices > 0).sum())


def _analyze(samples: NDArray[np.float32], models: Models) -> list[_Window]:
    """Run the segmentation network on windows one after the other."""
    starts = list(range(0, len(samples) - WINDOW + 1, WINDOW))
    found = []
    for first in range(0, len(starts), _WINDOWS_PER_CALL):
        part = starts[first : first + _WINDOWS_PER_CALL]
        active = segment([samples[start : start + WINDOW] for start in part], models)
        found += [
            _Window(start=start, end=start + WINDOW, counts_from=start, active=one)
            for start, one in zip(part, active, strict=True)
        ]
    rest = len(samples) - len(starts) * WINDOW
    if rest >= MIN_WINDOW:
        # The last window reaches back to be whole, but only its new part counts.
        start = max(0, len(samples) - WINDOW)
        (active,) = segment([samples[start:]], models)
        found.append(_Window(start=start, end=len(samples), counts_from=len(samples) - rest, active=active))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    start: int
    end: int
    counts_from: int
    """What lies before belongs to the window before."""
    active: NDArray[np.bool_]  # [frames, voices]

    def counted(self) -> NDArray[np.bool_]:
        """The frames that do not belong to the window before, [frames, voices]."""
        return self.active[max(0, self.counts_from - self.start - FIRST_FRAME) // FRAME_STEP :]

    def spans(self, frames: NDArray[np.bool_]) -> tuple[Span, ...]:
        """Convert marked frames, [frames], to spans."""
        edges = np.flatnonzero(np.diff(frames, prepend=False, append=False))
        at = np.maximum(self.start + FIRST_FRAME + FRAME_STEP * edges, self.counts_from)
        return tuple((int(low), int(high)) for low, high in at.reshape(-1, 2) if low < high)

    def speech(self, voice: int) -> tuple[Span, ...]:
        """The spans in which a voice speaks."""
        return self.spans(self.active[:, voice])

    def alone(self, voice: int) -> tuple[Span, ...]:
        """The spans in which a voice speaks and no other does."""
        return self.spans(self.active[:, voice] & (self.active.sum(axis=1) == 1))


def _activity(windows: Sequence[_Window]) -> Activity:
    frames = [window.counted() for window in windows]
    spoken = sum(int(active.any(axis=1).sum()) for active in frames)
    both = sum(int((active.sum(axis=1) > 1).sum()) for active in frames)
    shares = [1 - active.sum(axis=0).max() / active.sum() for active in frames if active.any()]
    return Activity(
        second_share=float(np.mean(shares)) if shares else 0.0, overlap=both / spoken if spoken else 0.0
    )


def _by_speaker(
    windows: Sequence[_Window], pieces: Sequence[Piece], group: NDArray[np.bool_]
) -> dict[int, list[Span]]:
    """Give each person's speech: that of the pieces of a group, and what belongs to the same voice.

    A voice without pieces is not the person of the loudest voice of its window.
    """
    found: dict[int, list[Span]] = {0: [], 1: []}
    for number, window in enumerate(windows):
        own = [(piece, int(one)) for piece, one in zip(pieces, group, strict=True) if piece.window == number]
        voices = sorted(range(VOICES), key=lambda voice: -length(window.speech(voice)))
        first = 0
        for rank, voice in enumerate(voices):
            mine = [(piece, one) for piece, one in own if piece.voice == voice]
            weight = sum(piece.size * (1 if one else -1) for piece, one in mine)
            speaker = int(weight > 0) if mine else (1 - first if rank else 0)
            first = first if rank else speaker
            taken = [span for piece, _ in mine for span in piece.spans]
            found[speaker] += subtract(window.speech(voice), taken)
            for piece, one in mine:
                found[one] += piece.spans
    most_first = sorted((union(spans) for spans in found.values()), key=length, reverse=True)
    return dict(enumerate(most_first))


def _pieces(number: int, window: _Window) -> list[Piece]:
    """Cut the speech of each voice alone into pieces of equal length."""
    found = []
    for voice in range(VOICES):
        spans = window.alone(voice)
        size = length(spans)
        count = max(1, size // PIECE)
        bounds = [size * part // count for part in range(count + 1)] if size >= MIN_PIECE else []
        for low, high in pairwise(bounds):
            found.append(Piece(window=number, voice=voice, spans=_part(spans, low, high)))
    return found


def _part(spans: Sequence[Span], low: int, high: int) -> tuple[Span, ...]:
    """Cut out of the joined spans what lies between two positions of the joined samples."""
    found, passed = [], 0
    for start, end in spans:
        first, last = max(low - passed, 0), min(high - passed, end - start)
        if first < last:
            found.append((start + first, start + last))
        passed += end - start
    return tuple(found)
