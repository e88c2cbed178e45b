"""The page that starts an enrollment from a manifest: a dry run first, then the job with the same set-up."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from sonant.web.job_kinds import KINDS, job_path
from sonant.web.page import Form, OperationRefused, Page, PageError, PageRequest, SeeOther


def _read(request: PageRequest) -> Mapping[str, Any]:
    dry_run_id = request.query.get("from")
    values: dict[str, str] = {}
    if dry_run_id is not None:
        values = _values_of(request.ask("DescribeEnrollmentDryRun", JobId=dry_run_id)["Job"])
    watchlists = request.try_ask("ListWatchlists", MaxResults=100)
    return {
        "values": {**values, **request.form},
        "dry_run_id": dry_run_id,
        "watchlists": []
        if isinstance(watchlists, OperationRefused)
        else [one for one in watchlists["WatchlistSummaries"] if not one["DefaultWatchlist"]],
        "once": request.form.get("once") or secrets.token_hex(16),
    }


def _values_of(job: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of the form that gave a dry run's set-up."""
    config = job["EnrollmentConfig"]
    fraud = config.get("FraudDetectionConfig", {})
    return {
        "name": job.get("JobName", ""),
        "manifest": job["InputDataConfig"]["S3Uri"],
        "output": job["OutputDataConfig"]["S3Uri"],
        "key": job["OutputDataConfig"].get("KmsKeyId", ""),
        "role": job["DataAccessRoleArn"],
        "existing": config.get("ExistingEnrollmentAction", "SKIP"),
        "fraud": fraud.get("FraudDetectionAction", "IGNORE"),
        "threshold": str(fraud.get("RiskThreshold", "")),
        "watchlist": next(iter(fraud.get("WatchlistIds", ())), ""),
    }


def _start(request: PageRequest) -> SeeOther:
    """Start the dry run, or the enrollment where that button was used."""
    for_good = "enroll" in request.form
    kind = KINDS["enrollment" if for_good else "dry-run"]
    job = request.ask(kind.start, **_members(request.form))["Job"]
    return SeeOther(job_path(request, kind, job["JobId"]), "job-started" if for_good else "dry-run-started")


def _members(form: Mapping[str, str]) -> dict[str, Any]:
    """Return the members of the start call. Raises PageError for a field that is missing or no number."""
    for field, what in (("manifest", "manifest"), ("output", "folder of the result"), ("role", "role")):
        if not form.get(field):
            raise PageError(400, f"The {what} is missing.")
    fraud: dict[str, Any] = {"FraudDetectionAction": form.get("fraud", "IGNORE")}
    if threshold := form.get("threshold"):
        if not threshold.isdecimal() or int(threshold) > 100:
            raise PageError(400, "The risk threshold is a whole number from 0 to 100.")
        fraud["RiskThreshold"] = int(threshold)
    if watchlist := form.get("watchlist"):
        fraud["WatchlistIds"] = [watchlist]
    output = {"S3Uri": form["output"]} | ({"KmsKeyId": form["key"]} if form.get("key") else {})
    return {
        "ClientToken": form.get("once") or None,
        "JobName": form.get("name") or None,
        "InputDataConfig": {"S3Uri": form["manifest"]},
        "OutputDataConfig": output,
        "DataAccessRoleArn": form["role"],
        "EnrollmentConfig": {
            "ExistingEnrollmentAction": form.get("existing", "SKIP"),
            "FraudDetectionConfig": fraud,
        },
    }


PAGE = Page(
    path="/console/{region}/{domain}/start-job",
    template="start-job.html",
    read=_read,
    forms={"/start": Form(submit=_start)},
    section="Jobs",
)
