"""Faults with the codes of result files and FailureDetails (AWS docs, job output file schema).

400 bad input   402 quota   403 no right   404 not there   409 conflict   500 unexpected
"""

from __future__ import annotations

from dataclasses import dataclass
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
    SealBroken,
    SonantError,
    StorageFull,
    WrongSampleRate,
)
from sonant.events.documents import NOT_ENOUGH_SPEECH, ErrorInfo


class JobFault(SonantError):
    """The whole job fails; becomes FailureDetails. `told` is what its event says instead, in Voice ID's
    words."""

    def __init__(self, code: int, message: str, told: ErrorInfo | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.told = told or ErrorInfo.of_code(code, message)


@dataclass(frozen=True, slots=True)
class Refusal:
    """One request fails; becomes a line under Errors."""

    code: int
    message: str
    words: ErrorInfo | None = None
    """Voice ID's own, where it has some."""

    @classmethod
    def of(cls, fault: SonantError) -> Self:
        """For a fault of audio, objects or keys."""
        return cls(code_of(fault), str(fault), _WORDS.get(type(fault)))

    @property
    def told(self) -> ErrorInfo:
        """What events say of it."""
        return self.words or ErrorInfo.of_code(self.code, self.message)


_WORDS: dict[type[SonantError], ErrorInfo] = {
    NotEnoughSpeech: ErrorInfo(
        type=NOT_ENOUGH_SPEECH,
        message="The provided audio files do not have enough speech for enrollment.",
        code=400,
    ),
    WrongSampleRate: ErrorInfo.of_code(400, "The provided sample rate is invalid."),
}


def code_of(error: SonantError) -> int:
    """The code for a fault of audio, objects or keys."""
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
