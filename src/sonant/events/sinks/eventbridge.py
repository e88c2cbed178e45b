"""Events on an EventBridge bus, under the credentials of the environment.

AWS refuses sources that begin with `aws.`, so Voice ID's events bear a source of the operator's choice on a
bus; rules that matched `aws.voiceid` must name it instead.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sonant.events.documents import SOURCE
from sonant.events.sinks import SinkFault

#: Entries of one PutEvents call (EventBridge quota).
MOST_ENTRIES = 10


class EventBridgeSink:
    """Puts documents on one bus. Empty `endpoint` means AWS's own."""

    name = "eventbridge"

    def __init__(self, *, bus: str, source: str, region: str, endpoint: str) -> None:
        self._bus, self._source, self._region, self._endpoint = bus, source, region, endpoint
        self._client: Any = None

    def deliver(self, documents: Sequence[bytes]) -> int:
        taken = 0
        while taken < len(documents):
            some = documents[taken : taken + MOST_ENTRIES]
            try:
                count = self._put([self._entry(document) for document in some])
            except SinkFault:
                if taken:
                    return taken
                raise
            taken += count
            if count < len(some):
                return taken
        return taken

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _put(self, entries: list[dict[str, Any]]) -> int:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self._bus_client().put_events(Entries=entries)
        except ClientError as fault:
            raise SinkFault(
                f"EventBridge answered {fault.response['Error'].get('Code', 'an error')}"
            ) from None
        except (BotoCoreError, ValueError) as fault:  # ValueError: an endpoint that is no URL
            raise SinkFault(f"EventBridge cannot be reached: {type(fault).__name__}") from None
        for count, one in enumerate(answer["Entries"]):
            if "ErrorCode" in one:
                if count == 0:
                    raise SinkFault(f"EventBridge refused an event: {one['ErrorCode']}")
                return count
        return len(entries)

    def _bus_client(self) -> Any:
        if self._client is None:
            import botocore.session
            from botocore.config import Config

            self._client = botocore.session.Session().create_client(
                "events",
                region_name=self._region,
                endpoint_url=self._endpoint or None,
                config=Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 1}),
            )
        return self._client

    def _entry(self, document: bytes) -> dict[str, Any]:
        told = json.loads(document)
        return {
            "Time": datetime.fromisoformat(told["time"]),
            "Source": self._source if told["source"] == SOURCE else told["source"],
            "Resources": told["resources"],
            "DetailType": told["detail-type"],
            "Detail": json.dumps(told["detail"], ensure_ascii=False, separators=(",", ":")),
            "EventBusName": self._bus,
        }
