"""Results of jobs for commands: where the result file lies, what failed and why, and what to try again."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any

from sonant.assembly.installation import open_store
from sonant.cli.job_types import FoundJob
from sonant.cli.object import objects_of
from sonant.errors import SetupError, StoreError
from sonant.jobs.result import output_name
from sonant.settings import Settings
from sonant.storage.objects.store import ObjectUri

#: Largest result file or manifest that commands read.
_MOST_BYTES = 1 << 30
#: What differs between messages of one reason: names of objects, numbers.
_OBJECT, _NUMBER = re.compile(r"s3://\S*[^\s,;:.]"), re.compile(r"(?<![A-Za-z])\d+(?:[.,]\d+)*")
#: Beginnings of cells that spreadsheets take for formulas.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def result_uri(job: Mapping[str, Any]) -> ObjectUri:
    """Return where a job's result file lies once it has ended, unless it failed."""
    manifest = ObjectUri.parse(job["InputDataConfig"]["S3Uri"])
    output = ObjectUri.parse(job["OutputDataConfig"]["S3Uri"])
    return output.child(job["JobId"], output_name(manifest.name))


def read_json(settings: Settings, job: Mapping[str, Any], uri: ObjectUri) -> dict[str, Any]:
    """Read a job's result file or manifest with the rights of this installation. Raises SetupError."""
    store = open_store(settings)
    with closing(store.database):
        try:
            objects = objects_of(store, _account(job, settings))
            found = json.loads(objects.read(uri, _MOST_BYTES))
        except StoreError as fault:
            raise SetupError(f"{uri.shown} cannot be read from here: {fault}") from None
        except ValueError:
            raise SetupError(f"{uri.shown} is not JSON") from None
    if not isinstance(found, dict):
        raise SetupError(f"{uri.shown} is not a JSON object")
    return found


def write_json(
    settings: Settings, job: Mapping[str, Any], uri: ObjectUri, document: Mapping[str, Any]
) -> None:
    """Write a manifest, encrypted as the job's result is. Raises SetupError."""
    store = open_store(settings)
    with closing(store.database):
        try:
            content = json.dumps(document, indent=1).encode()
            kms_key = job["OutputDataConfig"].get("KmsKeyId")
            objects_of(store, _account(job, settings)).write(uri, content, kms_key)
        except StoreError as fault:
            raise SetupError(f"{uri.shown} cannot be written from here: {fault}") from None


def read_errors(settings: Settings, found: FoundJob, job: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Read the requests that failed, each with its code and message, in the manifest's order.

    Raises SetupError for a job without a result file.
    """
    if job["JobStatus"] == "FAILED":
        why = job["FailureDetails"]
        raise SetupError(
            f"the job failed as a whole and wrote no result file: {why['StatusCode']} {why['Message']}"
        )
    if "EndedAt" not in job:
        raise SetupError(f"the job is {job['JobStatus']}: its result file comes at its end")
    document = read_json(settings, job, result_uri(job))
    if found.calls.own:
        return [
            {name: line[name] for name in ("RequestId", "ErrorCode", "ErrorMessage")}
            for line in document[found.calls.successes]
            if "ErrorCode" in line
        ]
    errors: list[dict[str, Any]] = document["Errors"]
    return errors


def reasons(errors: Iterable[Mapping[str, Any]]) -> list[tuple[int, int, str]]:
    """Count errors by reason, the most frequent first: (count, code, message with what differs left out)."""
    counts = Counter((int(one["ErrorCode"]), _general(str(one["ErrorMessage"]))) for one in errors)
    return [(count, code, message) for (code, message), count in counts.most_common()]


def as_csv(errors: Sequence[Mapping[str, Any]]) -> str:
    """Write errors as CSV. A cell that a spreadsheet would take for a formula begins with an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(("RequestId", "ErrorCode", "ErrorMessage"))
    for one in errors:
        writer.writerow((_cell(one["RequestId"]), one["ErrorCode"], _cell(one["ErrorMessage"])))
    return text.getvalue()


def manifest_of(manifest: Mapping[str, Any], requests: str, failed: Iterable[str]) -> dict[str, Any]:
    """Return a manifest with the requests of these ids alone, in its order. `requests` names their member.

    Raises SetupError when it has none of them: it was changed since the job.
    """
    wanted = set(failed)
    kept = [one for one in manifest.get(requests, ()) if one.get("RequestId") in wanted]
    if wanted and not kept:
        raise SetupError("the manifest has changed since the job: it holds none of the requests that failed")
    return {**manifest, requests: kept}


def _account(job: Mapping[str, Any], settings: Settings) -> str | None:
    """Return the account whose local buckets the job uses: that of its role."""
    return str(job["DataAccessRoleArn"]).split(":")[4] if settings.objects == "local" else None


def _general(message: str) -> str:
    return _NUMBER.sub("N", _OBJECT.sub("s3://...", message))


def _cell(value: object) -> str:
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
