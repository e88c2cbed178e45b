"""The audit trail of fraud findings in jobs: a chain of its own, which runners write.

It is in the folder `jobs` of the trail, whose other chains the service writes. Findings are rare: the chain
is opened for each batch of them, under a lock, so that several runners can share it.
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


class FindingsTrail:
    """Writes the findings of runners."""

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
        if not found:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._folder / "lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            announce = None
            if self._register is not None and connection is not None:
                announce = partial(self._register.begin, connection)
            chain = ChainFile(self._folder, self._max_bytes, self._keys, announce)
            try:
                chain.write([self._document(domain, one, now) for one in found], now)
                chain.sync()
            except OSError:
                chain.undo()
                raise
            finally:
                chain.close()

    def _document(self, domain: Domain, found: Finding, now: datetime) -> dict[str, object]:
        return {
            "eventVersion": "1.08",
            "userIdentity": {"accountId": domain.account_id, "invokedBy": _SERVICE},
            "eventTime": f"{now:%Y-%m-%dT%H:%M:%SZ}",
            "eventSource": _SERVICE,
            "eventName": "FraudDetection",
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
            "serviceEventDetails": {
                "jobId": found.job_id,
                "requestNumber": found.request_number,
                "outcome": found.outcome,
                "fraudDetectionResult": dict(found.details),
            },
        }
