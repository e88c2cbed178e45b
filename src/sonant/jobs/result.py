"""Write the result file: a stream of outcomes becomes a stream of bytes, in constant memory.

{"Version": "1.0", "Errors": [...], "SuccessfulEnrollments": [...]}       speaker enrollment
{"Version": "1.0", "Errors": [...], "SuccessfulRegistrations": [...]}     fraudster registration

Both lists are in manifest order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from sonant.jobs.manifest import VERSION
from sonant.storage.repositories import jobs


def error_line(request_id: str, code: int, message: str) -> dict[str, Any]:
    return {"RequestId": request_id, "ErrorCode": code, "ErrorMessage": message}


def enrollment_line(request_id: str, generated_id: str, customer_id: str, status: str) -> dict[str, Any]:
    return {
        "RequestId": request_id,
        "GeneratedSpeakerId": generated_id,
        "CustomerSpeakerId": customer_id,
        "EnrollmentStatus": status,
    }


def registration_line(
    request_id: str, generated_id: str, status: str, similarity_score: int | None
) -> dict[str, Any]:
    """Build a success line; `similarity_score` is given for duplicates only."""
    line: dict[str, Any] = {
        "RequestId": request_id,
        "GeneratedFraudsterId": generated_id,
        "RegistrationStatus": status,
    }
    if similarity_score is not None:
        line["FraudsterSimilarityScore"] = similarity_score
    return line


def result_file(
    errors: Iterable[dict[str, Any]], successes: Iterable[dict[str, Any]], successes_name: str
) -> Iterator[bytes]:
    """Write the file in pieces; each outcome is one line of text."""
    yield b'{\n  "Version": ' + orjson.dumps(VERSION) + b',\n  "Errors": ['
    yield from _items(errors)
    yield f'],\n  "{successes_name}": ['.encode()
    yield from _items(successes)
    yield b"]\n}\n"


def _items(lines: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    separator = b"\n    "
    for line in lines:
        yield separator + orjson.dumps(line)
        separator = b",\n    "
    if separator.startswith(b","):
        yield b"\n  "


#: What becomes of the requests of a job that failed later, and how to get a result file, by type of job.
_DONE = {
    jobs.ENROLLMENT: (
        "enrolled speakers",
        "with ExistingEnrollmentAction SKIP the enrolled speakers are skipped",
    ),
    jobs.REGISTRATION: (
        "registered fraudsters",
        "with DuplicateRegistrationAction SKIP the registered fraudsters are skipped",
    ),
}


def describe_progress(job: jobs.Job) -> str:
    """Say what a job had done before it failed, as the end of its message; empty for nothing."""
    if not job.entries_done or job.kind not in _DONE:
        return ""
    what, cure = _DONE[job.kind]
    succeeded = job.entries_done - job.entries_failed
    return (
        f"; before that, {job.entries_done} of {job.entries_total} requests were processed: {succeeded} "
        f"{what}, which stay, and {job.entries_failed} failed. No result file was written. Submit the "
        f"manifest again to get one: {cure}"
    )


def output_name(manifest_name: str) -> str:
    """Name the result file: `input-file.json` gives `input-file.json.out`."""
    return manifest_name + ".out"
