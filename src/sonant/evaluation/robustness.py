"""Measure what faults of lines and recordings do to scores: a table of conditions.

Each condition is applied to the calls only (people enrolled over good equipment), and to both sides (people
who share a faulty line: what two voices have in common must not make them alike).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Literal

from sonant.errors import SetupError
from sonant.evaluation.channels import CLEAN, needs_others
from sonant.evaluation.embedding import PieceRequest, PieceTemplates, Task
from sonant.evaluation.scorer import Scorer
from sonant.settings import Audio

ACCEPTED, SUSPICIOUS = 90, 80
"""Voice ID's default threshold, and the score that one stranger in a hundred reaches."""
Side = Literal["call", "both"]
LEVEL = "level:-26"

_OTHERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A fault and how it is simulated."""

    name: str
    channel: str
    """The stages of `channels`, after which samples have 16 bits."""

    @property
    def line(self) -> str:
        """The channel as it is applied: speech at a usual level, the fault, 16-bit samples."""
        stages = [LEVEL, *([] if self.channel == CLEAN else [self.channel]), "pcm16"]
        return "+".join(stages)


def _condition(name: str, channel: str) -> Condition:
    return Condition(name=name, channel=channel)


CLEAN_CONDITION = _condition("nothing", CLEAN)
CONDITIONS: tuple[Condition, ...] = (
    CLEAN_CONDITION,
    _condition("offset 2 % of full scale", "offset:0.02"),
    _condition("offset 5 %", "offset:0.05"),
    _condition("offset 10 %", "offset:0.1"),
    _condition("offset -50 %", "offset:-0.5"),
    _condition("50 Hz hum, 10 dB below speech", "tone:50:10"),
    _condition("50 Hz hum, as loud as speech", "tone:50:0"),
    _condition("60 Hz hum, 10 dB below", "tone:60:10"),
    _condition("50 Hz and harmonics, 20 dB below", "hum:50:20"),
    _condition("50 Hz and harmonics, 10 dB below", "hum:50:10"),
    _condition("60 Hz and harmonics, 10 dB below", "hum:60:10"),
    _condition("tone of 440 Hz, 20 dB below", "tone:440:20"),
    _condition("tone of 1 kHz, 20 dB below", "tone:1000:20"),
    _condition("tone of 1 kHz, 10 dB below", "tone:1000:10"),
    _condition("tone of 2 kHz, 20 dB below", "tone:2000:20"),
    _condition("level -60 dBFS", "level:-60"),
    _condition("level -50 dBFS", "level:-50"),
    _condition("level -40 dBFS", "level:-40"),
    _condition("level -10 dBFS", "level:-10"),
    _condition("level 0 dBFS", "level:0"),
    _condition("0.1 % of samples clipped", "clip:0.1"),
    _condition("1 % of samples clipped", "clip:1"),
    _condition("5 % of samples clipped", "clip:5"),
    _condition("tilt -6 dB an octave", "tilt:-6"),
    _condition("tilt -3 dB an octave", "tilt:-3"),
    _condition("tilt +3 dB an octave", "tilt:3"),
    _condition("tilt +6 dB an octave", "tilt:6"),
    _condition("2 clicks a second", "clicks:2"),
    _condition("agent's voice, 20 dB below", "agent:20"),
    _condition("agent's voice, 10 dB below", "agent:10"),
    _condition("16 kHz samples taken for 8 kHz", "speed:0.5"),
    _condition("8 kHz samples taken for 16 kHz", "speed:2"),
    _condition("8 kHz samples taken for 11.025 kHz", "speed:1.378"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Scores under one condition."""

    condition: Condition
    side: Side
    """Whether the calls only had the fault, or enrollments too."""
    genuine: tuple[int, ...]
    """Scores of comparisons of one person, in order."""
    strangers: tuple[int, ...]
    """Scores of comparisons of two people, in order."""
    refusals: Mapping[str, int] = field(default_factory=dict)
    """Enrollments and calls that could not be scored, by reason."""

    @property
    def lowest(self) -> int | None:
        """The lowest genuine score; None without any."""
        return self.genuine[0] if self.genuine else None

    @property
    def median(self) -> float | None:
        """The median genuine score; None without any."""
        return median(self.genuine) if self.genuine else None

    @property
    def rejected(self) -> int:
        """Genuine comparisons below 90."""
        return sum(score < ACCEPTED for score in self.genuine)

    def strangers_at(self, score: int) -> int:
        """Count the comparisons of strangers at or above a score."""
        return sum(one >= score for one in self.strangers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is cut from each person's recordings."""

    enroll_s: float = 30.0
    call_s: float = 10.0
    references: int = 1
    calls: int = 1
    seed: int = 1


def tasks_of(
    recordings: Mapping[str, Sequence[Path]],
    conditions: Sequence[Condition],
    sizes: Sizes,
    *,
    audio: Audio,
) -> list[Task]:
    """Build two tasks for each person: every other recording is for the enrollment, the rest for calls.

    Raises SetupError with fewer than two people, or for a person with one recording only.
    """
    if len(recordings) < 2:
        raise SetupError("strangers take at least two people, one sub-folder each")
    lines = tuple(dict.fromkeys(one.line for one in (CLEAN_CONDITION, *conditions)))
    found = []
    for name, files in recordings.items():
        if len(files) < 2:
            raise SetupError(f"{name} has {len(files)} recording, must have at least 2: enrollment and call")
        requests = (
            PieceRequest(
                use="reference", net_speech_s=sizes.enroll_s, at_most=sizes.references, channels=lines
            ),
            PieceRequest(use="probe", net_speech_s=sizes.call_s, at_most=sizes.calls, channels=lines),
        )
        found += [
            Task(
                speaker=name,
                recordings=tuple(files[place::2]),
                whole=False,
                requests=(request,),
                others=_others(recordings, name) if any(map(needs_others, lines)) else (),
                seed=sizes.seed,
                audio=audio,
            )
            for place, request in enumerate(requests)
        ]
    return found


def rows_of(pieces: Sequence[PieceTemplates], conditions: Sequence[Condition], scorer: Scorer) -> list[Row]:
    """Compare all enrollments with all calls under each condition, on the calls and on both sides.

    `scorer` must be calibrated. Raises SetupError when nobody has speech enough for an enrollment and a call.
    """
    references = [piece for piece in pieces if piece.use == "reference"]
    calls = [piece for piece in pieces if piece.use == "probe"]
    if not {one.speaker for one in references} & {one.speaker for one in calls}:
        raise SetupError("no person's recordings hold enough speech for an enrollment and a call")
    found = []
    for condition in conditions:
        sides: tuple[Side, ...] = ("call",) if condition == CLEAN_CONDITION else ("call", "both")
        for side in sides:
            enrolled = CLEAN_CONDITION if side == "call" else condition
            found.append(_row(references, calls, enrolled, condition, side, scorer))
    return found


def _row(
    references: Sequence[PieceTemplates],
    calls: Sequence[PieceTemplates],
    enrolled: Condition,
    condition: Condition,
    side: Side,
    scorer: Scorer,
) -> Row:
    genuine: list[int] = []
    strangers: list[int] = []
    for reference in references:
        for call in calls:
            one, two = reference.templates[enrolled.line], call.templates[condition.line]
            if one is None or two is None:
                continue
            score = scorer(one, two).score
            assert score is not None, "the scorer is calibrated"
            (genuine if reference.speaker == call.speaker else strangers).append(int(score))
    reasons = [
        piece.refusals[line]
        for side_pieces, line in ((references, enrolled.line), (calls, condition.line))
        for piece in side_pieces
        if line in piece.refusals
    ]
    return Row(
        condition=condition,
        side=side,
        genuine=tuple(sorted(genuine)),
        strangers=tuple(sorted(strangers)),
        refusals=dict(Counter(reason.partition(":")[0] for reason in reasons)),
    )


def _others(recordings: Mapping[str, Sequence[Path]], speaker: str) -> tuple[Path, ...]:
    """Choose a recording of each of the next people in the list."""
    names = list(recordings)
    at = names.index(speaker)
    return tuple(recordings[name][0] for name in [*names[at + 1 :], *names[:at]][:_OTHERS])
