"""Faults with the codes of result files and FailureDetails (AWS docs, job output file schema).

400 bad input   402 quota   403 no right   404 not there   409 conflict   500 unexpected
"""

from __future__ import annotations

from dataclasses import dataclass

from sonant.errors import (
    AudioError,
    BucketNotFound,
    InvalidObjectName,
    KeyError_,
    ObjectDenied,
    ObjectError,
    ObjectNameConflict,
    ObjectNotFound,
    ObjectTooLarge,
    SealBroken,
    SonantError,
    StorageFull,
)


class JobFault(SonantError):
    """The whole job fails; becomes FailureDetails."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Refusal:
    """One request fails; becomes a line under Errors."""

    code: int
    message: str


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
