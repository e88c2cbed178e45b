"""Faults of jobs and entries, with the codes of AWS's job output file schema and of FailureDetails.

400 bad input   402 quota   403 no right   404 not there   409 conflict   500 unexpected
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from sonant.errors import (
    AudioError,
    BucketNotFound,
    InvalidObjectName,
    KeyError_,
    NotEnoughSpeech,
    ObjectDenied,
    ObjectError,
    ObjectNameConflict,
    ObjectNotFound,
    ObjectTooLarge,
    PoorQuality,
    SealBroken,
    SonantError,
    StorageFull,
    WrongSampleRate,
)
from sonant.events.error_info import NOT_ENOUGH_SPEECH, ErrorInfo
from sonant.jobs.work_time import WorkTime


class JobFault(SonantError):
    """A fault that fails the whole job; becomes FailureDetails; its event has `event_error`."""

    def __init__(self, code: int, message: str, event_error: ErrorInfo | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.event_error = event_error or ErrorInfo.of_code(code, message)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A fault that fails one entry; becomes a line under Errors."""

    code: int
    message: str
    voice_id_error: ErrorInfo | None = None
    """Voice ID's own text for it, where there is one."""
    more_speech: bool = False
    """Whether other speech of the same person could be accepted."""
    worked: WorkTime | None = field(default=None, compare=False)
    """When a worker worked on the task, if the task had that measured."""

    @classmethod
    def of(cls, fault: SonantError) -> Self:
        """Build the refusal for a fault of audio, objects or keys."""
        return cls(
            code_of(fault),
            str(fault),
            _VOICE_ID_ERRORS.get(type(fault)),
            isinstance(fault, (NotEnoughSpeech, PoorQuality)),
        )

    @property
    def event_error(self) -> ErrorInfo:
        """The error as events show it."""
        return self.voice_id_error or ErrorInfo.of_code(self.code, self.message)


_TOO_LITTLE = ErrorInfo(
    type=NOT_ENOUGH_SPEECH,
    message="The provided audio files do not have enough speech for enrollment.",
    code=400,
)

_VOICE_ID_ERRORS: dict[type[SonantError], ErrorInfo] = {
    NotEnoughSpeech: _TOO_LITTLE,
    PoorQuality: _TOO_LITTLE,
    WrongSampleRate: ErrorInfo.of_code(400, "The provided sample rate is invalid."),
}


def code_of(error: SonantError) -> int:
    """Find the code for a fault of audio, objects or keys."""
    match error:
        case AudioError() | InvalidObjectName() | ObjectTooLarge() | SealBroken():
            return 400
        case BucketNotFound() | ObjectNotFound():
            return 404
        case ObjectDenied() | KeyError_():
            return 403
        case ObjectNameConflict():
            return 409
        case StorageFull() | ObjectError():
            return 500
        case _:
            return 500
