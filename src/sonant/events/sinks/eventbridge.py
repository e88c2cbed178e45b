"""The sink `eventbridge`: events on an EventBridge bus, with the credentials of the environment.

AWS refuses sources that begin with `aws.`, so Voice ID's events have a source of the operator's choice on a
bus. Rules that matched `aws.voiceid` must name it instead.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sonant.events.documents import SOURCE
from sonant.events.sinks import SinkFault
from sonant.settings import Settings

#: Entries of one PutEvents call (EventBridge quota).
MAX_ENTRIES = 10


class EventBridgeSink:
    """Puts documents on one bus. An empty `endpoint` is AWS's own."""

    name = "eventbridge"

    def __init__(self, *, bus: str, source: str, region: str, endpoint: str) -> None:
        self._bus, self._source, self._region, self._endpoint = bus, source, region, endpoint
        self._client: Any = None

    def deliver(self, documents: Sequence[bytes]) -> int:
        delivered = 0
        while delivered < len(documents):
            batch = documents[delivered : delivered + MAX_ENTRIES]
            try:
                count = self._put([self._entry(document) for document in batch])
            except SinkFault:
                if delivered:
                    return delivered
                raise
            delivered += count
            if count < len(batch):
                return delivered
        return delivered

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _put(self, entries: list[dict[str, Any]]) -> int:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            response = self._bus_client().put_events(Entries=entries)
        except ClientError as fault:
            raise SinkFault(
                f"EventBridge answered {fault.response['Error'].get('Code', 'an error')}"
            ) from None
        except (BotoCoreError, ValueError) as fault:  # ValueError: an endpoint that is no URL
            raise SinkFault(f"EventBridge cannot be reached: {type(fault).__name__}") from None
        for count, one in enumerate(response["Entries"]):
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
        event = json.loads(document)
        return {
            "Time": datetime.fromisoformat(event["time"]),
            "Source": self._source if event["source"] == SOURCE else event["source"],
            "Resources": event["resources"],
            "DetailType": event["detail-type"],
            "Detail": json.dumps(event["detail"], ensure_ascii=False, separators=(",", ":")),
            "EventBusName": self._bus,
        }


def build(settings: Settings) -> EventBridgeSink:
    """Make the sink that the settings describe."""
    events = settings.events
    return EventBridgeSink(
        bus=events.eventbridge_bus,
        source=events.eventbridge_source,
        region=events.eventbridge_region or settings.region,
        endpoint=events.eventbridge_endpoint,
    )


BACK_END = build
