"""Read result files of jobs and reports of dry runs, one line a request, as `result` and `report` write them.

The files lie in the user's bucket, so they may have been changed since: whatever is not in the form that was
written is a ValueError.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from sonant.storage.objects.store import ObjectReader

#: Longer lines are none of a job's.
_MAX_LINE_BYTES = 1 << 20
_READ_BYTES = 1 << 16
#: What differs between messages of one reason: numbers, names of objects.
_URI = re.compile(r"s3://\S+")
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one request, or would."""

    request_id: str
    speaker_id: str | None = None
    """The customer's id."""
    generated_speaker_id: str | None = None
    generated_fraudster_id: str | None = None
    status: str | None = None
    """None for a request that has failed."""
    error_code: int | None = None
    error_message: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        return self.error_code is not None

    @classmethod
    def of_line(cls, line: dict[str, Any]) -> Outcome:
        """Read a line of a result file or a report, or one that is stored. Raises ValueError."""
        likely = line.get("LikelyOutcome")
        try:
            return cls(
                request_id=str(line["RequestId"]),
                speaker_id=line.get("CustomerSpeakerId") or line.get("SpeakerId"),
                generated_speaker_id=line.get("GeneratedSpeakerId"),
                generated_fraudster_id=line.get("GeneratedFraudsterId"),
                status=line.get("EnrollmentStatus") or line.get("RegistrationStatus") or likely
                if "ErrorCode" not in line
                else None,
                error_code=int(line["ErrorCode"]) if "ErrorCode" in line else None,
                error_message=str(line["ErrorMessage"]) if "ErrorCode" in line else None,
                warnings=tuple(map(str, line.get("Warnings", ()))),
            )
        except (KeyError, TypeError) as fault:
            raise ValueError(f"a line of a result file has no {fault}") from None


def reason_of(message: str) -> str:
    """Return what messages of one reason have in common.

    >>> reason_of("there are 12.5 s of speech, 30 s are needed")
    'there are … s of speech, … s are needed'
    """
    return _NUMBER.sub("…", _URI.sub("s3://…", message))


def outcomes_of(stream: ObjectReader) -> Iterator[Outcome]:
    """Read a file in the order of its lines. Raises ValueError, and what the stream raises."""
    for line in _lines(stream):
        text = line.strip().removesuffix(b",")
        if not text.startswith(b'{"'):
            continue  # the frame around the lists
        found = orjson.loads(text)
        if not isinstance(found, dict):
            raise ValueError("a line of a result file is no object")
        yield Outcome.of_line(found)


def _lines(stream: ObjectReader) -> Iterator[bytes]:
    rest = b""
    while block := stream.read(_READ_BYTES):
        *whole, rest = (rest + block).split(b"\n")
        yield from whole
        if len(rest) > _MAX_LINE_BYTES:
            raise ValueError("a line of a result file is too long")
    if rest:
        yield rest
