"""The audit trail of what is done without a call: fraud findings in jobs, renewals of templates.

It is a chain of its own in the folder `jobs` of the trail, whose other chains the service writes. Its records
are rare: the chain is opened for each batch of them, under a lock, so that runners and commands can share it.
"""

from __future__ import annotations

import fcntl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from sonant.audit.file import ChainFile
from sonant.audit.heads import ChainRegister
from sonant.audit.key_files import KeyFiles
from sonant.audit.names import JOBS
from sonant.ids import new_uuid
from sonant.settings import Audit
from sonant.storage.repositories.domains import Domain

#: Folder of the chain in that of the trail.
FOLDER = JOBS
#: Name of the records of renewals.
RENEWAL = "RenewTemplates"
#: `TemplateRenewal.by` of those that the housekeeping runs.
SERVICE = "service"
_SERVICE = "voiceid.amazonaws.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A request of a job whose recordings were flagged."""

    job_id: str
    request_number: int
    """Position in the manifest, from 1."""
    outcome: str
    """As in the result file, or the code of the error."""
    details: Mapping[str, Any]
    """As in the evaluation event's `fraudDetectionResult`; generated ids only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateRenewal:
    """A renewal of a domain's template space that has begun or is finished."""

    by: str
    """The user of the machine who ran the command, or `service`."""
    finished: bool
    details: Mapping[str, Any]


class FindingsTrail:
    """Writes the findings of runners, and renewals of templates."""

    def __init__(
        self,
        folder: Path,
        settings: Audit,
        keys: KeyFiles | None = None,
        register: ChainRegister | None = None,
    ) -> None:
        """`folder` is the trail's; `keys` seal the lines, and `register` records the chain."""
        self._folder, self._max_bytes = folder / FOLDER, settings.max_file_bytes
        self._keys, self._register = keys, register

    def add(
        self,
        domain: Domain,
        found: Sequence[Finding],
        now: datetime,
        connection: Connection | None = None,
    ) -> None:
        """Store findings before their consequences are committed: a crash in between may repeat them.

        `connection` is in the transaction of the consequences, which records a new chain. Raises OSError, or
        SetupError when the chain's end is damaged.
        """
        if found:
            self._write([_finding(domain, one, now) for one in found], now, connection)

    def add_renewal(
        self, domain: Domain, renewal: TemplateRenewal, now: datetime, connection: Connection
    ) -> None:
        """Store that a renewal begins or is finished, before that is committed. Raises as `add`."""
        self._write([_renewal(domain, renewal, now)], now, connection)

    def _write(
        self, documents: list[dict[str, object]], now: datetime, connection: Connection | None
    ) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._folder / "lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            announce = None
            if self._register is not None and connection is not None:
                announce = partial(self._register.begin, connection)
            chain = ChainFile(self._folder, self._max_bytes, self._keys, announce)
            try:
                chain.write(documents, now)
                chain.sync()
            except OSError:
                chain.undo()
                raise
            finally:
                chain.close()


def _finding(domain: Domain, found: Finding, now: datetime) -> dict[str, object]:
    details = {
        "jobId": found.job_id,
        "requestNumber": found.request_number,
        "outcome": found.outcome,
        "fraudDetectionResult": dict(found.details),
    }
    return _service_event(domain, "FraudDetection", {"invokedBy": _SERVICE}, details, now)


def _renewal(domain: Domain, renewal: TemplateRenewal, now: datetime) -> dict[str, object]:
    by = {"type": "Operator", "userName": renewal.by, "invokedBy": "sonant key renew-templates"}
    if renewal.by == SERVICE:
        by = {"invokedBy": _SERVICE}
    details = {"status": "FINISHED" if renewal.finished else "BEGUN", **renewal.details}
    return _service_event(domain, RENEWAL, by, details, now)


def _service_event(
    domain: Domain, name: str, by: Mapping[str, str], details: Mapping[str, Any], now: datetime
) -> dict[str, object]:
    return {
        "eventVersion": "1.08",
        "userIdentity": {"accountId": domain.account_id, **by},
        "eventTime": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "eventSource": _SERVICE,
        "eventName": name,
        "awsRegion": domain.region,
        "sourceIPAddress": _SERVICE,
        "userAgent": _SERVICE,
        "requestParameters": None,
        "responseElements": None,
        "eventID": new_uuid(),
        "readOnly": False,
        "eventType": "AwsServiceEvent",
        "managementEvent": True,
        "eventCategory": "Management",
        "recipientAccountId": domain.account_id,
        "resources": [{"ARN": domain.arn, "accountId": domain.account_id}],
        "serviceEventDetails": dict(details),
    }
