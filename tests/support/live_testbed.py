"""Calls on a testbed: recordings fed into its intake as a carrier would, as fast as it takes them."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import soundfile
from batch_testbed import Testbed
from numpy.typing import NDArray
from waiting import PATIENCE_S, wait_until

from sonant.assembly import service
from sonant.events import outbox
from sonant.sessions.calls import Call, EndReason
from sonant.sessions.manager import StreamManager
from sonant.sessions.risks import FraudIndexes
from sonant.sessions.stream import Stream
from sonant.storage.crypto.vault import open_vault
from sonant.storage.repositories import domains, session_hearings, sessions
from sonant.storage.repositories.session_hearings import Hearing
from sonant.storage.repositories.sessions import Session

FRAME_S = 0.02


def customer(recording: bytes) -> NDArray[np.int16]:
    """The first channel of a recording, at 8 kHz."""
    samples, rate_hz = soundfile.read(io.BytesIO(recording), dtype="int16", always_2d=True)
    assert rate_hz == 8000
    return np.ascontiguousarray(samples[:, 0])


@dataclass
class LiveTestbed:
    """A testbed that takes calls."""

    testbed: Testbed
    intake: StreamManager
    names: int = 0
    told: list[EndReason] = field(default_factory=list)

    @classmethod
    def of(cls, testbed: Testbed) -> LiveTestbed:
        """The testbed's operations tell the intake of changes, as in a service."""
        fraud_indexes = FraudIndexes(testbed.settings.fraud.replay_recordings)
        intake = service.build_intake(testbed.store, fraud_indexes.risks)
        testbed.service = replace(testbed.service, live=intake, fraud_indexes=fraud_indexes)
        return cls(testbed, intake)

    def close(self) -> None:
        self.intake.close()

    def call(self, operation: str, **request: Any) -> dict[str, Any]:
        return self.testbed.call(operation, **request)

    def start(self, domain_id: str, name: str | None = None, **request: Any) -> Session:
        """StartSession; the session as stored."""
        self.names += 1
        name = name or f"call-{self.names}"
        self.call("StartSession", DomainId=domain_id, SessionName=name, **request)
        return self.session(domain_id, name)

    def session(self, domain_id: str, name: str) -> Session:
        with self.testbed.store.database.read() as connection:
            found = sessions.find(connection, domain_id, name, self.testbed.store.clock())
        assert found is not None
        return found

    def open(self, domain_id: str, name: str, **call: Any) -> Stream:
        account = self.testbed.settings.account
        stream = self.intake.open(Call(account_id=account, domain_id=domain_id, session=name, **call))
        stream.on_end(self.told.append)
        return stream

    def until_told(self) -> list[EndReason]:
        """Wait until a carrier has been told of an end; all that were told of one."""
        wait_until("a carrier is told", lambda: self.told, PATIENCE_S)
        return self.told

    def hearings(self, domain_id: str, name: str) -> dict[str, Hearing]:
        session = self.session(domain_id, name)
        with self.testbed.store.database.read() as connection:
            domain = domains.find_by_id(connection, domain_id)
            assert domain is not None
            vault = open_vault(self.testbed.store.keys, domain_id, domain.arn, domain.data_key_wrapped)
            return session_hearings.hearings(connection, session.seal(vault), session)

    def speak(self, stream: Stream, samples: NDArray[np.int16], rate_hz: int = 8000) -> None:
        """Feed at full speed, in frames of 20 ms, and wait until all has been listened to."""
        size = round(FRAME_S * rate_hz)
        for start in range(0, len(samples), size):
            wait_until("there is room", lambda: stream.room_s >= 1.0)
            stream.feed(samples[start : start + size], rate_hz)
        assert stream.wait_drained(PATIENCE_S)

    def hang_up(self, stream: Stream, reason: EndReason = EndReason.CALL_ENDED) -> None:
        stream.end(reason)
        assert stream.wait_drained(PATIENCE_S)

    def take(self, domain_id: str, name: str, samples: NDArray[np.int16], **call: Any) -> Session:
        """A whole call of one recording."""
        stream = self.open(domain_id, name, **call)
        self.speak(stream, samples)
        self.hang_up(stream)
        return self.session(domain_id, name)

    def events(self, domain_id: str, type_: str) -> list[dict[str, Any]]:
        """Details of a domain's events of one type, in order."""
        with self.testbed.store.database.read() as connection:
            documents = [json.loads(kept.document) for kept in outbox.events_after(connection, 0, 10_000)]
        details = [one["detail"] for one in documents if one["detail-type"] == type_]
        return [detail for detail in details if detail["domainId"] == domain_id]

    def until(self, domain_id: str, name: str, **members: Any) -> Session:
        """Wait until a session has these members."""

        def there() -> Session | None:
            session = self.session(domain_id, name)
            return session if all(getattr(session, m) == value for m, value in members.items()) else None

        found: Session = wait_until(f"{name}: {members}", there, PATIENCE_S)
        return found
