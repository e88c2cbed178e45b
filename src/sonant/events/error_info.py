"""The reason of a failure, as events and result files tell it.

Worker processes import it, so it needs nothing of the database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

#: Longest error message in an event.
_MESSAGE_CHARACTERS = 1024

NOT_ENOUGH_SPEECH = "NOT_ENOUGH_SPEECH"
#: Types of errors by HTTP status, which is also the code in result files.
_ERROR_TYPES = {
    400: "BAD_REQUEST",
    402: "SERVICE_QUOTA_EXCEEDED",
    403: "ACCESS_DENIED",
    404: "RESOURCE_NOT_FOUND",
    409: "CONFLICT",
    429: "THROTTLING",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo:
    """The reason of a failure. `code` is the HTTP status of the response or the code of the result file."""

    type: str
    message: str
    code: int

    @classmethod
    def of_code(cls, code: int, message: str) -> Self:
        """Return the error of a code."""
        return cls(type=_ERROR_TYPES.get(code, "INTERNAL_ERROR"), message=message, code=code)

    @property
    def member(self) -> dict[str, Any]:
        """The error as a member of events."""
        return {
            "errorCode": self.code,
            "errorMessage": self.message[:_MESSAGE_CHARACTERS] or self.type,
            "errorType": self.type,
        }


INTERNAL_ERROR = ErrorInfo.of_code(500, "Internal Server Error")
